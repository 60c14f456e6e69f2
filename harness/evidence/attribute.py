"""Which kernel evidence belongs to which tool call: companion/attribution.json.

A call's window runs from the proxy's decision to its answer, both on the kernel's clock. Evidence
of the tools role inside the window of one call alone is that call's; where windows overlap, a path
that only one of the calls had judged decides; what is left is ambiguous and names its candidates.
Evidence of the subject never belongs to a call.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any

from attrs import evolve, field, frozen

from harness.contracts.bounds import MAX_NODES
from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.companion import AttributedCall, AttributedEvidence, AttributionV1
from harness.contracts.converter import ContractError, unstructure
from harness.contracts.policy_event import DECISION_TYPE
from harness.contracts.rules import sorted_unique
from harness.evidence.classify import Classified
from harness.evidence.model import Role, TooMuchError
from harness.evidence.operations import Operation
from harness.evidence.paths import text
from harness.evidence.policy_v1 import ANSWERED_TYPE
from harness.evidence.temporary import final

EXACT, WINDOW, AMBIGUOUS, UNATTRIBUTED = "exact", "window", "ambiguous", "unattributed"
_MOST_WORK = 5 * MAX_NODES  # candidates that are looked at, however few lists they give


@frozen
class Call:
    """One decision that names its call; nanoseconds of CLOCK_MONOTONIC.

    answered_ns  None while unanswered: the tool may go on to the end of the run.
    connection   an answer can only come on the one that the call was made on
    """

    tool_call_id: str
    tool: str
    decision: str
    request_id: object
    connection: object
    decided_ns: int
    answered_ns: int | None = None
    paths: tuple[str, ...] = field(default=())


def read_calls(lines: Iterable[bytes]) -> tuple[Call, ...]:
    """Calls in the order of their decisions; a line that is none is reported by the policy layer."""
    calls: list[Call] = []
    waiting: dict[bytes, deque[int]] = {}  # of each connection, request and id, allowed calls without answer
    for line in lines:
        document = _event(line)
        data = document.get("data")
        if not isinstance(data, Mapping) or type(data.get("monotonic_ns")) is not int:
            continue
        if document.get("type") == DECISION_TYPE:
            for call in _decision(data):
                if call.decision == "allow":
                    waiting.setdefault(_key(data), deque()).append(len(calls))
                calls.append(call)
        elif document.get("type") == ANSWERED_TYPE:
            first = waiting.get(_key(data))
            if first:
                at = first.popleft()
                calls[at] = evolve(calls[at], answered_ns=data["monotonic_ns"])
    return tuple(calls)


def attribute(run_id: str, classified: Classified, calls: Sequence[Call]) -> AttributionV1:
    """companion/attribution.json: sets of distinct operations, without times and counts.

    TooMuchError when calls that nobody answers leave too many candidates for what was done.
    """
    by_call: list[set[AttributedEvidence]] = [set() for _ in calls]
    ambiguous: set[tuple[AttributedEvidence, int]] = set()
    unattributed: set[AttributedEvidence] = set()
    windows = _Windows(calls)
    for operation in sorted(classified.main, key=lambda operation: operation.first.time_ns):
        match, candidates = _match(operation, windows)
        evidence = _evidence(operation, match)
        if match == UNATTRIBUTED:
            unattributed.add(evidence)
        elif match == AMBIGUOUS:
            ambiguous.add((evidence, windows.listed(candidates)))
        else:
            by_call[next(iter(candidates))].add(evidence)
    if sum(len(windows.lists[number]) for _, number in ambiguous) > MAX_NODES:
        raise TooMuchError("candidates of ambiguous operations", MAX_NODES)
    attributed = (_attributed(call, found) for call, found in zip(calls, by_call, strict=True))
    return AttributionV1(
        run_id=run_id,
        calls=tuple(sorted(attributed, key=_canonical)),
        ambiguous=_sorted(evolve(found, candidates=windows.lists[number]) for found, number in ambiguous),
        unattributed=_sorted(unattributed),
    )


class _Windows:
    """The windows that are open, as time goes on: what an operation costs does not grow with the calls.

    A denied call reached no tool, so it has none. `lists` are candidates by name, each list once.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls
        allowed = (index for index, call in enumerate(calls) if call.decision == "allow")
        self._to_come = sorted(allowed, key=lambda index: calls[index].decided_ns, reverse=True)
        self._ends: list[tuple[int, int]] = []  # a heap of (answered, index)
        self._by_path: dict[str, set[int]] = {}
        self._all: int | None = None  # where the list of all that are open stands
        self._numbers: dict[tuple[str, ...], int] = {}
        self._work = 0
        self.lists: list[tuple[str, ...]] = []
        self.open: set[int] = set()

    def move_to(self, time_ns: int) -> None:
        """Open and close what had to by then; times only grow."""
        while self._to_come and self._calls[self._to_come[-1]].decided_ns <= time_ns:
            index = self._to_come.pop()
            answered = self._calls[index].answered_ns
            self._all = None
            self.open.add(index)
            for path in self._calls[index].paths:
                self._by_path.setdefault(path, set()).add(index)
            if answered is not None:
                heappush(self._ends, (answered, index))
        while self._ends and self._ends[0][0] < time_ns:
            index = heappop(self._ends)[1]
            self._all = None
            self.open.remove(index)
            for path in self._calls[index].paths:
                self._by_path[path].remove(index)

    def judged(self, operation: Operation) -> set[int]:
        """Those that named one of the operation's paths."""
        names = {final(text(path)) for path in (operation.path, operation.path2) if path is not None}
        found = [indices for name in names if (indices := self._by_path.get(name))]
        return found[0] if len(found) == 1 else set().union(*found)

    def listed(self, candidates: set[int]) -> int:
        """The number of their list."""
        whole = candidates is self.open
        if whole and self._all is not None:
            return self._all
        self._work += len(candidates)
        if self._work > _MOST_WORK:
            raise TooMuchError("candidates of ambiguous operations", MAX_NODES)
        names = sorted_unique(self._calls[index].tool_call_id for index in candidates)
        number = self._numbers.setdefault(names, len(self.lists))
        if number == len(self.lists):
            self.lists.append(names)
        if whole:
            self._all = number
        return number


def _match(operation: Operation, windows: _Windows) -> tuple[str, set[int]]:
    if operation.role is not Role.TOOLS:
        return UNATTRIBUTED, set()
    windows.move_to(operation.first.time_ns)
    inside, judged = windows.open, windows.judged(operation)
    if len(judged) == 1:
        return EXACT, judged
    if len(inside) == 1:
        return WINDOW, inside
    return (AMBIGUOUS, judged or inside) if inside else (UNATTRIBUTED, inside)


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


def _sorted(evidence: Iterable[AttributedEvidence]) -> tuple[AttributedEvidence, ...]:
    return tuple(sorted(evidence, key=_canonical))


def _event(line: bytes) -> dict[str, Any]:
    try:
        document = load_json(line, "line")
    except ContractError:
        return {}
    return document if isinstance(document, dict) else {}


def _decision(data: Mapping[str, Any]) -> list[Call]:
    names = [data.get(key) for key in ("tool_call_id", "tool", "decision")]
    tool_call_id, tool, decision = (name if isinstance(name, str) else "" for name in names)
    if not (tool_call_id.strip() and tool.strip() and decision.strip()):
        return []
    paths = data.get("paths")
    judged = [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []
    return [
        Call(
            tool_call_id=tool_call_id,
            tool=tool,
            decision=decision,
            request_id=data.get("request_id"),
            connection=data.get("connection"),
            decided_ns=data["monotonic_ns"],
            paths=sorted_unique(judged),
        )
    ]


def _key(data: Mapping[str, Any]) -> bytes:
    """What a call and its answer have in common; as JSON, because 1 and 1.0 are equal in Python."""
    return to_bytes([data.get(key) for key in ("connection", "request_id", "tool_call_id")])
