"""A difference as SARIF 2.1.0 (OASIS), for code scanning: rule ids and fingerprints stay from run to run."""

import re
from typing import Any
from urllib.parse import quote

from harness import __version__
from harness.contracts.canonical import sha256_of, to_bytes
from harness.contracts.capability_diff import DiffStatus
from harness.contracts.converter import unstructure
from harness.contracts.difference import Difference, DifferenceReport, FailOn, Kind, is_finding
from harness.contracts.pretty import pretty_bytes
from harness.present import words

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
MAX_RESULTS = 5_000  # code scanning shows no more of a run, and refuses one of 25,000
FINGERPRINT = "assayCapability/v1"
_FAMILIES = {
    "paths": "path",
    "filesystem_paths": "path",
    "network": "network",
    "network_endpoints": "network",
    "execs": "program",
    "process_execs": "program",
    "tools": "tool",
    "asked": "request",
    "refused": "refusal",
    "mcp_tools": "tool",
    "policy_decisions": "decision",
    "policy_outcomes": "outcome",
}
_NAMES = {
    "path": "A path",
    "network": "A network address",
    "program": "A program",
    "tool": "A tool",
    "request": "A request for a resource or prompt",
    "refusal": "A refusal of the policy proxy",
    "decision": "A policy decision",
    "outcome": "The policy outcome of a call",
}
_SAID = {
    Kind.ADDED: "is in head alone",
    Kind.REMOVED: "is in base alone",
    Kind.CHANGED: "is not the same on both sides",
}
_CHANGES = ("write", "create", "replace", "delete", "execute")
_KINDS = (Kind.ADDED, Kind.CHANGED, Kind.REMOVED)
_RANKS = ("program", "network", "path", "outcome", "decision", "tool", "request", "refusal")
_OF_THE_POLICY = ("tool", "request", "refusal", "decision", "outcome")
_FOLDER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
RULES = tuple(
    (f"assay-{family}-{kind}", f"{name} {_SAID[kind]}.") for family, name in _NAMES.items() for kind in Kind
)
_RULE_IDS = [rule for rule, _ in RULES]


def as_sarif(report: DifferenceReport, fail_on: FailOn, *, location: str | None = None) -> bytes:
    """Each capability that differs is a result; what `fail_on` does not count is a note.

    location  a path in the repository; default: the fixture's fixture.toml, or its policy.toml for
              what the policy decides
    """
    every = [(category, node) for category in report.categories for node in category.children]
    results = [
        _result(category, node, is_finding(node, fail_on), location or _location(report, category))
        for category, node in _heaviest(every, fail_on)
    ]
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "assay-runner",
                "version": __version__,
                "rules": [{"id": rule, "shortDescription": {"text": text}} for rule, text in RULES],
            }
        },
        "automationDetails": {"id": f"assay-runner/{_word(report.fixture or 'run')}/"},
        "invocations": [_invocation(report, len(every))],
        "results": results,
        "columnKind": "unicodeCodePoints",
        "properties": {
            "base": report.base,
            "head": report.head,
            "contract": report.contract,
            "granularity": report.granularity,
            "status": report.status,
            "differences": len(every),
        },
    }
    return pretty_bytes({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _result(category: Difference, node: Difference, counts: bool, location: str) -> dict[str, Any]:
    family = _FAMILIES[category.key]
    rule = f"assay-{family}-{node.kind}"
    parts = [f"{words.title(category)}: {node.kind} {words.headline(node)}", words.aspects(node)]
    text = ". ".join(filter(None, [*parts, *(f"For example {one}" for one in words.examples(node))]))
    told: list[object] = [family, node.kind, node.key, node.base, node.head]
    told += [[one.key, one.base, one.head] for one in node.children]
    result = {
        "ruleId": rule,
        "ruleIndex": _RULE_IDS.index(rule),
        "level": "warning" if counts else "note",
        "message": {"text": _plain(text)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(location)},
                    "region": {"startLine": 1},
                },
                "logicalLocations": [{"fullyQualifiedName": words.shown(node.key), "kind": "resource"}],
            }
        ],
        "partialFingerprints": {FINGERPRINT: sha256_of(to_bytes(told)).removeprefix("sha256:")},
    }
    if node.example:
        result["properties"] = {"example": unstructure(node.example)}
    return result


def _plain(text: str) -> str:
    """SARIF reads [text](target) in a message as a link, unless the bracket is escaped (§3.11.6)."""
    return text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")


def _heaviest(
    every: list[tuple[Difference, Difference]], fail_on: FailOn
) -> list[tuple[Difference, Difference]]:
    """Of very many the MAX_RESULTS that matter most, in their own order.

    What counts comes before what does not, what is new before what is gone, changing before looking.
    """
    if len(every) <= MAX_RESULTS:
        return every

    def weight(index: int) -> tuple[bool, int, bool, int]:
        category, node = every[index]
        family = _FAMILIES[category.key]
        looks = family == "path" and not any(child.key.startswith(_CHANGES) for child in node.children)
        return not is_finding(node, fail_on), _KINDS.index(node.kind), looks, _RANKS.index(family)

    return [every[index] for index in sorted(sorted(range(len(every)), key=weight)[:MAX_RESULTS])]


def _invocation(report: DifferenceReport, total: int) -> dict[str, Any]:
    found: dict[str, Any] = {"executionSuccessful": report.status is not DiffStatus.FAILED}
    notes = []
    if caveat := words.caveat(report):
        notes.append({"level": "error", "message": {"text": caveat}})
    if total > MAX_RESULTS:
        text = f"{total - MAX_RESULTS} of {total} differences are left out: these {MAX_RESULTS} matter most"
        notes.append({"level": "warning", "message": {"text": text}})
    if notes:
        found["toolExecutionNotifications"] = notes
    return found


def _location(report: DifferenceReport, category: Difference) -> str:
    folder = (report.fixture or "").partition(":")[0]  # "folder:scenario"
    if not _FOLDER.fullmatch(folder):
        return "runner-fixtures"
    file = "policy.toml" if _FAMILIES[category.key] in _OF_THE_POLICY else "fixture.toml"
    return f"runner-fixtures/{folder}/{file}"


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)
