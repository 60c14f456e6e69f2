"""From what arrived on the recorder channels to the policy and SDK layers (contracts §5.3).

A bad line never loses the run: what is acceptable is kept, everything else becomes a problem
with the contract's error identity, so that the archive can be written and say so.
"""

from collections.abc import Iterable
from typing import Any

from attrs import frozen

from harness.contracts import policy_event, sdk_event
from harness.contracts.canonical import load_json
from harness.contracts.companion_policy import UNTOLD_PROBLEM, PolicyEventV1
from harness.contracts.converter import ContractError
from harness.contracts.policy_event import PolicyEvent
from harness.contracts.rules import is_run_id, sorted_unique
from harness.contracts.sdk_event import SdkEvent, SdkEventType
from harness.evidence.policy_v1 import OTHER_POLICY_TYPES, in_order, is_untold, policy_event_v1

_QUOTED = 200  # characters of a stranger's line in a problem
SOURCE_PREFIX = "assay://runner-spike/"  # followed by the run id


@frozen
class LayerProblem:
    """`line` counts from 1 as the lines arrived; 0 is the channel as a whole."""

    identity: str
    line: int
    detail: str = ""


@frozen
class PolicyLayer:
    """`idless_calls`: valid decisions about calls without a tool_call_id, which v0 cannot hold.

    told  all that the proxy said, for the companion
    """

    events: tuple[PolicyEvent, ...] = ()
    problems: tuple[LayerProblem, ...] = ()
    idless_calls: int = 0
    told: tuple[PolicyEventV1, ...] = ()


@frozen
class SdkLayer:
    """Self-report; `seq` is contiguous over the accepted events."""

    events: tuple[SdkEvent, ...] = ()
    problems: tuple[LayerProblem, ...] = ()

    @property
    def tool_call_ids(self) -> tuple[str, ...]:
        return tool_call_ids(self.events)


class _RefusedError(Exception):
    def __init__(self, identity: str, detail: str = "") -> None:
        super().__init__(identity)
        self.identity = identity
        self.detail = detail if len(detail) <= _QUOTED else f"{detail[:_QUOTED]}…"


def tool_call_ids(events: Iterable[SdkEvent]) -> tuple[str, ...]:
    """The distinct call ids, sorted."""
    return sorted_unique(event.tool_call_id for event in events if event.tool_call_id is not None)


def policy_layer(lines: Iterable[bytes], run_id: str, *, expected: bool = False) -> PolicyLayer:
    """The decisions among CloudEvents `lines`; never raises.

    `expected`: a run without any decision is then the problem EmptyDecisionLog.
    """
    problems = _run_id_problems(run_id)
    if problems:
        return PolicyLayer(problems=tuple(problems))
    events: list[PolicyEvent] = []
    told: list[PolicyEventV1] = []
    idless = decisions = 0
    for number, line in _numbered(lines):
        try:
            document = _object(line)
            is_decision = _is_decision(document)
            decision = _decision(document, run_id, len(events)) if is_decision else None
        except _RefusedError as refused:
            problems.append(LayerProblem(refused.identity, number, refused.detail))
            continue
        if news := policy_event_v1(document, run_id):
            told.append(news)
            if is_untold(news):
                problems.append(LayerProblem(UNTOLD_PROBLEM, number, "more than are told"))
        if decision is not None:
            events.append(decision)
        decisions += is_decision
        idless += is_decision and decision is None
    if expected and not decisions:
        problems.append(LayerProblem("EmptyDecisionLog", 0))
    return PolicyLayer(tuple(events), tuple(problems), idless, in_order(told))


def sdk_layer(lines: Iterable[bytes], run_id: str, *, expected: bool = False) -> SdkLayer:
    """The SDK's own events among `lines`; never raises. `expected` as in `policy_layer`.

    A producer's seq that jumps is a problem (something was lost or repeated); the event stays.
    """
    problems = _run_id_problems(run_id)
    if problems:
        return SdkLayer(problems=tuple(problems))
    events: list[SdkEvent] = []
    wanted = 0
    for number, line in _numbered(lines):
        try:
            document = _object(line)
            _sdk_header(document, run_id)
            seq = document["seq"]
            if seq != wanted:
                problems.append(LayerProblem("SeqMismatch", number, f"is {seq}, expected {wanted}"))
            wanted = seq
            events.append(_sdk_event(document, run_id, len(events)))
        except _RefusedError as refused:
            problems.append(LayerProblem(refused.identity, number, refused.detail))
        wanted += 1
    if expected and not events:
        problems.append(LayerProblem("EmptySdkLog", 0))
    return SdkLayer(tuple(events), tuple(problems))


def _run_id_problems(run_id: str) -> list[LayerProblem]:
    if not run_id:
        return [LayerProblem("EmptyRunId", 0)]
    return [] if is_run_id(run_id) else [LayerProblem("UnsafeRunId", 0, repr(run_id))]


def _numbered(lines: Iterable[bytes]) -> Iterable[tuple[int, bytes]]:
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if stripped:
            yield number, stripped


def _object(line: bytes) -> dict[str, Any]:
    try:
        document = load_json(line, "line")
    except ContractError as error:
        raise _RefusedError("InvalidJson", error.message) from None
    if not isinstance(document, dict):
        raise _RefusedError("InvalidJson", "not an object")
    return document


def _text(document: dict[str, Any], key: str, name: str) -> str:
    """Text that is not blank, as it was sent; anything else counts as missing."""
    value = document.get(key)
    if not isinstance(value, str) or not value.strip():
        raise _RefusedError("MissingRequiredField", name)
    return value


def _is_decision(document: dict[str, Any]) -> bool:
    kind = document.get("type")
    if kind == policy_event.DECISION_TYPE:
        return True
    if isinstance(kind, str) and kind in OTHER_POLICY_TYPES:
        return False
    raise _RefusedError("UnexpectedEventType", repr(kind))


def _decision(document: dict[str, Any], run_id: str, seq: int) -> PolicyEvent | None:
    """None: a sound decision about a call that carried no id."""
    source = _text(document, "source", "source")
    data = document.get("data")
    if not isinstance(data, dict):
        raise _RefusedError("MissingRequiredField", "data")
    tool = _text(data, "tool", "data.tool")
    call_id = data.get("tool_call_id")
    if call_id is not None and not isinstance(call_id, str):
        raise _RefusedError("MissingRequiredField", "data.tool_call_id")
    decision = _text(data, "decision", "data.decision")
    if source.startswith(SOURCE_PREFIX) and source != SOURCE_PREFIX + run_id:
        raise _RefusedError("RunIdMismatch", source)
    if call_id is None or not call_id.strip():
        return None
    return PolicyEvent(
        run_id=run_id,
        seq=seq,
        source=source,
        tool_call_id=call_id,
        tool=tool,
        decision=decision,
    )


def _sdk_header(document: dict[str, Any], run_id: str) -> None:
    if document.get("schema") != sdk_event.SCHEMA:
        raise _RefusedError("UnexpectedSchema", repr(document.get("schema")))
    observed = _text(document, "run_id", "run_id")
    if observed != run_id:
        raise _RefusedError("EventRunIdMismatch", observed)
    if type(document.get("seq")) is not int:
        raise _RefusedError("MissingRequiredField", "seq")


def _sdk_event(document: dict[str, Any], run_id: str, seq: int) -> SdkEvent:
    name = _text(document, "event_type", "event_type")
    if name not in tuple(SdkEventType):
        raise _RefusedError("UnsupportedEventType", name)
    event_type = SdkEventType(name)
    source = _text(document, "source", "source")
    optional = {key: _optional(document, key) for key in ("sdk_name", "sdk_version", "tool_call_id", "tool")}
    if event_type in sdk_event.TOOL_CALL_TYPES:
        for key in ("tool_call_id", "tool"):
            if optional[key] is None:
                raise _RefusedError("MissingToolCallField", key)
    return SdkEvent(
        run_id=run_id,
        seq=seq,
        event_type=event_type,
        source=source,
        sdk_name=optional["sdk_name"],
        sdk_version=optional["sdk_version"],
        tool_call_id=optional["tool_call_id"],
        tool=optional["tool"],
    )


def _optional(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise _RefusedError("InvalidJson", f"{key} is no string")
    return value if value is not None and value.strip() else None
