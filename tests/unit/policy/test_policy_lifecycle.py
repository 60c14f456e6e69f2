"""How proxy and bridge begin and end, and what is left when others die."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.policy.conftest import Rig


def gone(pid: int, timeout: float = 60) -> bool:
    """True once a process is dead and reaped (or never ours to see)."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.01)
    return False


def servers(rig: "Rig") -> list[int]:
    return [entry["pid"] for entry in rig.received() if entry["what"] == "start"]


def test_the_bridge_may_come_long_before_the_proxy(rig: "Rig") -> None:
    bridge = rig.bridge()
    bridge.call(1, "echo", {}, "tc_1")
    time.sleep(0.3)
    rig.start()
    assert bridge.receive()["id"] == 1


def test_a_bridge_without_proxy_gives_up_with_a_reason(rig: "Rig") -> None:
    started = time.monotonic()
    bridge = rig.bridge()
    assert bridge.process.wait(60) == 1
    assert 4.5 < time.monotonic() - started < 60
    assert bridge.process.stderr is not None
    assert bridge.process.stderr.read().decode() == (
        f"assay-bridge: no policy proxy at {rig.listen}: No such file or directory\n"
    )


def test_the_host_hanging_up_stops_everything(rig: "Rig") -> None:
    rig.start()
    bridges = [rig.bridge() for _ in range(2)]
    for bridge in bridges:
        bridge.call(1, "slow", {"seconds": 30}, "tc")
    rig.wait_for("assay.tool.decision")
    while len(servers(rig)) < 2:
        time.sleep(0.01)
    log = rig.stop()
    assert log.errors == ()
    assert log.connections == 1
    assert all(gone(pid) for pid in servers(rig))
    assert all(bridge.line() == b"" for bridge in bridges)
    assert [bridge.close() for bridge in bridges] == [0, 0]


def test_sigterm_stops_everything_and_the_recorder_notices(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    bridge.send(id=1, method="ping")
    bridge.receive()
    assert rig.proxy is not None
    rig.proxy.send_signal(signal.SIGTERM)
    assert rig.proxy.wait(60) == 0
    assert all(gone(pid) for pid in servers(rig))
    assert bridge.line() == b""
    assert rig.recorder is not None
    assert rig.recorder.close()["decisions"].errors == ("closed_early",)


def test_a_killed_proxy_leaves_agents_without_tools_and_a_mark_in_the_log(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    bridge.call(1, "slow", {"seconds": 30}, "tc")
    rig.wait_for("assay.tool.decision")
    assert rig.proxy is not None
    rig.proxy.kill()
    assert bridge.line() == b""
    assert bridge.close() == 0
    assert rig.recorder is not None
    assert rig.recorder.close()["decisions"].errors == ("closed_early",)
    for pid in servers(rig):  # in a container they die with process 1
        os.kill(pid, signal.SIGKILL)


def test_a_recorder_that_dies_stops_every_call(rig: "Rig", tmp_path: Path) -> None:
    """A stand-in for the host that can be killed: it takes the lines, acknowledges three, and is gone."""
    host = rig.stand_in()
    bridge = rig.bridge()
    host.settimeout(60)
    lines = host.makefile("rb")
    assert b"assay.proxy.ready" in lines.readline()
    host.send(b"\n")
    bridge.call(1, "echo", {}, "tc_1")
    assert b"assay.tool.decision" in lines.readline()
    host.send(b"\n")
    assert b"assay.tool.answered" in lines.readline()
    assert bridge.receive()["id"] == 1
    bridge.call(2, "echo", {}, "tc_2")
    assert b"assay.tool.decision" in lines.readline()
    lines.close()
    host.close()
    answer = bridge.receive()
    assert answer["id"] == 2
    assert answer["result"]["_meta"]["dev.assay.runner/rule"] == "recorder_gone"
    assert bridge.line() == b""
    assert rig.proxy is not None
    assert rig.proxy.wait(60) == 0
    assert [message["id"] for message in rig.forwarded()] == [1]


@pytest.mark.parametrize("acks", [b"\n" * 50, b"x"])
def test_a_recorder_that_breaks_the_protocol_opens_no_gate(rig: "Rig", acks: bytes) -> None:
    """Acknowledgements in advance would let calls through that nobody has recorded."""
    host = rig.stand_in()
    bridge = rig.bridge()
    bridge.call(1, "echo", {}, "tc_1")
    host.send(acks)
    assert rig.proxy is not None
    assert rig.proxy.wait(60) == 0
    assert rig.forwarded() == []
    host.close()


@pytest.mark.parametrize("tool", ["crash", "deaf"])
def test_a_server_that_fails_ends_its_connection_and_no_other(rig: "Rig", tool: str) -> None:
    rig.start()
    bridge, other = rig.bridge(), rig.bridge()
    other.send(id=1, method="ping")
    other.receive()
    bridge.call(1, tool, {}, "tc_1")
    if tool == "deaf":
        rig.wait_for("assay.tool.decision")
        while all(os.path.lexists(f"/proc/{pid}/fd/0") for pid in servers(rig)):
            time.sleep(0.01)  # until it hears nothing any more
        bridge.send(id=2, method="ping")
    assert bridge.line() == b""
    assert bridge.close() == 0
    end = time.monotonic() + 60
    while not any(gone(pid, 0.2) for pid in servers(rig)) and time.monotonic() < end:
        pass
    assert sum(gone(pid, 0.2) for pid in servers(rig)) == 1  # and reaped
    other.send(id=2, method="ping")
    assert other.receive()["id"] == 2
    again = rig.bridge()
    again.call(1, "echo", {}, "tc_2")
    assert again.receive()["id"] == 1
    assert [event["tool_call_id"] for event in rig.data("tool.answered")] == ["tc_2"]
    reason = "server_exited" if tool == "crash" else "server_reads_no_more"
    assert [event["reason"] for event in rig.data("server.ended")] == [reason]


def test_children_of_a_server_go_with_it(rig: "Rig") -> None:
    """A child that keeps the server's stdout open must not keep the connection open."""
    bridge = rig.start().bridge()
    bridge.call(1, "child", {}, "tc_1")
    assert bridge.line() == b""
    (pid,) = servers(rig)
    states = [entry.read_text().rpartition(")")[2].split() for entry in Path("/proc").glob("[0-9]*/stat")]
    assert [state for state, _, group, *_ in states if group == str(pid) and state not in "ZX"] == []


def test_orphans_are_reaped_as_process_1_must(rig: "Rig") -> None:
    """As a child subreaper the proxy inherits orphans, as process 1 of a container does."""
    rig.record()
    code = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); os.execv(sys.argv[1], sys.argv[1:])"
    argv = rig.proxy_argv(*rig.server_argv())
    rig.proxy = subprocess.Popen([argv[0], "-c", code, *argv], stderr=subprocess.PIPE)
    bridge = rig.bridge()
    bridge.call(1, "child", {}, "tc_1")
    assert bridge.line() == b""
    children = Path(f"/proc/{rig.proxy.pid}/task/{rig.proxy.pid}/children")
    end = time.monotonic() + 60
    while children.read_text() and time.monotonic() < end:
        time.sleep(0.01)
    assert children.read_text() == ""
    assert rig.stop().errors == ()


def test_the_end_of_the_agents_input_reaches_the_server_and_late_answers_the_agent(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    bridge.call(1, "slow", {"seconds": 0.3}, "tc_1")
    bridge.stdin.close()
    assert bridge.receive()["id"] == 1
    assert bridge.line() == b""
    assert bridge.process.wait(60) == 0
    assert [entry["what"] for entry in rig.received()] == ["start", "line", "end"]
    assert not rig.data("server.ended")  # nobody was left without it
    assert all(gone(pid) for pid in servers(rig))


def test_a_server_that_will_not_end_is_killed_once_nobody_hears_it(rig: "Rig") -> None:
    rig.start(server=rig.server_argv("--stubborn"))
    bridge = rig.bridge()
    bridge.send(id=1, method="ping")
    bridge.receive()
    (pid,) = servers(rig)
    bridge.process.kill()
    assert not gone(pid, 1)
    assert gone(pid)
    assert rig.stop().errors == ()
    assert [event["reason"] for event in rig.data("server.ended")] == ["server_did_not_end"]


def test_an_agent_that_hangs_up_with_messages_unread_harms_nobody(rig: "Rig") -> None:
    rig.start()
    bridge, other = rig.bridge(), rig.bridge()
    bridge.call(1, "big", {"size": 10_000_000}, "tc_1")
    rig.wait_for("assay.tool.answered")
    bridge.process.kill()
    other.call(1, "echo", {}, "tc_2")
    assert other.receive()["id"] == 1
    assert all(gone(pid) for pid in servers(rig)[:1])


def test_too_many_connections_are_refused(rig: "Rig") -> None:
    rig.start()
    connections = []
    for _ in range(40):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(rig.listen))
        connections.append(connection)
    rig.wait_for("assay.proxy.limited")
    assert connections[-1].recv(1) == b""
    for connection in connections:
        connection.close()
    bridge = rig.bridge()
    bridge.send(id=1, method="ping")
    assert bridge.receive()["id"] == 1
    limited = rig.data("proxy.limited")
    assert {event["reason"] for event in limited} == {"too_many_connections"}
    assert [event["connection"] for event in limited] == list(range(33, 41))


def test_a_server_that_cannot_be_started_ends_the_connection(rig: "Rig") -> None:
    rig.start(server=["/nonexistent/server"])
    bridge = rig.bridge()
    bridge.send(id=1, method="ping")
    assert bridge.line() == b""
    assert [event["reason"] for event in rig.data("server.ended")] == ["server_not_started"]
    assert rig.proxy is not None
    assert rig.proxy.stderr is not None
    assert b"cannot start /nonexistent/server: No such file or directory" in rig.proxy.stderr.read()


def run(argv: list[str]) -> tuple[int, str]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_bad_arguments_end_with_2_and_a_missing_recorder_with_1(rig: "Rig") -> None:
    argv = rig.proxy_argv("server")
    script = argv.index("--decisions")
    for wrong in (
        argv[:script],
        argv[:-1],
        argv[:-2],
        [*argv[:script], "--what", *argv[script:]],
        [*argv[:-2], "--source", "x", "--", "s"],
    ):
        code, text = run(wrong)
        assert code == 2
        assert "usage: proxy.py" in text
    assert run(argv) == (1, f"assay-proxy: no recorder at {rig.decisions}: No such file or directory\n")


@pytest.mark.parametrize("users", ["", "1", "1:x", "65534:65534", "0:65534", "65533:0", "-1:65534"])
def test_users_that_are_not_two_and_not_root_end_with_2(rig: "Rig", users: str) -> None:
    rig.record()
    code, text = run([*rig.proxy_argv("server")[:-2], "--users", users, "--", "server"])
    assert code == 2
    assert f"--users {users}:" in text


def test_a_bad_policy_ends_with_2(rig: "Rig") -> None:
    rig.policy.write_text('schema = "assay.runner.policy.v1"\n[[rule]]\nid = "a"\n')
    rig.record()
    assert run(rig.proxy_argv("server")) == (2, "assay-proxy: the policy: rule 'a': effect is None\n")


def test_a_host_that_hands_nothing_over_ends_it_with_1(rig: "Rig") -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(rig.decisions))
        listener.listen()
        process = subprocess.Popen(rig.proxy_argv("server"), stderr=subprocess.PIPE, text=True)
        listener.accept()[0].close()
    _, text = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "handed over no listener and policy" in text


def test_bad_arguments_of_the_bridge_end_with_2(rig: "Rig") -> None:
    argv = [*rig.proxy_argv("x")[:4], str(rig.installed / "bridge.py")]
    assert run(argv) == (2, "usage: bridge.py SOCKET\n")
    assert run([*argv, "a", "b"])[0] == 2
