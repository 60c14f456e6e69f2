"""The v0 view, the companion's kernel layer and its surface."""

from typing import Any

from harness.contracts.canonical import to_bytes
from harness.contracts.companion import CapabilitySurfaceV1, PathCapability
from harness.contracts.converter import unstructure
from harness.contracts.kernel_event import KernelEvent
from harness.contracts.policy_event import PolicyEvent
from harness.evidence.kernel_v0 import OTHER_IDS, kernel_events_v0
from harness.evidence.kernel_v1 import kernel_events_v1
from harness.evidence.model import Flag, Kind, Role
from harness.evidence.surface_v1 import surface_v1
from tests.unit.evidence.build import AGENT, RUN_ID, Trace, inet, unix


def v0(trace: Trace) -> list[KernelEvent]:
    return kernel_events_v0(RUN_ID, trace.classified())


def v1(trace: Trace) -> list[dict[str, Any]]:
    return [unstructure(line) for line in kernel_events_v1(RUN_ID, trace.classified())]


def surface(trace: Trace, *policy: PolicyEvent) -> CapabilitySurfaceV1:
    return surface_v1(RUN_ID, kernel_events_v1(RUN_ID, trace.classified()), policy)


def actions(path: PathCapability) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(found.action, found.result, found.roles) for found in path.actions]


def test_v0_keeps_distinct_evidence_only() -> None:
    trace = Trace()
    trace.opened("/workspace/a", fd=3)
    trace.opened("/workspace/a", fd=9)  # again
    trace.opened("/workspace/a", 0o2)  # other flags
    trace.opened("/workspace/a", role=Role.TOOLS)  # other role
    trace.failed_open("/workspace/a")  # other result
    trace.failed_open("/workspace/a", 13)  # failed as well: the same to v0
    trace.opened("/dev/shm/x", 0o101)  # telemetry
    trace.opened("/usr/lib/x")
    events = v0(trace)
    assert [event.seq for event in events] == [0, 1, 2, 3]
    assert [event.return_value for event in events] == [3, 3, 3, -2]
    assert {event.value for event in events} == {"/workspace/a"}
    for event in events:
        event.validate()


def test_v0_ignores_a_mode_that_the_kernel_ignores() -> None:
    trace = Trace()
    trace.opened("/workspace/a", args=(0, 0x7FFF, 0))
    trace.opened("/workspace/a", args=(0, 0x1234, 0))
    trace.opened("/workspace/b", args=(0o101, 0o600, 0))
    assert [event.mode for event in v0(trace)] == [0, 0o600]


def test_v0_vocabulary_and_ours() -> None:
    trace = Trace()
    trace.exec(("/workspace/x",))
    trace.add(Kind.EXEC, syscall=59, raw=b"/nowhere", result=-2)
    trace.sock(42, inet((1, 2, 3, 4), 5), -101)
    trace.sock(44, inet((1, 2, 3, 4), 6))
    trace.net(1, bytes(16), 7)
    trace.named(264, "/workspace/old")
    trace.named(264, "/workspace/new", part=1)
    trace.named(87, "/workspace/gone", -1)
    trace.sock(49, inet((1, 2, 3, 4), 8))  # companion only
    trace.sock(42, unix("/tmp/x"))
    events = [(event.kind, event.value, event.return_value) for event in v0(trace)]
    assert events == [
        ("exec", "/workspace/x", 0), ("exec", "/nowhere", -2), ("connect", "1.2.3.4:5", -101),
        ("sendto", "1.2.3.4:6", 0), ("sendmsg", "[::]:7", None), ("event_202", "/workspace/old", 0),
        ("event_202", "/workspace/new", 0), ("event_200", "/workspace/gone", -1),
    ]  # fmt: skip
    for event in v0(trace):
        event.validate()


def test_ids_of_our_operations_never_move() -> None:
    assert OTHER_IDS == {
        "unlink": 200, "rmdir": 201, "rename": 202, "link": 203, "symlink": 204, "mkdir": 205, "mknod": 206,
        "truncate": 207, "chmod": 208, "chown": 209, "utimens": 210, "setxattr": 211, "removexattr": 212,
        "chroot": 213, "name_to_handle": 214,
    }  # fmt: skip


def test_companion_layer_is_a_sorted_set_without_what_varies() -> None:
    trace = Trace()
    trace.exec(AGENT)
    trace.opened("/workspace/b")
    trace.opened("/workspace/b", fd=17, tid=5, vtid=5)
    trace.opened("/workspace/a")
    trace.opened("/proc/1/environ")
    trace.opened("/usr/lib/x")
    trace.add(Kind.URING, syscall=425, result=-38)
    lines = v1(trace)
    assert [line["seq"] for line in lines] == [0, 1, 2, 3]
    assert sorted(line["path"] for line in lines) == [
        "/opt/node/bin/node", "/proc/self/environ", "/workspace/a", "/workspace/b",
    ]  # fmt: skip
    assert lines == sorted(lines, key=lambda line: to_bytes(line | {"seq": 0}))
    assert not {"pid", "tid", "fd", "time_ns"} & {key for line in lines for key in line}


def test_companion_line_tells_the_whole_story() -> None:
    trace = Trace()
    trace.exec(AGENT)
    trace.exec(("sh", "-c", "x"), path="/usr/bin/dash", called="/bin/sh")
    trace.named(316, "/workspace/a")
    trace.named(316, "/workspace/b", part=1)
    trace.sock(42, unix("/tmp/x"), -111)
    by_name = {line["operation"]: line for line in v1(trace) if line["event_class"] == "evidence"}
    assert by_name["exec"]["argv"] == ["sh", "-c", "x"]
    assert by_name["exec"]["called"] == "/bin/sh"
    assert (by_name["rename"]["path"], by_name["rename"]["path2"]) == ("/workspace/a", "/workspace/b")
    connect = by_name["connect"]
    assert (connect["family"], connect["address"], connect["outcome"]) == ("unix", "/tmp/x", "ECONNREFUSED")
    assert connect["process"] == "subject.0"


def test_bytes_that_are_no_text() -> None:
    trace = Trace()
    trace.opened(b"/workspace/\xff")
    trace.opened(b"/workspace/\xfe")
    assert [event.value for event in v0(trace)] == ["/workspace/�"]
    assert {line["path_hex"] for line in v1(trace)} == {b"/workspace/\xff".hex(), b"/workspace/\xfe".hex()}
    assert len(surface(trace).paths) == 2


def test_surface_tells_what_was_done_and_by_whom() -> None:
    trace = Trace()
    trace.opened("/workspace/a")
    trace.opened("/workspace/a", role=Role.TOOLS)
    trace.failed_open("/workspace/a", 13, 0o1, role=Role.TOOLS)
    trace.opened("/workspace/new", 0o101, flags=Flag.OBJECT | Flag.CREATED)
    trace.failed_open("/workspace/no", 30, 0o102)
    trace.named(264, "/workspace/from")
    trace.named(264, "/workspace/to", part=1)
    trace.named(90, "/workspace/a")
    trace.named(87, "/workspace/a", -13)
    trace.named(87, "/workspace/a")
    found = {path.path: actions(path) for path in surface(trace).paths}
    assert found == {
        "/workspace/a": [
            ("read", "done", ("subject", "tools")),
            ("write", "attempted", ("tools",)),
            ("delete", "done", ("subject",)),  # it failed first: that is no second fact
            ("metadata", "done", ("subject",)),
        ],
        "/workspace/from": [("delete", "done", ("subject",))],
        "/workspace/new": [("write", "done", ("subject",)), ("create", "done", ("subject",))],
        "/workspace/no": [
            ("read", "attempted", ("subject",)),
            ("write", "attempted", ("subject",)),
            ("create", "attempted", ("subject",)),
        ],
        "/workspace/to": [("create", "done", ("subject",))],
    }


def test_an_exchange_leaves_both_names() -> None:
    trace = Trace()
    trace.named(316, "/workspace/a", args=(2, 0, 0))
    trace.named(316, "/workspace/b", args=(2, 0, 0), part=1)
    for path in surface(trace).paths:
        assert [action for action, _, _ in actions(path)] == ["create", "delete"]


def test_surface_keeps_telemetry_apart_but_not_writes() -> None:
    trace = Trace()
    trace.opened("/proc/crypto")
    trace.opened("/dev/shm/x", 0o1)
    trace.sock(42, unix("/run/assay/sdk/sdk.sock"))
    trace.exec(AGENT)
    found = surface(trace)
    assert [path.path for path in found.paths] == ["/dev/shm/x"]
    assert [path.path for path in found.telemetry] == ["/proc/crypto"]
    assert (found.network, found.execs) == ((), ())


def test_surface_network_execs_and_tools() -> None:
    trace = Trace()
    trace.exec(("/workspace/x.sh",), path="/usr/bin/dash")
    trace.add(Kind.EXEC, syscall=59, raw=b"/nowhere", result=-2)
    trace.sock(42, inet((1, 2, 3, 4), 5), -101)
    trace.sock(41, args=(17, 3, 0), result=-1)
    policy = [
        PolicyEvent(run_id=RUN_ID, seq=n, source="s", tool_call_id="t", tool=tool, decision=decision)
        for n, (tool, decision) in enumerate((("b", "deny"), ("b", "allow"), ("a", "allow"), ("b", "deny")))
    ]
    found = surface(trace, *policy)
    assert [(n.operation, n.family, n.address, n.result) for n in found.network] == [
        ("connect", "inet", "1.2.3.4:5", "attempted"), ("socket", "packet", "", "attempted"),
    ]  # fmt: skip
    assert [(e.path, e.called, e.argv, e.result) for e in found.execs] == [
        ("/nowhere", None, None, "attempted"),
        ("/usr/bin/dash", "/workspace/x.sh", ("/workspace/x.sh",), "done"),
    ]  # fmt: skip
    assert {path.path for path in found.paths} == {"/nowhere", "/usr/bin/dash", "/workspace/x.sh"}
    assert [(tool.tool, tool.decisions) for tool in found.tools] == [
        ("a", ("allow",)),
        ("b", ("allow", "deny")),
    ]
