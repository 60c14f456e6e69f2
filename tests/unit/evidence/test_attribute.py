"""Which evidence belongs to which call."""

import json
from typing import Any

import pytest

from harness.contracts.companion import AttributionV1
from harness.evidence.attribute import attribute, read_calls
from harness.evidence.model import Role
from tests.unit.evidence.build import PROXY, RUN_ID, Trace, answer, decision


def told(trace: Trace, *lines: dict[str, Any] | bytes) -> AttributionV1:
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    return attribute(RUN_ID, trace.classified(), read_calls(encoded))


def tool_trace(*opens: tuple[str, int]) -> Trace:
    trace = Trace()
    trace.exec(PROXY, role=Role.TOOLS, time_ns=1)
    for path, at in opens:
        trace.opened(path, role=Role.TOOLS, time_ns=at)
    return trace


def evidence(found: AttributionV1) -> dict[str, list[tuple[str | None, str]]]:
    return {call.tool_call_id: [(e.path, e.match) for e in call.evidence] for call in found.calls}


def test_the_judged_path_is_exact_another_one_is_window() -> None:
    trace = tool_trace(("/workspace/a", 15), ("/workspace/b", 16), ("/workspace/c", 25))
    found = told(trace, decision("tc_1", 10, paths=["/workspace/a"]), answer("tc_1", 20))
    assert evidence(found) == {"tc_1": [("/workspace/a", "exact"), ("/workspace/b", "window")]}
    assert [(e.path, e.match) for e in found.unattributed] == [("/workspace/c", "unattributed")]


def test_two_parallel_calls_are_told_apart_by_their_paths() -> None:
    trace = tool_trace(("/workspace/a", 15), ("/workspace/b", 15), ("/workspace/x", 15), ("/workspace/y", 12))
    found = told(
        trace,
        decision("tc_1", 10, paths=["/workspace/a"]),
        decision("tc_2", 13, paths=["/workspace/b"], request=2),
        answer("tc_1", 20),
        answer("tc_2", 21, 2),
    )
    assert evidence(found) == {
        "tc_1": [("/workspace/a", "exact"), ("/workspace/y", "window")],
        "tc_2": [("/workspace/b", "exact")],
    }
    assert [(e.path, e.candidates) for e in found.ambiguous] == [("/workspace/x", ("tc_1", "tc_2"))]


def test_the_same_path_in_two_windows_is_never_guessed() -> None:
    found = told(
        tool_trace(("/workspace/a", 15)),
        decision("tc_2", 10, paths=["/workspace/a"]),
        decision("tc_1", 11, paths=["/workspace/a"], request=2),
        decision("tc_3", 12, request=3),
    )
    assert [e.candidates for e in found.ambiguous] == [("tc_1", "tc_2")]
    assert [call.tool_call_id for call in found.calls] == ["tc_1", "tc_2", "tc_3"]


def test_what_the_subject_does_meanwhile_is_not_the_tools() -> None:
    trace = tool_trace()
    trace.opened("/workspace/a", time_ns=15)
    found = told(trace, decision("tc_1", 10, paths=["/workspace/a"]), answer("tc_1", 20))
    assert evidence(found) == {"tc_1": []}
    assert [(e.role, e.path) for e in found.unattributed] == [("subject", "/workspace/a")]


def test_a_denied_call_has_no_window_an_unanswered_one_no_end() -> None:
    trace = tool_trace(("/workspace/a", 15))
    denied = told(trace, decision("tc_1", 10, verdict="deny", paths=["/workspace/a"]))
    assert evidence(denied) == {"tc_1": []}
    open_ended = told(trace, decision("tc_1", 10))
    assert evidence(open_ended) == {"tc_1": [("/workspace/a", "window")]}
    assert not open_ended.calls[0].answered


def test_an_id_that_is_used_twice_keeps_two_windows() -> None:
    trace = tool_trace(("/workspace/a", 15), ("/workspace/b", 35))
    found = told(
        trace,
        decision("tc_1", 10), answer("tc_1", 20), decision("tc_1", 30, request=2), answer("tc_1", 40, 2),
    )  # fmt: skip
    assert [[e.path for e in call.evidence] for call in found.calls] == [["/workspace/a"], ["/workspace/b"]]


def test_lines_that_are_no_calls_are_passed_over() -> None:
    sound = {"tool_call_id": "tc_1", "tool": "t", "decision": "allow"}  # but for its time
    lines: list[dict[str, Any] | bytes] = [
        b"garbage", b"[]", b'{"type":"assay.tool.decision","data":3}', decision(None, 10), decision(" ", 10),
        decision("tc_1", 10) | {"data": sound},
        decision("tc_1", 10) | {"data": {"monotonic_ns": True, **sound}},
        answer("nobody", 3),
    ]  # fmt: skip
    assert told(tool_trace(("/workspace/a", 15)), *lines).calls == ()


def test_no_time_and_no_count_is_told() -> None:
    lines = (decision("tc_1", 10, paths=["/workspace/a"]), answer("tc_1", 20))
    once = told(tool_trace(("/workspace/a", 15)), *lines)
    often = told(tool_trace(("/workspace/a", 11), ("/workspace/a", 19)), *lines)
    assert once == often


def test_an_answer_belongs_to_the_call_of_its_own_connection() -> None:
    """A server that died in a call; the agent repeats it, with the same ids, on a new connection."""
    dead, again = decision("tc_1", 10, paths=["/workspace/a"]), decision("tc_1", 30, connection=2)
    trace = tool_trace(("/workspace/b", 35))
    found = told(trace, dead, again, answer("tc_1", 40, connection=2))
    assert {(call.paths, call.answered) for call in found.calls} == {(("/workspace/a",), False), ((), True)}
    assert [e.candidates for e in found.ambiguous] == [("tc_1",)]


@pytest.mark.parametrize("other", ["1", 1.0, True, " 1", None])
def test_an_answer_belongs_to_the_request_with_the_very_id(other: object) -> None:
    found = told(tool_trace(), decision("tc_1", 10, request=1), answer("tc_1", 20, request=other))
    assert [call.answered for call in found.calls] == [False]


def test_ids_that_differ_in_blanks_are_different_calls() -> None:
    calls = [decision(name, at) for at, name in ((10, " tc_1"), (20, "tc_1"), (30, "TC_1"))]
    found = told(tool_trace(), *calls, answer("tc_1", 40))
    assert [(call.tool_call_id, call.answered) for call in found.calls] == [
        (" tc_1", False),
        ("TC_1", False),
        ("tc_1", True),
    ]
