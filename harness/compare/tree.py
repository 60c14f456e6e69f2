"""One tree of differences for every presenter: category, capability, what is done to it."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from attrs import frozen

from harness.bundle.reader import Archive
from harness.bundle.verify import check
from harness.compare import capabilities as shape
from harness.compare.capability import capability_diff
from harness.compare.cross_runtime import RuntimeSide, cross_runtime_diff
from harness.compare.examples import Examples
from harness.compare.members import document, lines
from harness.compare.side import Side, side_of
from harness.contracts.baseline import Capabilities
from harness.contracts.capability_diff import IDEMPOTENT_NOTE, CapabilityDiff, DiffStatus
from harness.contracts.companion import (
    ACCOUNTING,
    POLICY,
    RUNSPEC,
    SURFACE,
    AccountingV1,
    CapabilitySurfaceV1,
    PolicyEventV1,
    RunSpecDocV1,
)
from harness.contracts.cross_runtime_diff import CrossRuntimeDiff
from harness.contracts.difference import Contract, Difference, DifferenceReport, Example, Granularity, Kind
from harness.errors import InputError

POLICY_OUTCOMES = "policy_outcomes"
Show = Callable[[str, str, str], Example | None]


@frozen(kw_only=True)
class Run:
    """An archive that verifies, with what a comparison reads of it; v1 is None without a companion.

    told  all that the policy proxy said; None for an archive of before that was kept
    """

    archive: Archive
    side: Side
    v1: CapabilitySurfaceV1 | None
    fixture: str | None
    told: tuple[PolicyEventV1, ...] | None = None

    @property
    def accounted_clean(self) -> bool:
        """Nothing was lost and no declared witness was silent, by the run's own books where it has them."""
        if ACCOUNTING in self.archive.members:
            return document(self.archive, ACCOUNTING, AccountingV1).clean
        return self.side.health_clean and self.side.correlation_clean


def load_run(path: Path) -> Run:
    """An archive or the folder of an extracted one; InputError, or VerificationError if it does not hold."""
    archive = check(path)
    companion = archive.members
    v1 = document(archive, SURFACE, CapabilitySurfaceV1) if SURFACE in companion else None
    fixture = document(archive, RUNSPEC, RunSpecDocV1).fixture if RUNSPEC in companion else None
    told = lines(archive, POLICY, PolicyEventV1) if POLICY in companion else None
    return Run(archive=archive, side=side_of(archive), v1=v1, told=told, fixture=fixture or None)


def choose_contract(base: Run, head: Run, wanted: Contract | None) -> Contract:
    """v1 where both sides have it, unless asked otherwise; InputError for a v1 that is not there."""
    missing = [run.archive.place for run in (base, head) if run.v1 is None]
    if wanted is Contract.V1 and missing:
        raise InputError("has no surface v1", place=missing[0], hint="compare on v0: leave --contract out")
    return wanted or (Contract.V0 if missing else Contract.V1)


def surface_difference(
    base: Run,
    head: Run,
    granularity: Granularity = Granularity.EXACT,
    contract: Contract | None = None,
) -> DifferenceReport:
    """What head's run could do that base's could not, and the other way round.

    Call ids are names of calls, not capabilities: one that comes or goes is a note.
    """
    diff = capability_diff(base.side, head.side)
    chosen = choose_contract(base, head, contract)
    rows = _rows(base, head, chosen, (shape.same, shape.same))
    tree = compare(*rows, granularity, Examples(head.archive, granularity).of)
    if diff.policy_outcomes.changed:
        tree = (*tree, _outcomes(diff))
    return DifferenceReport(
        base=base.side.run_id,
        head=head.side.run_id,
        fixture=head.fixture,
        contract=chosen,
        granularity=granularity,
        status=diff.status,
        notes=(
            *diff.ambiguities,
            *(note for note in diff.notes if note != IDEMPOTENT_NOTE),  # of v0; v1 may see more
            *_call_notes(diff),
            *_contract_note(chosen, contract),
            *_proxy_note(base, head, chosen),
        ),
        categories=tree,
    )


def runtime_difference(
    base: tuple[Run, RuntimeSide],
    head: tuple[Run, RuntimeSide],
    granularity: Granularity = Granularity.EXACT,
    contract: Contract | None = None,
) -> tuple[DifferenceReport, CrossRuntimeDiff]:
    """As `surface_difference`, across runtimes: work folders stand as <work>/, call ids are not compared."""
    diff = cross_runtime_diff(base[1], head[1])
    chosen = choose_contract(base[0], head[0], contract)
    rows = _rows(base[0], head[0], chosen, (base[1].path, head[1].path))
    show = Examples(head[0].archive, granularity, head[1].path).of
    report = DifferenceReport(
        base=f"{diff.base_run_id} ({diff.base_runtime})",
        head=f"{diff.head_run_id} ({diff.head_runtime})",
        fixture=head[0].fixture,
        contract=chosen,
        granularity=granularity,
        status=diff.status,
        notes=(*diff.ambiguities, *diff.notes, *_contract_note(chosen, contract)),
        categories=compare(*rows, granularity, show),
    )
    return report, diff


def capabilities_of(run: Run, contract: Contract, rename: shape.Rename = shape.same) -> Capabilities:
    """The run's surface of that contract, in one shape."""
    if contract is Contract.V0:
        return shape.of_v0(run.side.surface, rename)
    assert run.v1 is not None, "choose_contract looked"
    surface = shape.of_v1(run.v1, rename)
    return surface if run.told is None else {**surface, **shape.of_proxy(run.told)}


def compare(
    base: Capabilities, head: Capabilities, granularity: Granularity, show: Show
) -> tuple[Difference, ...]:
    """One node for each category that differs; `show` finds an example of what was added."""
    names = [name for name in shape.CATEGORIES if name in base or name in head]
    if granularity is Granularity.CLASS:
        before, after = shape.counts(base), shape.counts(head)
        return _categories(
            {name: tuple(_counts(before.get(name, {}), after.get(name, {}))) for name in names}
        )
    if granularity is Granularity.PREFIX:
        base, head = shape.by_place(base), shape.by_place(head)
    return _categories(
        {name: tuple(_names(name, base.get(name, {}), head.get(name, {}), show)) for name in names}
    )


def _rows(
    base: Run, head: Run, contract: Contract, renames: tuple[shape.Rename, shape.Rename]
) -> tuple[Capabilities, Capabilities]:
    before, after = capabilities_of(base, contract, renames[0]), capabilities_of(head, contract, renames[1])
    return common(before, after), common(after, before)


def common(capabilities: Capabilities, other: Capabilities) -> Capabilities:
    """Without what the other side never kept of its proxy."""
    dropped = set(shape.CATEGORIES_PROXY) - set(other)
    return {name: names for name, names in capabilities.items() if name not in dropped}


def _categories(found: Mapping[str, tuple[Difference, ...]]) -> tuple[Difference, ...]:
    return tuple(
        Difference(key=name, kind=_kind_of(children), children=children)
        for name, children in found.items()
        if children
    )


def _kind_of(children: tuple[Difference, ...]) -> Kind:
    kinds = {child.kind for child in children}
    return kinds.pop() if len(kinds) == 1 else Kind.CHANGED


def _names(
    category: str, base: Mapping[str, Mapping[str, str]], head: Mapping[str, Mapping[str, str]], show: Show
) -> Iterator[Difference]:
    differing = [name for name, after in head.items() if base.get(name) != after]
    differing += [name for name in base if name not in head]
    for name in sorted(differing):
        before, after = base.get(name), head.get(name)
        if before is None or after is None:
            added = before is None
            yield Difference(
                key=name,
                kind=Kind.ADDED if added else Kind.REMOVED,
                example=show(category, name, "") if added else None,
                children=tuple(_aspects(before or {}, after or {})) if before or after else (),
            )
        else:
            children = tuple(_aspects(before, after, partial(show, category, name)))
            yield Difference(key=name, kind=Kind.CHANGED, children=children)


def _aspects(
    base: Mapping[str, str], head: Mapping[str, str], show: Callable[[str], Example | None] | None = None
) -> Iterator[Difference]:
    for aspect in sorted(base.keys() | head.keys()):
        before, after = base.get(aspect), head.get(aspect)
        if before != after:
            yield Difference(
                key=aspect,
                kind=_kind(before, after),
                base=before,
                head=after,
                example=show(aspect) if show and after is not None else None,
            )


def _kind(before: object | None, after: object | None) -> Kind:
    if before is None:
        return Kind.ADDED
    return Kind.REMOVED if after is None else Kind.CHANGED


def _counts(base: Mapping[str, int], head: Mapping[str, int]) -> Iterator[Difference]:
    """More of a kind is added, fewer is removed; which names they are is not looked at."""
    for name in sorted(base.keys() | head.keys()):
        before, after = base.get(name, 0), head.get(name, 0)
        if before != after:
            kind = Kind.ADDED if after > before else Kind.REMOVED
            yield Difference(key=name, kind=kind, base=str(before), head=str(after))


def _outcomes(diff: CapabilityDiff) -> Difference:
    children = tuple(
        Difference(key=change.tool_call_id, kind=Kind.CHANGED, base=change.base, head=change.head)
        for change in diff.policy_outcomes.changed
    )
    return Difference(key=POLICY_OUTCOMES, kind=Kind.CHANGED, children=children)


def _call_notes(diff: CapabilityDiff) -> Iterator[str]:
    if not diff.binding_ids.same:
        yield (
            f"call_ids_differ: {len(diff.binding_ids.added)} in head alone, "
            f"{len(diff.binding_ids.removed)} in base alone (a call id is a name, not a capability)"
        )


def _contract_note(chosen: Contract, wanted: Contract | None) -> Iterator[str]:
    if chosen is Contract.V0 and wanted is None:
        yield "compared_on_v0: a side has no surface v1, so reads and writes are not told apart"


def _proxy_note(base: Run, head: Run, chosen: Contract) -> Iterator[str]:
    if chosen is Contract.V1 and (base.told is None) != (head.told is None):
        yield "refusals_not_compared: a side is of before the proxy's refusals were kept"


def status_of_run(run: Run) -> DiffStatus:
    """How far one run's evidence bears a comparison with something that was accepted before."""
    if run.side.failures:
        return DiffStatus.FAILED
    if run.accounted_clean:
        return DiffStatus.CLEAN
    return DiffStatus.PARTIAL_HEALTH
