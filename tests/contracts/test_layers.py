"""From recorder lines to layers, and what follows from them (contracts §3.5, §3.7, §5.3, §5.4)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.contracts.canonical import to_bytes
from harness.contracts.converter import unstructure
from harness.contracts.health import Correlation, KernelLayer, ObservationHealth, PolicyLayer, SdkLayer
from harness.contracts.kernel_event import KernelEvent, open_event, other_event
from harness.contracts.policy_event import PolicyEvent
from harness.contracts.sdk_event import SdkEvent, SdkEventType
from harness.evidence.correlate import correlate, surface
from harness.evidence.health import derive_health
from harness.evidence.layers import policy_layer, sdk_layer

RUN = "run_1"
SOURCE = f"assay://runner-spike/{RUN}"


def decision(**data: Any) -> dict[str, Any]:
    base = {"tool": "read_file", "decision": "allow", "tool_call_id": "tc_1", "request_id": "r"}
    return {
        "specversion": "1.0",
        "id": "evt_1",
        "type": "assay.tool.decision",
        "source": SOURCE,
        "time": "2026-05-22T00:00:00Z",
        "data": base | data,
    }


def lines(*documents: object) -> list[bytes]:
    return [json.dumps(document).encode() for document in documents]


def without(document: dict[str, Any], *path: str) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(document))
    target = copy
    for step in path[:-1]:
        target = target[step]
    del target[path[-1]]
    return copy


def test_decisions_become_policy_events_in_order() -> None:
    other = [{"type": kind} for kind in ("assay.proxy.ready", "assay.tool.answered", "assay.proxy.rejected")]
    first = lines(other[0], decision(), other[1])
    log = [b"", *first, b"  \n", *lines(decision(tool_call_id="tc_2"), other[2])]
    layer = policy_layer(log, RUN)
    assert layer.problems == ()
    assert [(event.seq, event.tool_call_id) for event in layer.events] == [(0, "tc_1"), (1, "tc_2")]
    assert to_bytes(unstructure(layer.events[0])) == (
        b'{"schema":"assay.runner.policy_event.v0","run_id":"run_1","seq":0,'
        b'"source_event_type":"assay.tool.decision","source":"assay://runner-spike/run_1",'
        b'"tool_call_id":"tc_1","tool":"read_file","decision":"allow"}'
    )


@pytest.mark.parametrize(
    ("line", "identity", "detail"),
    [
        (b"{", "InvalidJson", "not JSON"),
        (b"\xff", "InvalidJson", "UTF-8"),
        (b"[1]", "InvalidJson", "not an object"),
        (b'{"type":1,"type":2}', "InvalidJson", "twice"),
        (b'{"type":"assay.other"}', "UnexpectedEventType", "'assay.other'"),
        (b'{"type":null}', "UnexpectedEventType", "None"),
        (b"{}", "UnexpectedEventType", "None"),
        (lines(without(decision(), "source"))[0], "MissingRequiredField", "source"),
        (lines(without(decision(), "data"))[0], "MissingRequiredField", "data"),
        (lines(decision() | {"data": []})[0], "MissingRequiredField", "data"),
        (lines(without(decision(), "data", "tool"))[0], "MissingRequiredField", "data.tool"),
        (lines(decision(tool="  "))[0], "MissingRequiredField", "data.tool"),
        (lines(decision(tool=7))[0], "MissingRequiredField", "data.tool"),
        (lines(decision(tool_call_id=7))[0], "MissingRequiredField", "data.tool_call_id"),
        (lines(decision(decision=""))[0], "MissingRequiredField", "data.decision"),
        (lines(decision() | {"source": "assay://runner-spike/run_2"})[0], "RunIdMismatch", "run_2"),
    ],
)
def test_a_bad_decision_line_is_a_problem_and_costs_nothing_else(
    line: bytes, identity: str, detail: str
) -> None:
    layer = policy_layer([*lines(decision()), line, *lines(decision(tool_call_id="tc_2"))], RUN)
    assert [event.seq for event in layer.events] == [0, 1]
    (problem,) = layer.problems
    assert (problem.identity, problem.line) == (identity, 2)
    assert detail in problem.detail


def test_calls_without_an_id_are_counted_never_given_one() -> None:
    missing = without(decision(), "data", "tool_call_id")
    layer = policy_layer(lines(decision(tool_call_id=None), missing, decision(tool_call_id=" ")), RUN)
    assert layer.events == ()
    assert layer.problems == ()
    assert layer.idless_calls == 3


def test_an_expected_channel_that_stayed_silent_is_a_problem() -> None:
    assert policy_layer([], RUN).problems == ()
    assert [p.identity for p in policy_layer([], RUN, expected=True).problems] == ["EmptyDecisionLog"]
    assert [p.identity for p in sdk_layer([b" "], RUN, expected=True).problems] == ["EmptySdkLog"]
    assert policy_layer(lines(decision()), RUN, expected=True).problems == ()


@pytest.mark.parametrize(("run_id", "identity"), [("", "EmptyRunId"), ("a:b", "UnsafeRunId")])
def test_a_bad_run_id_is_a_problem(run_id: str, identity: str) -> None:
    for problems in (policy_layer([], run_id).problems, sdk_layer([], run_id).problems):
        assert [problem.identity for problem in problems] == [identity]


def sdk_line(seq: int, kind: str = "tool_call_started", **fields: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "schema": "assay.runner.sdk_event.v0",
        "run_id": RUN,
        "seq": seq,
        "event_type": kind,
        "source": "fixture",
        "sdk_name": "sdk",
        "sdk_version": "1.0",
    }
    if kind.startswith("tool"):
        base |= {"tool_call_id": "tc_1", "tool": "read_file"}
    return base | fields


def test_sdk_lines_are_rewritten_into_contract_order() -> None:
    shuffled = dict(reversed(sdk_line(1, "run_finished", more=1).items()))
    layer = sdk_layer(lines(sdk_line(0), shuffled), RUN)
    assert layer.problems == ()
    assert layer.tool_call_ids == ("tc_1",)
    assert to_bytes(unstructure(layer.events[1])) == (
        b'{"schema":"assay.runner.sdk_event.v0","run_id":"run_1","seq":1,"event_type":"run_finished",'
        b'"source":"fixture","sdk_name":"sdk","sdk_version":"1.0","tool_call_id":null,"tool":null}'
    )


@pytest.mark.breaks("unclean:sdk:EventRunIdMismatch")
@pytest.mark.parametrize(
    ("line", "identity"),
    [
        (b"nonsense", "InvalidJson"),
        (lines(sdk_line(1, schema="x"))[0], "UnexpectedSchema"),
        (lines(without(sdk_line(1), "schema"))[0], "UnexpectedSchema"),
        (lines(sdk_line(1, run_id="other"))[0], "EventRunIdMismatch"),
        (lines(without(sdk_line(1), "run_id"))[0], "MissingRequiredField"),
        (lines(without(sdk_line(1), "seq"))[0], "MissingRequiredField"),
        (lines(sdk_line(1) | {"seq": True})[0], "MissingRequiredField"),
        (lines(without(sdk_line(1), "event_type"))[0], "MissingRequiredField"),
        (lines(without(sdk_line(1), "source"))[0], "MissingRequiredField"),
        (lines(sdk_line(1, "run_started"))[0], "UnsupportedEventType"),
        (lines(without(sdk_line(1), "tool"))[0], "MissingToolCallField"),
        (lines(sdk_line(1, "tool_call_completed", tool_call_id=None))[0], "MissingToolCallField"),
        (lines(sdk_line(1, sdk_name=7))[0], "InvalidJson"),
    ],
)
def test_a_bad_sdk_line_is_a_problem_and_costs_nothing_else(line: bytes, identity: str) -> None:
    layer = sdk_layer([*lines(sdk_line(0)), line, *lines(sdk_line(2, "run_finished"))], RUN)
    assert [(problem.identity, problem.line) for problem in layer.problems] == [(identity, 2)]
    assert [event.seq for event in layer.events] == [0, 1]


@pytest.mark.breaks("unclean:sdk:SeqMismatch")
@pytest.mark.parametrize(("seqs", "bad"), [((1, 2), [1]), ((0, 2, 3), [2]), ((0, 0), [2]), ((0, 1, 2), [])])
def test_a_jump_in_the_sdk_sequence_is_a_problem(seqs: tuple[int, ...], bad: list[int]) -> None:
    layer = sdk_layer(lines(*(sdk_line(seq) for seq in seqs)), RUN)
    assert [problem.line for problem in layer.problems if problem.identity == "SeqMismatch"] == bad
    assert [event.seq for event in layer.events] == list(range(len(seqs)))


@given(st.lists(st.binary(max_size=60)))
def test_any_lines_give_layers(log: list[bytes]) -> None:
    policy, sdk = policy_layer(log, RUN), sdk_layer(log, RUN)
    filled = sum(1 for line in log if line.strip())
    assert len(policy.events) + len(policy.problems) == filled
    assert len(sdk.events) + len(sdk.problems) == filled


def policy_events(*ids: str) -> tuple[PolicyEvent, ...]:
    return policy_layer(lines(*(decision(tool_call_id=name) for name in ids)), RUN).events


def sdk_events(*ids: str) -> tuple[SdkEvent, ...]:
    return sdk_layer(lines(*(sdk_line(seq, tool_call_id=name) for seq, name in enumerate(ids))), RUN).events


def test_one_call_known_to_all_is_clean() -> None:
    report = correlate(RUN, policy_events("a"), 5, sdk_events("a", "a"))
    assert report.status is Correlation.CLEAN
    assert report.ambiguities == ()
    assert [(b.tool_call_id, b.kernel_event_count, b.cgroup_id) for b in report.bindings] == [("a", 5, None)]


def test_every_ambiguity_is_named_in_order() -> None:
    report = correlate(RUN, policy_events("a", "b"), 0, sdk_events("z", "b", "y"), idless_calls=1)
    assert report.status is Correlation.PARTIAL
    assert report.ambiguities == (
        "session_cgroup_ambiguous_for_multiple_policy_events",
        "policy_events_without_kernel_events",
        "policy_call_without_tool_call_id",
        "sdk_tool_call_without_policy_binding:y",
        "sdk_tool_call_without_policy_binding:z",
    )
    assert len(report.bindings) == 2


def test_without_a_policy_layer_the_sdk_is_not_compared() -> None:
    assert correlate(RUN, (), 0, sdk_events("a")).status is Correlation.CLEAN
    report = correlate(RUN, (), 3, sdk_events("a"), idless_calls=2)
    assert report.ambiguities == ("policy_call_without_tool_call_id",)


def test_duplicate_ids_give_a_binding_each() -> None:
    assert len(correlate(RUN, policy_events("a", "a"), 1, ()).bindings) == 2


def test_the_surface_takes_each_kind_to_its_place() -> None:
    values = (
        (10, "/blocked"),
        (2, "1.2.3.4:80"),
        (6, "[::1]:53"),
        (7, "1.2.3.4:80"),
        (20, "5.6.7.8:1"),
        (4, "/bin/env"),
        (3, "fork"),
        (21, "seen"),
        (199, "unknown"),
        (200, "/unlinked"),
        (214, "/renamed"),
        (1, None),
    )
    kernel: list[KernelEvent] = [
        open_event(run_id=RUN, seq=0, pid=1, value="/missing", flags=0, mode=0, resolve=0, return_value=-2)
    ]
    kernel += [
        other_event(run_id=RUN, seq=seq, pid=1, event_type=number, value=value)
        for seq, (number, value) in enumerate(values, start=1)
    ]
    found = surface(RUN, kernel, policy_events("a", "b"))
    assert found.filesystem_paths == ("/blocked", "/missing", "/renamed", "/unlinked")
    assert found.network_endpoints == ("1.2.3.4:80", "5.6.7.8:1", "[::1]:53")
    assert found.process_execs == ("/bin/env",)
    assert found.mcp_tools == ("read_file",)
    assert found.policy_decisions == ("allow:read_file",)


def health(**changes: Any) -> ObservationHealth:
    facts: dict[str, Any] = {
        "kernel_events": 2,
        "kernel_asked": True,
        "ring_drops": 0,
        "other_losses": 0,
        "unclean": (),
        "policy_events": 0,
        "sdk_events": 0,
        "sdk_tool_calls": 0,
    }
    made = derive_health(RUN, **facts | changes)
    made.validate()
    return made


NOT_CLEAN = "s2_kernel_capture: monitor_events=2 cgroup_correlation=Partial kernel_layer downgraded to absent"


def test_a_kernel_only_run() -> None:
    made = health()
    assert made.kernel_layer is KernelLayer.COMPLETE
    assert made.cgroup_correlation is Correlation.CLEAN
    assert made.policy_layer is PolicyLayer.ABSENT
    assert made.sdk_layer is SdkLayer.ABSENT
    assert made.notes == ("s2_kernel_capture: monitor_events=2 ringbuf_drops=0",)


def test_drops_make_the_layer_partial() -> None:
    made = health(ring_drops=3)
    assert (made.kernel_layer, made.ringbuf_drops) == (KernelLayer.PARTIAL, 3)
    assert made.notes == ("s2_kernel_capture: monitor_events=2 ringbuf_drops=3",)
    made = health(other_losses=1)
    assert (made.kernel_layer, made.ringbuf_drops) == (KernelLayer.PARTIAL, 0)
    assert made.notes[-1] == "runner_accounting: other_losses=1"


def test_any_reason_makes_the_run_not_clean_and_hides_nothing() -> None:
    codes = ("sentinel_missing", "io_uring_used", "sentinel_missing")
    made = health(unclean=codes, ring_drops=3, other_losses=1)
    assert made.kernel_layer is KernelLayer.ABSENT
    assert made.cgroup_correlation is Correlation.PARTIAL
    assert made.ringbuf_drops == 0
    assert made.notes == (
        NOT_CLEAN,
        "runner_accounting: unclean=io_uring_used,other_losses,ring_drops,sentinel_missing",
    )


def test_a_contract_only_run() -> None:
    made = health(kernel_asked=False, kernel_events=0, policy_events=1, sdk_events=3, sdk_tool_calls=1)
    assert made.kernel_layer is KernelLayer.ABSENT
    assert made.cgroup_correlation is Correlation.PARTIAL
    assert made.notes == (
        "contract_only_mode: kernel and cgroup capture not wired in this revision",
        "s4_policy_capture: decision_events=1",
        "s5_sdk_capture: sdk_events=3 sdk_tool_calls=1",
    )
    assert health(platform="macos").kernel_layer is KernelLayer.ABSENT


@given(st.permutations(["a", "b", "c"]))
def test_the_order_of_the_reasons_does_not_matter(codes: list[str]) -> None:
    assert health(unclean=tuple(codes)) == health(unclean=("a", "b", "c"))


def test_sdk_events_of_the_layer_are_valid() -> None:
    for event in sdk_events("a", "b"):
        event.validate()
        assert event.event_type is SdkEventType.TOOL_CALL_STARTED
