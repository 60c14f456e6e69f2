"""Classes: every record in one, precedence, and what may not hide behind plumbing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evidence.classify import Context, EventClass, v0_telemetry
from harness.evidence.image import ImageFiles
from harness.evidence.model import Flag, Kind, Role
from tests.unit.evidence.build import (
    AGENT,
    BRIDGE,
    CONTEXT,
    FILES,
    PROGRAMS,
    PROXY,
    PYTHON,
    SERVER,
    Run,
    Trace,
    inet,
    unix,
)


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


def test_only_what_is_in_the_file_list_is_the_image() -> None:
    files = ImageFiles("sha256:0", frozenset({b"/usr", b"/usr/lib", b"/usr/lib/libc.so.6", b"/opt/app"}))
    context = Context(("/opt", "/usr"), image=files)
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


# All of an image is declared to be its runtime, as a stranger's is, and a label may say.
WHOLE = ImageFiles(
    "sha256:0",
    frozenset(
        path.encode()
        for path in (
            "/app", "/app/agent", "/dev", "/etc", "/etc/hosts", "/etc/shadow", "/lib", "/proc", "/root",
            "/run", "/sys", "/tmp", "/tmp/left", "/usr", "/usr/lib", "/usr/lib/x", "/workspace",
            "/workspace/left",
        )
    ),
    links={b"/lib": b"usr/lib", b"/app/work": b"/workspace", b"/app/etc": b"../etc", b"/app/loop": b"loop"},
)  # fmt: skip


@pytest.mark.parametrize("path", ["/app/agent", "/usr/lib/x", "/etc/shadow", "/root"])
def test_a_file_of_a_strangers_image_is_plumbing_by_its_list(path: str) -> None:
    assert class_of_open(path, context=Context(("/",), image=WHOLE)) is EventClass.IMAGE_RUNTIME


@pytest.mark.parametrize(
    "path",
    ["/workspace", "/workspace/left", "/workspace/private.key", "/tmp/left", "/tmp/made", "/run",
     "/run/secret", "/etc/hosts", "/app/mounted", "/root/.ssh/id"],
)  # fmt: skip
def test_what_is_mounted_or_not_in_the_list_is_evidence_whatever_is_declared(path: str) -> None:
    assert class_of_open(path, context=Context(("/",), image=WHOLE)) is EventClass.EVIDENCE


@pytest.mark.parametrize(
    ("path", "wanted"), [("/proc/1/environ", "procfs"), ("/sys/x", "sysfs"), ("/dev/null", "dev")]
)
def test_views_of_the_kernel_are_no_part_of_an_image(path: str, wanted: str) -> None:
    assert class_of_open(path, context=Context(("/",), image=WHOLE)).value == wanted


@pytest.mark.parametrize(
    ("name", "errno"),
    [
        ("/etc/shadow", 13),
        ("/root/.ssh/id_rsa", 2),
        ("/etc/missing", 2),
        ("/app/work/x", 2),
        ("/app/etc/x", 2),
    ],
)
def test_what_is_sought_or_refused_in_a_strangers_image_is_told(name: str, errno: int) -> None:
    trace = Trace()
    trace.failed_open(name, errno)
    assert classes(trace, Context(("/",), image=WHOLE)) == [EventClass.EVIDENCE]


@pytest.mark.parametrize(
    "name",
    [
        "/proc/self/cwd/denied", "/proc/thread-self/root/workspace/denied", "/proc/1/fd/7",
        "/proc/self/task/1/cwd/denied", "/proc/self/exe", "/dev/fd/3", "/dev/stdin",
        "/usr/lib/../../proc/self/cwd/denied", "/usr/lib/no/such/../../../../workspace/denied",
        "/usr/lib/no/such/../x", "/proc/self/nothing/../x", "/workspace/denied/", "/app/work/../usr/lib/x",
        "/app/loop/x", "/app/work/node_modules/x",
    ],
)  # fmt: skip
def test_a_failed_open_is_no_plumbing_by_what_its_name_looks_like(name: str) -> None:
    """The name is the program's own: a link or ".." in it leads elsewhere than it says."""
    trace = Trace()
    trace.failed_open(name, 13)
    trace.failed_open(name, 2)
    for roots in (("/usr", "/app", "/lib"), ()):
        assert classes(trace, Context(roots, image=WHOLE)) == [EventClass.EVIDENCE] * 2


def test_a_failed_open_goes_by_where_its_name_leads_in_the_image() -> None:
    context = Context(("/usr", "/lib"), image=WHOLE)
    trace = Trace()
    trace.failed_open("/lib/libx.so")  # a link to /usr/lib
    trace.failed_open("/usr/lib/../lib/./libx.so")
    trace.failed_open("libx.so", walked=b"/usr/lib")
    trace.failed_open("/lib/x", 13)  # it is there, and was refused
    trace.failed_open("/proc/self/missing")
    trace.failed_open("meminfo", 13, walked=b"/proc")
    trace.failed_open("cwd/x", 13, walked=b"/proc/self")
    image, procfs, evidence = EventClass.IMAGE_RUNTIME, EventClass.PROCFS, EventClass.EVIDENCE
    assert classes(trace, context) == [image] * 3 + [evidence, procfs, procfs, evidence]


@pytest.mark.parametrize(
    "path",
    ["/workspace/node_modules/evil.js", "/workspace/target/release/libevil.so", "/tmp/node_modules/x",
     "/workspace/.rustup/toolchains/x/lib.so.1", "/tmp/target/debug/a.so.1"],
)  # fmt: skip
def test_v0s_taxonomy_never_applies_to_writable_places(path: str) -> None:
    assert class_of_open(path) is EventClass.EVIDENCE
    elsewhere = path.replace("/workspace", "/home").replace("/tmp", "/home")
    assert class_of_open(elsewhere) is EventClass.DEPENDENCY_TREE


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


PLUMBING, EVIDENCE = EventClass.DECLARED_PLUMBING, EventClass.EVIDENCE


def test_declared_programs_are_plumbing_by_the_kernels_path_and_their_arguments() -> None:
    trace = Trace()
    trace.exec(AGENT, called="anything")
    trace.fork(7)
    trace.exec(BRIDGE, called="", vpid=7)
    trace.exec(PROXY, role=Role.TOOLS)
    trace.fork(7, role=Role.TOOLS)
    trace.fork(8, role=Role.TOOLS)
    trace.exec(SERVER, role=Role.TOOLS, vpid=7)
    trace.exec(SERVER, role=Role.TOOLS, vpid=8)
    assert set(classes(trace)) == {PLUMBING}


def test_what_a_program_is_called_says_nothing() -> None:
    """By its name alone, by a name whose length was lost, through a link, with the declared arguments."""
    for called in (AGENT[0], "", "node", "/workspace/node"):
        trace = Trace()
        trace.exec(AGENT, path="/usr/bin/env", called=called)
        trace.fork(7)
        trace.exec(BRIDGE, path="/workspace/prog", called=called, vpid=7)
        assert classes(trace) == [EVIDENCE] * 2


def test_the_first_programs_of_a_run_are_plumbing_once() -> None:
    """What lies in the work folder may be another program by then."""
    trace = Trace()
    trace.exec(AGENT)
    trace.exec(AGENT)
    trace.fork(7)
    trace.exec(AGENT, vpid=7)
    trace.exec(PROXY, role=Role.TOOLS)
    trace.fork(7, role=Role.TOOLS)
    trace.exec(("/bin/sh",), role=Role.TOOLS, vpid=7)
    trace.exec(SERVER, role=Role.TOOLS, vpid=7)
    trace.fork(8, role=Role.TOOLS, vpid=7)
    trace.exec(SERVER, role=Role.TOOLS, vpid=8)  # the server's child
    wanted = [PLUMBING, EVIDENCE, EVIDENCE, PLUMBING, EVIDENCE, EVIDENCE, EVIDENCE]
    assert classes(trace) == wanted


def test_what_only_looks_like_plumbing_is_evidence() -> None:
    trace = Trace()
    trace.exec((*BRIDGE, "--more"))
    trace.exec(BRIDGE[:-1])
    trace.exec(SERVER)  # the tools' server, run by the agent
    trace.exec(BRIDGE, flags=Flag.OBJECT | Flag.ARGS_CUT)
    trace.add(Kind.EXEC, syscall=59, raw=PYTHON.encode(), result=-13)
    assert set(classes(trace)) == {EVIDENCE}


def test_the_control_folder_is_plumbing_for_those_who_need_it_and_as_they_need_it() -> None:
    mcp, sdk = unix("/run/assay/mcp/mcp.sock"), unix("/run/assay/sdk/sdk.sock")
    decisions = unix("/run/assay/decisions/decisions.sock")
    trace = Trace()
    trace.exec(AGENT)
    trace.exec(PROXY, role=Role.TOOLS)
    trace.fork(9)
    trace.fork(9, role=Role.TOOLS)
    trace.exec(BRIDGE, vpid=9)
    trace.exec(SERVER, role=Role.TOOLS, vpid=9)
    plumbing = [
        trace.sock(42, mcp, vpid=9),
        trace.sock(42, mcp, -111, vpid=9),  # a bridge that came too late
        trace.sock(42, sdk),
        trace.sock(42, sdk, vpid=9),
        trace.sock(42, decisions, role=Role.TOOLS),
    ]
    evidence = [
        trace.sock(42, mcp),  # past the bridge
        trace.sock(49, mcp, -13, vpid=9),
        trace.sock(42, decisions, -2),
        trace.sock(42, unix("/run/assay/nothing.sock"), -2),
        trace.sock(42, decisions, -2, role=Role.TOOLS),  # once is enough
        trace.sock(42, decisions, -13, role=Role.TOOLS, vpid=9),  # the server talks to the host
        trace.named(87, "/run/assay/mcp/mcp.sock", -30),
        trace.opened("/run/assay/mcp"),
        trace.sock(42, unix("/run/assay/../../tmp/x.sock")),
        trace.sock(42, b"\1\0\0/run/assay/abstract"),
        trace.opened("/run/assayer"),
    ]
    assert classes(trace)[4:] == [PLUMBING] * len(plumbing) + [EVIDENCE] * len(evidence)


def test_sockets_that_a_run_has_not_are_nobodys() -> None:
    trace = Trace()
    trace.exec(AGENT)
    trace.sock(42, unix("/run/assay/sdk/sdk.sock"), -2)
    context = Context(programs=PROGRAMS, sockets=("/run/assay/mcp/mcp.sock",), image=FILES)
    assert classes(trace, context) == [PLUMBING, EVIDENCE]


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
