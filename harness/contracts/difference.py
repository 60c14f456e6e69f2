"""assay.runner.difference.v1: what differs between two surfaces, as one tree for all presenters."""

from enum import StrEnum

import attrs
from attrs import frozen

from harness.contracts.capability_diff import DiffStatus
from harness.contracts.converter import constant, nullable, omittable

SCHEMA = "assay.runner.difference.v1"


class Kind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class Granularity(StrEnum):
    """What is one capability: a name, the place it is in, or only how many of a kind there are."""

    EXACT = "exact"
    PREFIX = "prefix"
    CLASS = "class"


class Contract(StrEnum):
    """Which surface was compared: v0 names things, v1 also says what was done to them, and by whom."""

    V0 = "v0"
    V1 = "v1"


class FailOn(StrEnum):
    ANY = "any"
    ADDED = "added"
    REMOVED = "removed"
    NONE = "none"


@frozen(kw_only=True)
class Example:
    """One operation of head that shows an added capability (companion/kernel.ndjson).

    match          of companion/attribution.json: exact, window, ambiguous or unattributed
    tool_call_ids  the call it belongs to; the candidates when ambiguous; empty when unattributed
    """

    role: str
    process: str
    operation: str
    outcome: str
    match: str
    tool_call_ids: tuple[str, ...]


@frozen(kw_only=True)
class Difference:
    """A node: a category, a capability in it, or one thing done to that ("write by subject").

    base, head  the value on each side, null where it has none; null in nodes that only group
    """

    key: str
    kind: Kind
    base: str | None = nullable()
    head: str | None = nullable()
    example: Example | None = omittable()
    children: tuple["Difference", ...] = ()


@frozen(kw_only=True)
class DifferenceReport:
    """A comparison: `categories` holds only what differs, names sorted by their UTF-8 bytes.

    base, head  run ids, or the baseline's fixture
    fixture     what head measured, as its runspec says; null when it does not say
    status      as in the capability diff; how far the evidence bears the comparison
    """

    schema: str = constant(SCHEMA)
    base: str
    head: str
    fixture: str | None = nullable()
    contract: Contract
    granularity: Granularity
    status: DiffStatus
    notes: tuple[str, ...]
    categories: tuple[Difference, ...]

    def count(self, kind: Kind) -> int:
        return sum(node.kind is kind for category in self.categories for node in category.children)


def is_finding(node: Difference, fail_on: FailOn) -> bool:
    """Whether `node` counts: a change adds what head has and removes what base had."""
    if fail_on in (FailOn.ANY, FailOn.NONE):
        return fail_on is FailOn.ANY
    if node.kind is Kind.CHANGED and node.children:
        return any(is_finding(child, fail_on) for child in node.children)
    return node.kind in (Kind.CHANGED, Kind.ADDED if fail_on is FailOn.ADDED else Kind.REMOVED)


def findings(report: DifferenceReport, fail_on: FailOn) -> int:
    """How many capabilities differ in a way that counts."""
    return sum(is_finding(node, fail_on) for category in report.categories for node in category.children)


attrs.resolve_types(Difference)  # it contains itself
