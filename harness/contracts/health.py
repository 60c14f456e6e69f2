"""observation-health.json: what was seen, and what was not (contracts §2.1, §3.7).

We write the first generation's keys; the later optional ones are read and written back unchanged.
"""

from collections.abc import Mapping
from enum import StrEnum

from attrs import frozen

from harness.contracts.converter import Natural, constant, omittable
from harness.contracts.rules import RuleError, RunId

SCHEMA = "assay.runner.observation_health.v0"
LINUX = "linux"
OWN = "own"
THIRD_PARTY = "third_party"
UNSUPPORTED = "unsupported"

CONTRACT_ONLY_NOTE = "contract_only_mode: kernel and cgroup capture not wired in this revision"
KERNEL_NOTE = "s2_kernel_capture"
POLICY_NOTE = "s4_policy_capture"
SDK_NOTE = "s5_sdk_capture"
ACCOUNTING_NOTE = "runner_accounting"


class KernelLayer(StrEnum):
    COMPLETE = "complete"
    PARTIAL = "partial_ringbuf_drops"
    ABSENT = "absent"


class PolicyLayer(StrEnum):
    PRESENT = "present"
    ABSENT = "absent"


class SdkLayer(StrEnum):
    PRESENT = "present"  # reserved, never written
    SELF_REPORTED = "self_reported"
    ABSENT = "absent"


class Correlation(StrEnum):
    """Of health's cgroup_correlation and of the correlation report's status."""

    CLEAN = "clean"
    PARTIAL = "partial"
    FAILED = "failed"


class NetworkCoverage(StrEnum):
    UNKNOWN = "unknown"
    ABSENT = "absent"
    CONNECT_ONLY = "connect_only"
    DATAGRAM = "datagram_peer_observed"
    BOTH = "connect_and_datagram_peer_observed"


class EndpointScope(StrEnum):
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not_applicable"
    DIAGNOSTIC_ONLY = "diagnostic_only"
    PEER_SET = "peer_set"  # reserved


@frozen(kw_only=True)
class ObservationHealth:
    """One run's health; call `validate` before trusting or writing it."""

    schema: str = constant(SCHEMA)
    run_id: RunId
    platform: str
    kernel_layer: KernelLayer
    capture_origin: str | None = omittable()
    ringbuf_drops: Natural
    policy_layer: PolicyLayer
    sdk_layer: SdkLayer
    cgroup_correlation: Correlation
    network_protocol_coverage: NetworkCoverage | None = omittable()
    network_endpoint_claim_scope: EndpointScope | None = omittable()
    redaction: Mapping[str, object] | None = omittable()
    notes: tuple[str, ...]

    @property
    def origin(self) -> str:
        """Where the kernel capture came from; a value we do not know is never our own."""
        if self.capture_origin in (None, OWN):
            return OWN
        return THIRD_PARTY if self.capture_origin == THIRD_PARTY else UNSUPPORTED

    def validate(self) -> None:
        """RuleError for the first broken rule, in the order of contracts §2.1."""
        partial = self.kernel_layer is KernelLayer.PARTIAL
        absent = self.kernel_layer is KernelLayer.ABSENT
        rules = (
            (self.schema != SCHEMA, "InvalidSchema", "/schema", f"must be {SCHEMA}"),
            (not self.run_id, "EmptyRunId", "/run_id", "must not be empty"),
            (
                self.ringbuf_drops > 0 and not partial,
                "RingbufDropsRequirePartialKernelLayer",
                "/kernel_layer",
                f"{self.ringbuf_drops} drops, but the layer is {self.kernel_layer}",
            ),
            (
                self.platform != LINUX and not absent,
                "NonLinuxRequiresAbsentKernelLayer",
                "/kernel_layer",
                f"platform {self.platform} has no kernel layer, but it is {self.kernel_layer}",
            ),
            (
                self.cgroup_correlation is Correlation.FAILED,
                "FailedCgroupCorrelation",
                "/cgroup_correlation",
                "a failed correlation is no evidence",
            ),
        )
        for broken, identity, pointer, message in rules:
            if broken:
                raise RuleError(identity, pointer, message)

    def note(self, code: str) -> str | None:
        """The text after `code: ` of the first note of that code."""
        for note in self.notes:
            head, colon, rest = note.partition(": ")
            if colon and head == code:
                return rest
        return None


def kernel_note(monitor_events: int, ringbuf_drops: int) -> str:
    """`monitor_events` counts the retained events: the lines of kernel.ndjson."""
    return f"{KERNEL_NOTE}: monitor_events={monitor_events} ringbuf_drops={ringbuf_drops}"


def kernel_downgraded_note(monitor_events: int, correlation: Correlation) -> str:
    state = correlation.value.capitalize()
    return (
        f"{KERNEL_NOTE}: monitor_events={monitor_events} cgroup_correlation={state}"
        " kernel_layer downgraded to absent"
    )


def policy_note(decision_events: int) -> str:
    return f"{POLICY_NOTE}: decision_events={decision_events}"


def sdk_note(sdk_events: int, sdk_tool_calls: int) -> str:
    """`sdk_tool_calls` counts distinct tool_call_ids."""
    return f"{SDK_NOTE}: sdk_events={sdk_events} sdk_tool_calls={sdk_tool_calls}"


def unclean_note(codes: tuple[str, ...]) -> str:
    """Ours: why the run is not clean."""
    return f"{ACCOUNTING_NOTE}: unclean={','.join(sorted(set(codes)))}"


def losses_note(other_losses: int) -> str:
    """Ours: records that were lost other than by a full ring."""
    return f"{ACCOUNTING_NOTE}: other_losses={other_losses}"
