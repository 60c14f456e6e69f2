"""Rules of the single models (contracts §2.1 to §2.7)."""

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from harness.contracts import health as vocabulary
from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.converter import ContractError, parse, unstructure
from harness.contracts.correlation import Binding
from harness.contracts.health import Correlation, KernelLayer, ObservationHealth, PolicyLayer, SdkLayer
from harness.contracts.kernel_event import (
    AccessMode,
    KernelEvent,
    Status,
    access_mode,
    kind_of,
    open_event,
    operation_flags,
    other_event,
)
from harness.contracts.policy_event import PolicyEvent
from harness.contracts.rules import RuleError, sorted_unique
from harness.contracts.run_event import RunFinished, RunStarted
from harness.contracts.sdk_event import SdkEvent, SdkEventType
from harness.contracts.surface import DIMENSIONS, SCHEMA, CapabilitySurface

CLEAN = ObservationHealth(
    run_id="r",
    platform="linux",
    kernel_layer=KernelLayer.COMPLETE,
    ringbuf_drops=0,
    policy_layer=PolicyLayer.PRESENT,
    sdk_layer=SdkLayer.SELF_REPORTED,
    cgroup_correlation=Correlation.CLEAN,
    notes=(),
)
PARTIAL = KernelLayer.PARTIAL
FAILED = Correlation.FAILED


def test_health_without_a_fault_is_valid() -> None:
    CLEAN.validate()
    evolve(CLEAN, kernel_layer=PARTIAL).validate()  # a record of the wrong size: partial, no drops
    evolve(CLEAN, kernel_layer=PARTIAL, ringbuf_drops=2).validate()


@pytest.mark.parametrize(
    ("broken", "identity"),
    [
        ({"schema": "x", "run_id": ""}, "InvalidSchema"),
        ({"run_id": "", "ringbuf_drops": 1}, "EmptyRunId"),
        ({"ringbuf_drops": 1, "platform": "macos"}, "RingbufDropsRequirePartialKernelLayer"),
        ({"platform": "macos", "cgroup_correlation": FAILED}, "NonLinuxRequiresAbsentKernelLayer"),
        ({"cgroup_correlation": FAILED}, "FailedCgroupCorrelation"),
    ],
)
def test_the_first_broken_health_rule_is_named(broken: dict[str, Any], identity: str) -> None:
    with pytest.raises(RuleError) as caught:
        evolve(CLEAN, **broken).validate()
    assert caught.value.identity == identity


def test_later_health_keys_are_kept_byte_for_byte() -> None:
    later = (
        b'{"schema":"assay.runner.observation_health.v0","run_id":"r","platform":"linux","kernel_layer":"complete",'
        b'"capture_origin":"borrowed","ringbuf_drops":0,"policy_layer":"absent","sdk_layer":"absent",'
        b'"cgroup_correlation":"clean","network_protocol_coverage":"connect_only",'
        b'"network_endpoint_claim_scope":"diagnostic_only","redaction":{"mode":"shape_only","by_rule":{"jwt":1}},'
        b'"notes":[]}'
    )
    health = parse(ObservationHealth, load_json(later, "x"))
    assert to_bytes(unstructure(health)) == later
    assert health.origin == "unsupported"  # an unknown origin is never taken for our own
    assert evolve(health, capture_origin="third_party").origin == "third_party"
    assert evolve(health, capture_origin=None).origin == "own"


def test_our_health_has_the_first_generation_keys_only() -> None:
    assert list(unstructure(CLEAN)) == [
        "schema",
        "run_id",
        "platform",
        "kernel_layer",
        "ringbuf_drops",
        "policy_layer",
        "sdk_layer",
        "cgroup_correlation",
        "notes",
    ]


def test_notes_have_the_contract_form() -> None:
    assert vocabulary.kernel_note(2, 0) == "s2_kernel_capture: monitor_events=2 ringbuf_drops=0"
    assert vocabulary.kernel_downgraded_note(7, Correlation.PARTIAL) == (
        "s2_kernel_capture: monitor_events=7 cgroup_correlation=Partial kernel_layer downgraded to absent"
    )
    assert vocabulary.unclean_note(("b", "a", "b")) == "runner_accounting: unclean=a,b"
    health = evolve(CLEAN, notes=("x", vocabulary.sdk_note(3, 1)))
    assert health.note("s5_sdk_capture") == "sdk_events=3 sdk_tool_calls=1"
    assert health.note("s4_policy_capture") is None


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_sets_sort_by_utf8_bytes(values: list[str]) -> None:
    ordered = sorted_unique(values)
    assert [value.encode() for value in ordered] == sorted({value.encode() for value in values})


def surface(paths: list[str]) -> CapabilitySurface:
    empty: dict[str, Any] = {dimension: [] for dimension in DIMENSIONS}
    head = {"schema": SCHEMA, "run_id": "r"}
    return parse(CapabilitySurface, head | empty | {"filesystem_paths": paths})


def test_a_surface_is_sorted_and_unique() -> None:
    # U+FF5E sorts before U+10000 by UTF-8 bytes, and after it by UTF-16 units.
    assert surface(["/a", "/~", "/\uff5e", "/\U00010000"]).filesystem_paths[-1] == "/\U00010000"
    for bad in (["/b", "/a"], ["/a", "/a"]):
        with pytest.raises(ContractError, match="sorted") as caught:
            surface(bad)
        assert caught.value.pointer == "/filesystem_paths"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (1, "openat"),
        (2, "connect"),
        (3, "event_3"),
        (4, "exec"),
        (6, "sendto"),
        (7, "sendmsg"),
        (10, "file_blocked"),
        (20, "connect_blocked"),
        (21, "event_21"),
        (207, "event_207"),
    ],
)
def test_kinds(number: int, kind: str) -> None:
    assert kind_of(number) == kind


def test_what_follows_from_open_flags() -> None:
    assert [access_mode(flags) for flags in range(4)] == list(AccessMode)
    assert operation_flags(0o100 | 0o1000 | 0o2000 | 0o400) == ("create", "truncate", "append", "exclusive")
    assert operation_flags(0o4000) is None


def test_an_open_line_has_the_contract_keys_in_order() -> None:
    event = open_event(
        run_id="r", seq=0, pid=7, value="/w/out", flags=0o101, mode=0o644, resolve=0, return_value=3
    )
    event.validate()
    assert to_bytes(unstructure(event)) == (
        b'{"schema":"assay.runner.kernel_event.v0","run_id":"r","seq":0,"pid":7,"event_type":1,"kind":"openat",'
        b'"value":"/w/out","flags":65,"mode":420,"return_value":3,"access_mode":"write",'
        b'"operation_flags":["create"],"status":"success"}'
    )
    failed = open_event(run_id="r", seq=0, pid=7, value=None, flags=0, mode=0, resolve=4, return_value=-2)
    assert list(unstructure(failed)) == [
        "schema",
        "run_id",
        "seq",
        "pid",
        "event_type",
        "kind",
        "value",
        "flags",
        "mode",
        "resolve",
        "return_value",
        "access_mode",
        "status",
    ]
    assert failed.status is Status.ERROR


def test_the_first_generation_line_has_seven_keys_and_value_may_be_null() -> None:
    event = other_event(run_id="r", seq=0, pid=7, event_type=3, value=None)
    data = to_bytes(unstructure(event))
    assert data.endswith(b'"kind":"event_3","value":null}')
    assert parse(KernelEvent, load_json(data, "x")) == event


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "connect"},
        {"access_mode": AccessMode.READ},
        {"operation_flags": None},
        {"operation_flags": ("create", "append")},
        {"status": Status.ERROR},
        {"status": None},
        {"return_value": None},
        {"resolve": 0},
        {"flags": None},
    ],
)
def test_a_derived_key_that_does_not_follow_is_refused(change: dict[str, Any]) -> None:
    event = open_event(run_id="r", seq=0, pid=7, value="/x", flags=0o101, mode=0, resolve=0, return_value=3)
    with pytest.raises(RuleError):
        evolve(event, **change).validate()


def test_sdk_tool_events_name_their_call() -> None:
    finished = SdkEvent(run_id="r", seq=0, event_type=SdkEventType.RUN_FINISHED, source="s")
    finished.validate()
    assert to_bytes(unstructure(finished)).endswith(
        b'"sdk_name":null,"sdk_version":null,"tool_call_id":null,"tool":null}'
    )
    with pytest.raises(RuleError, match="MissingToolCallField"):
        evolve(finished, event_type=SdkEventType.TOOL_CALL_STARTED, tool_call_id="t").validate()


def test_policy_events_have_no_empty_field() -> None:
    event = PolicyEvent(run_id="r", seq=0, source="a:b", tool_call_id="t", tool="x", decision="allow")
    for key in ("source", "tool_call_id", "tool", "decision"):
        with pytest.raises(ContractError, match="empty"):
            parse(PolicyEvent, unstructure(event) | {key: ""})
    with pytest.raises(ContractError, match=r"assay\.tool\.decision"):
        parse(PolicyEvent, unstructure(event) | {"source_event_type": "assay.proxy.ready"})


def test_run_events_have_the_contract_form() -> None:
    started = RunStarted(run_id="r", agent_shim="none", command=("a", "b"), env_keys=("A", "B"))
    finished = RunFinished(run_id="r", exit_code=None, signal=9, success=False, window_elapsed_ms=12)
    assert to_bytes(unstructure(started)) == (
        b'{"schema":"assay.runner.event.v0","run_id":"r","seq":0,"type":"run_started","agent_shim":"none",'
        b'"command":["a","b"],"env_keys":["A","B"],"window_elapsed_ms":0}'
    )
    assert to_bytes(unstructure(finished)) == (
        b'{"schema":"assay.runner.event.v0","run_id":"r","seq":1,"type":"run_finished","exit_code":null,'
        b'"signal":9,"success":false,"window_elapsed_ms":12}'
    )
    for broken in ({"seq": 1}, {"type": "run_finished"}, {"env_keys": ["B", "A"]}, {"window_elapsed_ms": 5}):
        with pytest.raises(ContractError):
            parse(RunStarted, unstructure(started) | broken)


def test_a_binding_leaves_out_an_absent_cgroup_id() -> None:
    binding = Binding(tool_call_id="t", policy_decision="allow", kernel_event_count=2)
    assert list(unstructure(binding)) == ["tool_call_id", "policy_decision", "kernel_event_count", "window"]
    assert list(unstructure(evolve(binding, cgroup_id=5)))[2] == "cgroup_id"


@pytest.mark.parametrize("run_id", ["", "a:b", "a/b", "ü", "a\n", " "])
def test_unsafe_run_ids_are_refused(run_id: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse(ObservationHealth, unstructure(CLEAN) | {"run_id": run_id})
    assert caught.value.pointer == "/run_id"
