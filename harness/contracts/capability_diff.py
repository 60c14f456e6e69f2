"""The v0 capability diff: two capability surfaces as sets (contracts §6.1)."""

from enum import StrEnum
from typing import Annotated

from attrs import frozen

from harness.contracts.converter import Rule, constant, nullable
from harness.contracts.rules import OrderedSet, RunId

SCHEMA = "assay.runner.capability_diff.v0"
IDEMPOTENT_NOTE = "capability_diff_idempotent: base and head evidence sets are identical"
FAILED_NOTE = "capability_diff_failed"  # ours: a note of this code gives one reason

Nothing = Annotated[tuple[str, ...], Rule("must be empty", lambda value: not value)]


class DiffStatus(StrEnum):
    """The worst that holds, in this order: failed, partial:health, partial:correlation, clean."""

    CLEAN = "clean"
    PARTIAL_HEALTH = "partial:health"
    PARTIAL_CORRELATION = "partial:correlation"
    PARTIAL_UNBOUND = "partial:unbound"  # reserved, never written
    FAILED = "failed"


@frozen(kw_only=True)
class Preconditions:
    """The two last ones are about tool_call_ids: both sides need at least one binding."""

    base_health_clean: bool
    head_health_clean: bool
    base_correlation_clean: bool
    head_correlation_clean: bool
    stable_tool_call_ids_required: bool = constant(True)
    stable_tool_call_ids_present: bool


@frozen(kw_only=True)
class Scope:
    projection: str = constant("surface_set")
    uses_raw_telemetry: bool = constant(False)
    uses_proof_pack: bool = constant(False)
    per_binding_capability_values: bool = constant(False)


@frozen(kw_only=True)
class SetDiff:
    added: OrderedSet
    removed: OrderedSet
    unchanged: OrderedSet

    @property
    def same(self) -> bool:
        return not (self.added or self.removed)


@frozen(kw_only=True)
class SurfaceDiff:
    filesystem_paths: SetDiff
    network_endpoints: SetDiff
    process_execs: SetDiff
    mcp_tools: SetDiff
    policy_decisions: SetDiff


@frozen(kw_only=True)
class OutcomeChange:
    """A call id of both sides whose policy decision differs."""

    tool_call_id: str
    base: str | None = nullable()
    head: str | None = nullable()


@frozen(kw_only=True)
class PolicyOutcomes:
    """`changed` sorted by the UTF-8 bytes of the call id."""

    changed: tuple[OutcomeChange, ...]


@frozen(kw_only=True)
class Unbound:
    """Reserved: always empty in v0."""

    filesystem_paths: Nothing
    network_endpoints: Nothing
    process_execs: Nothing
    mcp_tools: Nothing
    policy_decisions: Nothing


UNBOUND = Unbound(
    filesystem_paths=(), network_endpoints=(), process_execs=(), mcp_tools=(), policy_decisions=()
)


@frozen(kw_only=True)
class CapabilityDiff:
    """What head can reach that base could not, and the other way round.

    ambiguities  those of the two correlation reports, as "base:…" and "head:…"
    notes        the idempotence note, or one note per reason for the status failed
    """

    schema: str = constant(SCHEMA)
    base_run_id: RunId
    head_run_id: RunId
    status: DiffStatus
    preconditions: Preconditions
    scope: Scope
    surface: SurfaceDiff
    binding_ids: SetDiff
    policy_outcomes: PolicyOutcomes
    unbound: Unbound
    ambiguities: tuple[str, ...]
    notes: tuple[str, ...]
