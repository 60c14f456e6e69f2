"""Classes: every record in one, precedence, and what may not hide behind plumbing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evidence.classify import Context, EventClass, v0_telemetry
from harness.evidence.model import Flag, Kind, Role
from tests.unit.evidence.build import AGENT, BRIDGE, CONTEXT, PROXY, PYTHON, SERVER, Run, Trace, inet, unix


def classes(trace: Trace, context: Context = CONTEXT) -> list[EventClass]:
    return [found for _, found in trace.classified(context).operations]


def class_of_open(path: str, flags: int = 0, context: Context = CONTEXT) -> EventClass:
    trace = Trace()
    trace.opened(path, flags)
    return classes(trace, context)[0]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/etc/ld.so.cache", "loader"), ("/etc/localtime", "locale"), ("/etc/ssl/openssl.cnf", "interpreter"),
        ("/usr/bin/python3.12._pth", "interpreter"), ("/lib/x", "loader"), ("/lib32/x", "loader"),
        ("/usr/lib/x", "loader"), ("/usr/local/lib/x", "loader"), ("/usr/share/locale/x", "locale"),
        ("/usr/local/share/locale/x", "locale"), ("/proc/meminfo", "procfs"), ("/sys/x", "sysfs"),
        ("/dev/shm/x", "dev"), ("/a/node_modules/b", "dependency_tree"),
        ("/h/.rustup/toolchains/x/lib.so.1", "dependency_tree"), ("/w/target/debug/a.so", "dependency_tree"),
        ("/w/target/debug/a.txt", None), ("/h/.rustup/toolchains/x/y", None), ("/proc", None),
        ("/library", None),
        ("/etc/passwd", None), ("/opt/actions-runner/_work/assay/assay/x", None), ("/workspace/x", None),
    ],
)  # fmt: skip
def test_v0_taxonomy(path: str, wanted: str | None) -> None:
    found = v0_telemetry(path.encode())
    assert (found and found.value) == wanted


def test_looks_into_the_image_are_runtime_writes_are_not() -> None:
    assert class_of_open("/usr/lib/libc.so.6") is EventClass.IMAGE_RUNTIME
    assert class_of_open("/opt/app/agent.mjs", 0o10000000) is EventClass.IMAGE_RUNTIME
    assert class_of_open("/opt/app/new.txt", 0o101) is EventClass.EVIDENCE
    assert class_of_open("/opt/app/agent.mjs", 0o1000) is EventClass.EVIDENCE
    assert class_of_open("/optional/x") is EventClass.EVIDENCE
    assert class_of_open("/opt/x", context=Context()) is EventClass.EVIDENCE
    trace = Trace()
    trace.failed_open("/usr/bin/python3.11._pth")
    trace.failed_open("/usr/lib/../../workspace/x")
    trace.named(83, "/usr/lib/__pycache__", -30)
    assert classes(trace) == [EventClass.IMAGE_RUNTIME, EventClass.EVIDENCE, EventClass.EVIDENCE]


def test_with_a_file_list_only_what_is_in_it_is_the_image() -> None:
    files = frozenset({b"/usr/lib/libc.so.6", b"/opt/app"})
    context = Context(("/opt", "/usr"), {}, image_files=files)
    trace = Trace()
    trace.opened("/usr/lib/libc.so.6")
    trace.opened("/opt/app", 0o200000)  # a folder
    trace.failed_open("/usr/lib/libc.so.7")  # a probe
    trace.opened("/usr/lib/libc.so.6", flags=Flag.OBJECT | Flag.UNLINKED)
    trace.opened("/usr/lib/evil.so")  # v0's taxonomy calls this name a loader's; it is in no image
    trace.opened("/opt/app/mounted.txt")
    trace.opened("/usr/lib/libc.so.6", 0o1)
    trace.opened("/lib/libc.so.6")  # outside of the roots nothing changes
    image, evidence = EventClass.IMAGE_RUNTIME, EventClass.EVIDENCE
    assert classes(trace, context)[:6] == [image, image, image, evidence, evidence, evidence]
    assert classes(trace, context)[6:] == [EventClass.LOADER, EventClass.LOADER]
    assert [op.path for op in trace.classified(context).main][-1] == b"/usr/lib/libc.so.6"  # the write


def test_taxonomy_is_for_opens_alone() -> None:
    trace = Trace()
    trace.named(87, "/dev/shm/x")
    assert classes(trace) == [EventClass.EVIDENCE]


def test_writes_to_telemetry_places_are_main_reads_are_not() -> None:
    trace = Trace()
    trace.opened("/dev/shm/x", 0o101)
    trace.opened("/dev/urandom")
    classified = trace.classified()
    assert [op.path for op in classified.main] == [b"/dev/shm/x"]
    assert classes(trace) == [EventClass.DEV, EventClass.DEV]


def test_declared_commands_are_plumbing_by_whole_argv_and_program() -> None:
    trace = Trace()
    trace.exec(AGENT)
    trace.exec(BRIDGE)
    trace.exec(PROXY, role=Role.TOOLS)
    trace.exec(SERVER, role=Role.TOOLS)
    assert set(classes(trace)) == {EventClass.DECLARED_PLUMBING}


def test_what_only_looks_like_plumbing_is_evidence() -> None:
    trace = Trace()
    trace.exec(BRIDGE, path="/workspace/evil", called="/workspace/evil")  # argv[0] says anything
    trace.exec((*BRIDGE, "--more"))
    trace.exec(BRIDGE[:-1])
    trace.exec(SERVER)  # the tools' server, run by the agent
    trace.exec(BRIDGE, flags=Flag.OBJECT | Flag.ARGS_CUT)
    trace.add(Kind.EXEC, syscall=59, raw=PYTHON.encode(), result=-13)
    assert set(classes(trace)) == {EventClass.EVIDENCE}


def test_a_script_and_a_bare_name_can_be_declared() -> None:
    context = Context(("/usr",), {Role.SUBJECT: (("/opt/app/agent.sh", "w"), ("agent", "x"))})
    trace = Trace()
    trace.exec(("/bin/sh", "-e", "/opt/app/agent.sh", "w"), path="/usr/bin/dash", called="/opt/app/agent.sh")
    trace.exec(("agent", "x"), path="/usr/bin/agent")
    trace.exec(("agent", "x"), path="/usr/bin/agent", called="/usr/bin/agent")
    trace.exec(("agent", "x"), path="/workspace/agent", called="/workspace/agent")
    trace.exec(("/bin/sh", "-c", "/opt/app/agent.sh", "w"), path="/usr/bin/dash", called="/bin/sh")
    plumbing, evidence = EventClass.DECLARED_PLUMBING, EventClass.EVIDENCE
    assert classes(trace, context) == [plumbing, plumbing, plumbing, evidence, evidence]


def test_control_folder_is_plumbing_for_those_who_need_it() -> None:
    trace = Trace()
    trace.exec(AGENT)
    trace.exec(PROXY, role=Role.TOOLS)
    trace.fork(9, role=Role.TOOLS)
    trace.sock(42, unix("/run/assay/mcp/mcp.sock"))
    trace.sock(49, unix("/run/assay/mcp/mcp.sock"), role=Role.TOOLS)
    trace.named(87, "/run/assay/mcp/mcp.sock", -2, role=Role.TOOLS)
    trace.opened("/run/assay/policy/policy.toml", role=Role.TOOLS)
    trace.named(87, "/run/assay/mcp/mcp.sock", -30)  # the agent lays hands on a socket
    trace.opened("/run/assay/policy/policy.toml", role=Role.TOOLS, vpid=9)  # the server reads the policy
    trace.sock(
        42, unix("/run/assay/decisions/decisions.sock"), role=Role.TOOLS, vpid=9
    )  # or talks to the host
    trace.sock(42, unix("/run/assay/../../tmp/x.sock"))
    trace.sock(42, b"\1\0\0/run/assay/abstract")
    trace.opened("/run/assayer")
    assert classes(trace)[2:] == [EventClass.DECLARED_PLUMBING] * 4 + [EventClass.EVIDENCE] * 6


def test_tripwires_refusals_and_counters() -> None:
    trace = Trace()
    trace.add(Kind.ATTACH, raw=b"/elsewhere")
    trace.add(Kind.COMPAT)
    trace.add(Kind.URING, syscall=425, result=5)
    trace.add(Kind.URING, syscall=425, result=-38)
    trace.sock(41, args=(1, 1, 0))
    trace.sock(41, args=(16, 3, 0))
    trace.sock(44)
    trace.named(80, "/workspace")
    trace.sock(42, inet((1, 1, 1, 1), 1), -101)
    assert [found.value for found in classes(trace)] == [
        "tripwire", "tripwire", "tripwire", "io_uring_refused", "unaddressed", "evidence", "unaddressed",
        "directory_change", "evidence",
    ]  # fmt: skip


def test_records_alone_sentinel_before_setup_before_process() -> None:
    trace = Trace()
    trace.fork(3, role=Role.HARNESS, setup=True)
    trace.fork(3, setup=True)
    trace.add(Kind.ATTACH, setup=True)
    trace.fork(3)
    counts = {found.value: n for found, n in trace.classified().counts.items() if n}
    assert counts == {"sentinel": 1, "setup": 2, "process": 1}


@given(st.integers(0, 10**6))
def test_classes_add_up_whatever_the_order(seed: int) -> None:
    trace = Run(seed, hidden_write=True).trace
    counts = trace.classified().counts
    assert sum(counts.values()) == len(trace.records)
    assert set(counts) == set(EventClass)
