"""Which kernel evidence belongs to which tool call: companion/attribution.json.

A call's window runs from the proxy's decision to its answer, both on the kernel's clock. Evidence
of the tools role inside the window of one call alone is that call's; where windows overlap, a path
that only one of the calls had judged decides; what is left is ambiguous and names its candidates.
Evidence of the subject never belongs to a call.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.companion import AttributedCall, AttributedEvidence, AttributionV1
from harness.contracts.converter import ContractError, unstructure
from harness.contracts.policy_event import DECISION_TYPE
from harness.contracts.rules import sorted_unique
from harness.evidence.classify import Classified
from harness.evidence.model import Role
from harness.evidence.operations import Operation
from harness.evidence.paths import text

ANSWERED_TYPE = "assay.tool.answered"
EXACT, WINDOW, AMBIGUOUS, UNATTRIBUTED = "exact", "window", "ambiguous", "unattributed"


@frozen
class Call:
    """One decision that names its call; nanoseconds of CLOCK_MONOTONIC.

    answered_ns  None while unanswered: the tool may go on to the end of the run.
    """

    tool_call_id: str
    tool: str
    decision: str
    request_id: object
    decided_ns: int
    answered_ns: int | None = None
    paths: tuple[str, ...] = field(default=())

    def contains(self, operation: Operation) -> bool:
        """A denied call reached no tool, so nothing can be in its window."""
        time_ns = operation.first.time_ns
        ended = self.answered_ns is not None and time_ns > self.answered_ns
        return self.decision == "allow" and time_ns >= self.decided_ns and not ended

    def judged(self, operation: Operation) -> bool:
        names = {text(path) for path in (operation.path, operation.path2) if path is not None}
        return not names.isdisjoint(self.paths)


def read_calls(lines: Iterable[bytes]) -> tuple[Call, ...]:
    """Calls in the order of their decisions; a line that is none is reported by the policy layer."""
    calls: list[Call] = []
    for line in lines:
        document = _event(line)
        data = document.get("data")
        if not isinstance(data, Mapping) or type(data.get("monotonic_ns")) is not int:
            continue
        if document.get("type") == DECISION_TYPE:
            calls += _decision(data)
        elif document.get("type") == ANSWERED_TYPE:
            _answer(calls, data)
    return tuple(calls)


def attribute(run_id: str, classified: Classified, calls: Sequence[Call]) -> AttributionV1:
    """companion/attribution.json: sets of distinct operations, without times and counts."""
    by_call: list[set[AttributedEvidence]] = [set() for _ in calls]
    ambiguous: set[AttributedEvidence] = set()
    unattributed: set[AttributedEvidence] = set()
    for operation in classified.main:
        match, candidates = _match(operation, calls)
        evidence = _evidence(operation, match)
        if match == UNATTRIBUTED:
            unattributed.add(evidence)
        elif match == AMBIGUOUS:
            names = sorted_unique(calls[index].tool_call_id for index in candidates)
            ambiguous.add(evolve(evidence, candidates=names))
        else:
            by_call[candidates[0]].add(evidence)
    attributed = (_attributed(call, found) for call, found in zip(calls, by_call, strict=True))
    return AttributionV1(
        run_id=run_id,
        calls=tuple(sorted(attributed, key=_canonical)),
        ambiguous=_sorted(ambiguous),
        unattributed=_sorted(unattributed),
    )


def _match(operation: Operation, calls: Sequence[Call]) -> tuple[str, list[int]]:
    if operation.role is not Role.TOOLS:
        return UNATTRIBUTED, []
    inside = [index for index, call in enumerate(calls) if call.contains(operation)]
    judged = [index for index in inside if calls[index].judged(operation)]
    if len(judged) == 1:
        return EXACT, judged
    if len(inside) == 1:
        return WINDOW, inside
    return (AMBIGUOUS, judged or inside) if inside else (UNATTRIBUTED, [])


def _attributed(call: Call, found: set[AttributedEvidence]) -> AttributedCall:
    return AttributedCall(
        tool_call_id=call.tool_call_id,
        tool=call.tool,
        decision=call.decision,
        answered=call.answered_ns is not None,
        paths=call.paths,
        evidence=_sorted(found),
    )


def _evidence(operation: Operation, match: str) -> AttributedEvidence:
    return AttributedEvidence(
        role=operation.role.value,
        process=operation.process,
        operation=operation.name,
        outcome=operation.outcome,
        path=None if operation.path is None else text(operation.path),
        path2=None if operation.path2 is None else text(operation.path2),
        address=None if operation.address is None else operation.address.text,
        match=match,
    )


def _canonical(model: AttributedEvidence | AttributedCall) -> bytes:
    return to_bytes(unstructure(model))


def _sorted(evidence: set[AttributedEvidence]) -> tuple[AttributedEvidence, ...]:
    return tuple(sorted(evidence, key=_canonical))


def _event(line: bytes) -> dict[str, Any]:
    try:
        document = load_json(line, "line")
    except ContractError:
        return {}
    return document if isinstance(document, dict) else {}


def _decision(data: Mapping[str, Any]) -> list[Call]:
    names = [data.get(key) for key in ("tool_call_id", "tool", "decision")]
    tool_call_id, tool, decision = (name.strip() if isinstance(name, str) else "" for name in names)
    if not (tool_call_id and tool and decision):
        return []
    paths = data.get("paths")
    judged = [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []
    return [
        Call(
            tool_call_id=tool_call_id,
            tool=tool,
            decision=decision,
            request_id=data.get("request_id"),
            decided_ns=data["monotonic_ns"],
            paths=sorted_unique(judged),
        )
    ]


def _answer(calls: list[Call], data: Mapping[str, Any]) -> None:
    """Close the window of the first such call that is still open."""
    for index, call in enumerate(calls):
        same = (call.tool_call_id, call.request_id) == (data.get("tool_call_id"), data.get("request_id"))
        if same and call.answered_ns is None and call.decision == "allow":
            calls[index] = evolve(call, answered_ns=data["monotonic_ns"])
            return
