"""The v0 capability diff: what head's run could reach that base's could not (contracts §6.1).

It compares surfaces as sets and judges nothing: no severity, no cause, nothing about safety.
"""

from collections.abc import Callable, Sequence

from harness.compare.side import Side
from harness.contracts.capability_diff import (
    FAILED_NOTE,
    IDEMPOTENT_NOTE,
    UNBOUND,
    CapabilityDiff,
    DiffStatus,
    OutcomeChange,
    PolicyOutcomes,
    Preconditions,
    Scope,
    SetDiff,
    SurfaceDiff,
)
from harness.contracts.converter import unstructure
from harness.contracts.pretty import pretty_bytes
from harness.contracts.rules import sorted_unique
from harness.contracts.surface import DIMENSIONS

INCONSISTENT = "policy_decisions_changed_without_a_binding_or_outcome_change"


def capability_diff(base: Side, head: Side) -> CapabilityDiff:
    """Total but for tool_call_ids that are empty or bound twice: VerificationError.

    Evidence that failed, or contradicts itself between the sides, gives the status `failed` with a
    note for each reason; the sets are then those that the documents hold, and prove nothing.
    """
    before, after = base.outcomes(), head.outcomes()
    surface = surface_diff(base, head)
    bindings = set_diff(sorted_unique(before), sorted_unique(after))
    changed = tuple(
        OutcomeChange(tool_call_id=name, base=before[name], head=after[name])
        for name in bindings.unchanged
        if before[name] != after[name]
    )
    failures = failures_of(base, head)
    if not surface.policy_decisions.same and bindings.same and not changed:
        failures.append(INCONSISTENT)
    status = status_of(base, head, failures)
    notes = [f"{FAILED_NOTE}: {reason}" for reason in failures]
    if status is DiffStatus.CLEAN and same_surface(surface) and bindings.same and not changed:
        notes.append(IDEMPOTENT_NOTE)
    return CapabilityDiff(
        base_run_id=base.run_id,
        head_run_id=head.run_id,
        status=status,
        preconditions=Preconditions(
            base_health_clean=base.health_clean,
            head_health_clean=head.health_clean,
            base_correlation_clean=base.correlation_clean,
            head_correlation_clean=head.correlation_clean,
            stable_tool_call_ids_present=bool(before and after),
        ),
        scope=Scope(),
        surface=surface,
        binding_ids=bindings,
        policy_outcomes=PolicyOutcomes(changed=changed),
        unbound=UNBOUND,
        ambiguities=ambiguities_of(base, head),
        notes=tuple(notes),
    )


def to_json(diff: object) -> bytes:
    """The document as it is printed and kept: indent 2, one newline at the end."""
    return pretty_bytes(unstructure(diff))


def set_diff(base: Sequence[str], head: Sequence[str]) -> SetDiff:
    """Both sorted, each value once; so are the results. A merge: sets of a million miss the cache."""
    added: list[str] = []
    removed: list[str] = []
    unchanged: list[str] = []
    i = j = 0
    while i < len(base) and j < len(head):
        before, after = base[i], head[j]
        if before == after:
            unchanged.append(after)
            i += 1
            j += 1
        elif before < after:
            removed.append(before)
            i += 1
        else:
            added.append(after)
            j += 1
    removed += base[i:]
    added += head[j:]
    return SetDiff(added=tuple(added), removed=tuple(removed), unchanged=tuple(unchanged))


def surface_diff(
    base: Side,
    head: Side,
    base_path: Callable[[str], str] | None = None,
    head_path: Callable[[str], str] | None = None,
) -> SurfaceDiff:
    """The five categories; filesystem paths rewritten by the side's function where there is one."""

    def values(side: Side, name: str, path: Callable[[str], str] | None) -> Sequence[str]:
        raw: Sequence[str] = getattr(side.surface, name)
        return sorted_unique(map(path, raw)) if path and name == "filesystem_paths" else raw

    return SurfaceDiff(
        **{
            name: set_diff(values(base, name, base_path), values(head, name, head_path))
            for name in DIMENSIONS
        }
    )


def same_surface(surface: SurfaceDiff) -> bool:
    return all(getattr(surface, name).same for name in DIMENSIONS)


def failures_of(base: Side, head: Side) -> list[str]:
    """Of both sides, as "base …" and "head …"."""
    return [
        f"{label} {reason}" for label, side in (("base", base), ("head", head)) for reason in side.failures
    ]


def ambiguities_of(base: Side, head: Side) -> tuple[str, ...]:
    """Those of both correlation reports, in their order."""
    sides = (("base", base), ("head", head))
    return tuple(f"{label}:{text}" for label, side in sides for text in side.correlation.ambiguities)


def status_of(base: Side, head: Side, failures: Sequence[str]) -> DiffStatus:
    """The worst that holds: failed, then health, then correlation."""
    if failures:
        return DiffStatus.FAILED
    if not (base.health_clean and head.health_clean):
        return DiffStatus.PARTIAL_HEALTH
    if not (base.correlation_clean and head.correlation_clean):
        return DiffStatus.PARTIAL_CORRELATION
    return DiffStatus.CLEAN
