"""The words that all presenters share. Archives come from strangers: what they bring passes `shown`."""

from harness.contracts.capability_diff import DiffStatus
from harness.contracts.difference import Difference, DifferenceReport, Example, Kind

TITLES = {
    "paths": "Paths",
    "network": "Network",
    "execs": "Programs",
    "tools": "Tools",
    "asked": "Resources and prompts",
    "refused": "Refused or ended by the policy proxy",
    "filesystem_paths": "Paths",
    "network_endpoints": "Network endpoints",
    "process_execs": "Programs",
    "mcp_tools": "Tools",
    "policy_decisions": "Policy decisions",
    "policy_outcomes": "Policy outcomes of the same call",
}
SIGNS = {Kind.ADDED: "+", Kind.REMOVED: "-", Kind.CHANGED: "~"}
_CHANGES = ("write", "create", "replace", "delete", "execute")
_SELF_EVIDENT = (None, "done", "called")


def shown(text: str) -> str:
    """`text` with all that steers a terminal or turns writing around as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def title(category: Difference) -> str:
    return TITLES.get(category.key, shown(category.key))


def headline(node: Difference) -> str:
    """What it is, and from what to what where it has two values."""
    if node.base is not None and node.head is not None:
        return f"{shown(node.key)}: {shown(node.base)} → {shown(node.head)}"
    value = node.head if node.base is None else node.base
    return shown(node.key) if value in _SELF_EVIDENT else f"{shown(node.key)} ({shown(value or '')})"


def aspects(node: Difference) -> str:
    """What is done to it, in one line; with signs where only a part of it differs."""
    signs = node.kind is Kind.CHANGED
    return ", ".join(
        f"{SIGNS[one.kind]} {headline(one)}" if signs else headline(one) for one in node.children
    )


def example(one: Example) -> str:
    """An operation that shows it, and whose it is."""
    what = f"{shown(one.operation)} ({shown(one.outcome)}) by {shown(one.process)} in {shown(one.role)}"
    calls = ", ".join(map(shown, one.tool_call_ids))
    if one.match == "unattributed":
        return f"{what}; belongs to no tool call"
    if one.match == "ambiguous":
        return f"{what}; of one of the tool calls {calls}"
    return f"{what}; tool call {calls} ({shown(one.match)})"


def examples(node: Difference) -> list[str]:
    """Those of the node and of what is below it, each once."""
    every = [node.example, *(child.example for child in node.children)]
    return list(dict.fromkeys(example(one) for one in every if one))


def outside(report: DifferenceReport) -> list[Difference]:
    """What head's agent itself changes, runs or reaches in no tool call, and base's did not."""
    return [
        node for category in report.categories for node in category.children if is_outside(category, node)
    ]


def is_outside(category: Difference, node: Difference) -> bool:
    """Is this such a capability? A path counts if more is done to it than looking."""
    shown_by = [one for one in (node.example, *(child.example for child in node.children)) if one]
    if not any(one.role == "subject" and one.match == "unattributed" for one in shown_by):
        return False
    if TITLES.get(category.key) != TITLES["paths"]:
        return True
    new = [child.key for child in node.children if child.kind is not Kind.REMOVED]
    return any(key.startswith(_CHANGES) and key.endswith(" by subject") for key in new)


def summary(report: DifferenceReport) -> str:
    added, removed, changed = (report.count(kind) for kind in Kind)
    total = added + removed + changed
    if not total:
        return "no difference"
    noun = "difference" if total == 1 else "differences"
    return f"{total} {noun}: {added} added, {removed} removed, {changed} changed"


def basis(report: DifferenceReport) -> str:
    """What was compared, and how good the evidence is."""
    return f"surface {report.contract}, granularity {report.granularity}, evidence {report.status}"


def caveat(report: DifferenceReport) -> str | None:
    """What a reader must know before trusting the absence of a difference."""
    if report.status is DiffStatus.CLEAN:
        return None
    if report.status is DiffStatus.FAILED:
        return "The evidence failed: this comparison proves nothing."
    return f"The evidence is {report.status}: what is not listed here may still differ."
