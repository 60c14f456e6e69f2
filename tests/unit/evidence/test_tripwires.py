"""What makes a run unclean although nothing of it was lost: from the lines that tell it."""

import pytest

from harness.evidence.kernel_v1 import kernel_events_v1
from harness.evidence.model import Role
from harness.evidence.tripwires import tripped
from tests.unit.evidence.build import AGENT, BRIDGE, PROXY, RUN_ID, SERVER, Run, Trace, unix

BIND, CONNECT, SENDTO = 49, 42, 44
RENAME, LINK, UNLINK, SYMLINK, CHDIR = 82, 86, 87, 88, 80
SUBJECT, TOOLS = Role.SUBJECT, Role.TOOLS


def codes(trace: Trace) -> set[str]:
    return tripped(kernel_events_v1(RUN_ID, trace.classified()))


def begun() -> Trace:
    """Agent, bridge, proxy and server are there, and have done what they have to."""
    trace = Trace()
    trace.exec(AGENT)
    trace.exec(PROXY, role=TOOLS)
    trace.sock(CONNECT, unix("/run/assay/decisions/decisions.sock"), role=TOOLS)
    for role in (SUBJECT, TOOLS):
        trace.fork(9, role=role)
    trace.exec(BRIDGE, vpid=9)
    trace.sock(CONNECT, unix("/run/assay/mcp/mcp.sock"), vpid=9)
    trace.sock(CONNECT, unix("/run/assay/sdk/sdk.sock"))
    trace.exec(SERVER, role=TOOLS, vpid=9)
    return trace


def test_a_run_as_it_should_be_trips_nothing() -> None:
    assert codes(begun()) == set()
    assert codes(Run(1, hidden_write=True).trace) == set()


@pytest.mark.parametrize("role", [SUBJECT, TOOLS])
@pytest.mark.parametrize("errno", [0, 2, 13])
def test_any_touch_of_the_control_folder_is_told_by_role(role: Role, errno: int) -> None:
    def touched(trace: Trace) -> set[str]:
        return codes(trace)

    for syscall in (UNLINK, CHDIR):
        trace = begun()
        trace.named(syscall, "/run/assay/mcp", -errno, role=role, vpid=9)
        assert touched(trace) == {f"control_touched:{role}"}
    for socket in ("mcp/mcp.sock", "mcp/other.sock", "decisions/decisions.sock"):
        for call in (BIND, CONNECT, SENDTO):
            trace = begun()
            trace.sock(call, unix(f"/run/assay/{socket}"), -errno, role=role)
            # the one that is declared is the proxy's own connection, when it is made
            once = (role, call, socket, errno) == (TOOLS, CONNECT, "decisions/decisions.sock", 0)
            assert touched(trace) == (set() if once else {f"control_touched:{role}"})
    trace = begun()
    if errno:
        trace.failed_open("/run/assay/policy/policy.toml", errno, role=role)
    else:
        trace.opened("/run/assay", role=role)
    assert touched(trace) == {f"control_touched:{role}"}
    trace = begun()
    trace.named(SYMLINK, "/workspace/x", -errno, role=role, vpid=9)
    trace.named(SYMLINK, "/run/assay/mcp", -errno, role=role, vpid=9, part=1)
    assert touched(trace) == {f"control_touched:{role}"}


@pytest.mark.parametrize(
    "name",
    ["/proc/1/mem", "/proc/1", "/proc/self/root/proc/1/maps", "/proc/self/../1/environ", "//proc/1/fd/3"],
)
def test_a_look_at_the_proxys_entries_by_another_program_is_told(name: str) -> None:
    trace = begun()
    trace.failed_open(name, 13, role=TOOLS, vpid=9)
    assert codes(trace) == {"proxy_looked_at"}
    trace = begun()
    trace.failed_open(name.rpartition("proc/")[2], 13, walked=b"/proc", role=TOOLS, vpid=9)
    assert codes(trace) == {"proxy_looked_at"}
    trace = begun()
    trace.named(SYMLINK, "/tmp/x", role=TOOLS, vpid=9)
    trace.named(SYMLINK, name, role=TOOLS, vpid=9, part=1)
    assert codes(trace) == {"proxy_looked_at"}


def test_looks_at_other_processes_are_nobodys_business() -> None:
    trace = begun()
    trace.opened("/proc/1/maps")  # the agent at itself, or another agent at it
    trace.opened("/proc/1/maps", vpid=9)
    trace.opened("/proc/1/maps", role=TOOLS)  # the proxy at itself
    trace.opened("/proc/9/maps", role=TOOLS, vpid=9)
    trace.failed_open("/proc/12/maps", role=TOOLS, vpid=9)
    trace.opened("/proc", role=TOOLS, vpid=9)
    assert codes(trace) == set()


@pytest.mark.parametrize(("one", "other"), [(SUBJECT, TOOLS), (TOOLS, SUBJECT)])
@pytest.mark.parametrize("call", [CONNECT, SENDTO])
def test_a_socket_of_the_other_role_is_a_crossing(one: Role, other: Role, call: int) -> None:
    trace = begun()
    trace.sock(BIND, unix("/workspace/s"), role=one)
    assert codes(trace) == set()
    trace.sock(call, unix("/workspace/s"), role=other)
    assert codes(trace) == {"roles_crossed"}


@pytest.mark.parametrize("syscall", [RENAME, LINK])
def test_a_crossing_is_seen_through_names_that_changed(syscall: int) -> None:
    def given(trace: Trace, role: Role, new: str) -> None:
        trace.named(syscall, "/workspace/s", role=role)
        trace.named(syscall, new, role=role, part=1)

    trace = begun()
    trace.sock(BIND, unix("/workspace/s"), role=TOOLS)
    given(trace, TOOLS, "/workspace/t")
    trace.sock(CONNECT, unix("/workspace/t"))
    assert codes(trace) == {"roles_crossed"}
    trace = begun()
    trace.sock(BIND, unix("/workspace/s"))
    given(trace, SUBJECT, "/workspace/t")
    trace.sock(CONNECT, unix("/workspace/t"))
    assert codes(trace) == set()  # its own, by another name
    trace.sock(BIND, unix("/workspace/u"), role=TOOLS)
    trace.named(syscall, "/workspace/u", role=TOOLS)
    trace.named(syscall, "/workspace/t", role=TOOLS, part=1)  # put in its place by the other
    assert codes(trace) == {"roles_crossed"}


def test_own_sockets_abstract_names_and_failures_cross_nothing() -> None:
    trace = begun()
    for role in (SUBJECT, TOOLS):
        trace.sock(BIND, unix("/tmp/own"), role=role)
    trace.sock(BIND, unix("/workspace/own"))
    trace.sock(CONNECT, unix("/workspace/own"))
    trace.sock(CONNECT, b"\1\0\0abstract")
    trace.sock(CONNECT, unix("/workspace/nobody"), -111)
    assert codes(trace) == set()
