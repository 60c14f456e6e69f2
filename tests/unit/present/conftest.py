"""Reports by hand, with names that a stranger's archive could bring; and archives of real runs."""

from harness.contracts.capability_diff import DiffStatus
from harness.contracts.difference import Contract, Difference, DifferenceReport, Example, Granularity, Kind
from tests.unit.compare.conftest import DIFFS, GEMINI, HIDDEN, S5, Extract, extract

__all__ = ["DIFFS", "GEMINI", "HIDDEN", "S5", "Extract", "extract"]

# A tag, a terminal escape, a right-to-left override, Markdown, a SARIF link, XML's forbidden NUL.
HOSTILE = "/w/<img src=x onerror=\"alert('1')\">&\x1b[31m\u202e```[x](y)|\x00\n# up]]>"


def node(
    key: str,
    kind: Kind,
    *,
    base: str | None = None,
    head: str | None = None,
    example: Example | None = None,
    children: tuple[Difference, ...] = (),
) -> Difference:
    return Difference(key=key, kind=kind, base=base, head=head, example=example, children=children)


def report(
    *nodes: Difference,
    category: str = "paths",
    status: DiffStatus = DiffStatus.CLEAN,
    notes: tuple[str, ...] = (),
    fixture: str | None = "my-agent",
) -> DifferenceReport:
    categories = (node(category, Kind.CHANGED, children=nodes),) if nodes else ()
    return DifferenceReport(
        base="run_1",
        head="run_2",
        fixture=fixture,
        contract=Contract.V1,
        granularity=Granularity.EXACT,
        status=status,
        notes=notes,
        categories=categories,
    )


WRITE = Example(
    role="tools",
    process="tools.0.0",
    operation="open",
    outcome="ok",
    match="exact",
    tool_call_ids=("tc_1",),
)
ADDED = node("/w/new", Kind.ADDED, example=WRITE, children=(node("write by tools", Kind.ADDED, head="done"),))
REMOVED = node("/w/old", Kind.REMOVED, children=(node("read by tools", Kind.REMOVED, base="done"),))
TURNED = node(
    "/w/turned",
    Kind.CHANGED,
    children=(
        node("read by tools", Kind.REMOVED, base="done"),
        node("write by tools", Kind.ADDED, head="attempted", example=WRITE),
    ),
)
NASTY = node(HOSTILE, Kind.ADDED, example=WRITE, children=(node(HOSTILE, Kind.ADDED, head=HOSTILE),))
EVERY = report(ADDED, NASTY, REMOVED, TURNED, notes=(HOSTILE,), status=DiffStatus.PARTIAL_HEALTH)
