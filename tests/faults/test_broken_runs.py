"""Runs that go wrong half-way: each leaves a whole archive that says so, and the right exit code."""

import gc
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from attrs import evolve

from harness.bench import Bench
from harness.capture import session
from harness.capture.records import decode
from harness.engine import daemon
from harness.engine.containers import sweep_dead_runs
from harness.errors import EnvironmentUnfitError, InputError
from harness.evidence.model import Role
from harness.host.cgroup import Slice
from harness.host.state import State, default_state
from harness.run import measure
from harness.spec import ToolsSpec
from tests.faults.agents import CALLS_AND_WAITS, NOTHING, UNTIL_LET_GO, WAITS, agent, with_tools
from tests.faults.archives import ACCOUNTING, HEALTH, exit_code, told
from tests.faults.midrun import first_process, is_ready, let_go, meanwhile, until
from tests.faults.traces import assert_gone, held_programs, traces

pytestmark = pytest.mark.linux

ENDS_ON_SIGTERM = f"import signal\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(7))\n{UNTIL_LET_GO}"
GARBAGE = """
import os, _socket
s = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
s.connect(os.environ["ASSAY_RUNNER_SDK_SOCKET"])
s.sendall(b'\\xff\\xfe no JSON\\n{"schema": "something.else"}\\nwithout an end')
"""


@pytest.mark.breaks("unclean:proxy_failed")
def test_the_proxy_is_killed(bench: Bench, tmp_path: Path) -> None:
    plan = with_tools(bench, CALLS_AND_WAITS)
    run_id = plan.spec.run_id

    def kill() -> None:
        until(lambda: is_ready(bench.state, run_id))
        pid = first_process(run_id, Role.TOOLS)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    with meanwhile(kill):
        measured = measure(bench, plan)
    assert exit_code(measured) == 3
    archive = told(measured, tmp_path)
    assert archive.unclean == ["decisions:closed_early", "proxy_failed"]
    assert archive.finished["success"] is True  # the agent itself did nothing wrong
    # what had been decided and read before is all there, and the kernel's view is not touched by it
    assert archive.members["capability-surface.json"]["policy_decisions"] == ["allow:read_file"]
    assert archive.actions("/workspace/policy-input.txt") == {("read", "done", ("tools",))}
    assert archive.members[HEALTH]["kernel_layer"] == "complete"


def test_the_agent_is_killed(bench: Bench, tmp_path: Path) -> None:
    plan = agent(bench, WAITS)

    def kill() -> None:
        until(lambda: is_ready(bench.state, plan.spec.run_id))
        pid = first_process(plan.spec.run_id, Role.SUBJECT)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    with meanwhile(kill):
        measured = measure(bench, plan)
    assert exit_code(measured) == 6
    archive = told(measured, tmp_path)
    assert archive.unclean == []
    ended = archive.finished
    assert (ended["exit_code"], ended["signal"], ended["success"]) == (None, signal.SIGKILL, False)
    assert archive.actions("/workspace/ready") == {
        ("create", "done", ("subject",)),
        ("write", "done", ("subject",)),
    }


def test_the_agent_fails(bench: Bench, tmp_path: Path) -> None:
    measured = measure(bench, agent(bench, "print('what went wrong'); raise SystemExit(9)"))
    assert exit_code(measured) == 6
    archive = told(measured, tmp_path)
    assert archive.unclean == []
    assert (archive.finished["exit_code"], archive.finished["success"]) == (9, False)


def test_the_agent_hangs(bench: Bench, tmp_path: Path) -> None:
    begun = time.monotonic()
    measured = measure(bench, agent(bench, WAITS, deadline_s=2))
    assert time.monotonic() - begun >= 2
    assert exit_code(measured) == 6
    archive = told(measured, tmp_path)
    assert archive.unclean == []
    assert archive.members[ACCOUNTING]["timed_out"] is True
    assert (archive.finished["signal"], archive.finished["success"]) == (signal.SIGKILL, False)
    assert archive.finished["window_elapsed_ms"] >= 2000


def test_the_agent_hangs_with_tools(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tools are stopped in order although the agent was not."""
    plan = with_tools(bench, CALLS_AND_WAITS)
    wait_empty = Slice.wait_empty

    def after_its_call(slice_: Slice, role: Role | None = None, *, timeout_s: float) -> bool:
        until(lambda: is_ready(bench.state, plan.spec.run_id))
        return wait_empty(slice_, role, timeout_s=timeout_s)

    monkeypatch.setattr(Slice, "wait_empty", after_its_call)
    measured = measure(bench, evolve(plan, subject=evolve(plan.subject, deadline_s=1)))
    archive = told(measured, tmp_path)
    assert (exit_code(measured), archive.unclean) == (6, [])
    assert archive.members[ACCOUNTING]["timed_out"] is True


@pytest.mark.breaks("unclean:missing_witness:sdk")
def test_the_agent_says_nothing(bench: Bench, tmp_path: Path) -> None:
    """It ends well, but the witnesses that the run declared have nothing to tell."""
    measured = measure(bench, with_tools(bench, NOTHING, witnesses=("kernel", "policy", "sdk")))
    assert exit_code(measured) == 3
    archive = told(measured, tmp_path)
    assert archive.unclean == ["missing_witness:policy", "missing_witness:sdk"]
    health = archive.members[HEALTH]
    assert (health["kernel_layer"], health["policy_layer"], health["sdk_layer"]) == (
        "complete",
        "absent",
        "absent",
    )


@pytest.mark.breaks("unclean:sdk:InvalidJson", "unclean:sdk:")
def test_the_agent_writes_garbage_to_its_event_socket(bench: Bench, tmp_path: Path) -> None:
    plan = with_tools(bench, GARBAGE, witnesses=("kernel", "sdk"))
    measured = measure(bench, plan)
    assert exit_code(measured) == 3
    archive = told(measured, tmp_path)
    assert archive.unclean == [
        "missing_witness:sdk",
        "sdk:InvalidJson",
        "sdk:UnexpectedSchema",
        "sdk:incomplete_last_line",
    ]
    assert archive.members["layers/sdk.ndjson"] == []
    places = archive.members[ACCOUNTING]["problems"]
    assert [place.split(":")[0] for place in places] == ["sdk line 1", "sdk line 2"]


def test_the_server_cannot_be_started(bench: Bench, tmp_path: Path) -> None:
    """The proxy is there, its server is not: the agent fails, and the kernel tells why."""
    tools = ToolsSpec(server=("/opt/nowhere/server",), legacy=True)
    measured = measure(bench, with_tools(bench, CALLS_AND_WAITS, tools=tools))
    assert exit_code(measured) == 6
    archive = told(measured, tmp_path)
    assert archive.unclean == ["missing_witness:policy"]
    tried = archive.operations("exec", "/opt/nowhere/server")
    assert {(line["role"], line["outcome"]) for line in tried} == {("tools", "ENOENT")}


@pytest.mark.breaks("unclean:proxy_not_ready")
def test_the_proxy_is_never_ready(bench: Bench, tmp_path: Path) -> None:
    """Its policy turned bad after it had been checked: the agent is not even started."""
    policy = tmp_path / "policy.toml"
    plan = evolve(with_tools(bench), policy=policy)
    policy.write_text("default = 'perhaps'\n")
    measured = measure(bench, plan)
    assert exit_code(measured) == 3
    assert measured.phases["tools_ready"] < 20_000  # it was waited for no longer than it lived
    archive = told(measured, tmp_path)
    assert "proxy_not_ready" in archive.unclean
    assert "proxy_failed" in archive.unclean
    assert archive.members["capability-surface.json"]["process_execs"] == []
    assert not any(line["role"] == "subject" for line in archive.kernel)
    assert archive.finished["success"] is False
    assert "policy" in measured.output[Role.TOOLS].text


def test_the_policy_is_gone_before_the_start(bench: Bench, tmp_path: Path) -> None:
    plan = evolve(with_tools(bench), policy=tmp_path / "gone.toml")
    with pytest.raises(InputError, match=r"gone\.toml"):
        measure(bench, plan)


def test_an_agent_that_is_not_in_the_image(bench: Bench) -> None:
    plan = agent(bench, NOTHING)
    command = ("/usr/bin/nowhere",)
    plan = evolve(
        plan, subject=evolve(plan.subject, command=command), spec=evolve(plan.spec, command=command)
    )
    with pytest.raises(InputError, match="nowhere"):
        measure(bench, plan)


def test_the_second_container_cannot_be_created(bench: Bench) -> None:
    """The first one, which was, is not forgotten."""
    plan = with_tools(bench)
    with pytest.raises(EnvironmentUnfitError, match="subject container cannot be created"):
        measure(bench, evolve(plan, subject=evolve(plan.subject, command=())))


@pytest.mark.breaks("unclean:capture:capture_process_died")
def test_the_capture_process_is_killed(state: State, tmp_path: Path) -> None:
    with Bench(state, print) as own:
        plan = agent(own, UNTIL_LET_GO)
        assert len(held_programs_of(own)) >= 13
        spool = state.runs / plan.spec.run_id / "kernel.raw"

        def kill() -> None:
            until(lambda: is_ready(state, plan.spec.run_id))
            until(lambda: any(r.walked == b"/workspace/ready" for r in decode(spool.read_bytes()).records))
            os.kill(own.capture.pid, signal.SIGKILL)
            let_go(state, plan.spec.run_id)

        with meanwhile(kill):
            measured = measure(own, plan)
    assert exit_code(measured) == 3
    archive = told(measured, tmp_path)
    assert "capture:capture_process_died" in archive.unclean
    assert "sentinel_missing" in archive.unclean
    assert archive.members[HEALTH]["kernel_layer"] == "absent"
    # what had arrived before it died is not thrown away
    assert archive.actions("/workspace/ready") != set()


def test_the_capture_process_answers_too_late(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is not clean, and what comes late is not taken for an answer to the next run."""
    with Bench(state, print) as own:
        plan = agent(own, UNTIL_LET_GO)

        def lose_patience() -> None:
            until(lambda: is_ready(state, plan.spec.run_id))
            os.kill(own.capture.pid, signal.SIGSTOP)
            monkeypatch.setattr(session, "_ANSWER_TIMEOUT", 0.001)
            let_go(state, plan.spec.run_id)

        with meanwhile(lose_patience):
            measured = measure(own, plan)
        monkeypatch.undo()
        assert exit_code(measured) == 3
        assert "capture:capture_process_died" in told(measured, tmp_path).unclean
        with pytest.raises(EnvironmentUnfitError, match="capture process died"):
            measure(own, agent(own, NOTHING))


def held_programs_of(bench: Bench) -> set[int]:
    _ = bench.capture.facts
    return held_programs(bench.capture.pid)


@pytest.fixture(scope="module")
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """A state folder whose engine may be broken."""
    root = tmp_path_factory.mktemp("s")
    (root / "cache").symlink_to(default_state().cache)
    made = State(root).prepare()
    yield made
    daemon.stop_engine(made)


@pytest.mark.breaks("unclean:engine_lost")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # the SDK's, when nobody listens
def test_the_engine_goes_away(own_state: State, tmp_path: Path) -> None:
    """Killed, it can end nothing; stopped, it ends its containers: the kernel sees all of both."""
    before = traces(own_state)
    with Bench(own_state, print) as bench:
        for number, code in ((signal.SIGKILL, 0), (signal.SIGTERM, 7)):
            assert exit_code(measure(bench, agent(bench, NOTHING))) == 0
            plan = agent(bench, ENDS_ON_SIGTERM)
            with meanwhile(partial(end_engine, own_state, plan.spec.run_id, number)):
                measured = measure(bench, plan)
            gc.collect()
            assert exit_code(measured) == 3
            archive = told(measured, tmp_path)
            assert archive.unclean == ["engine_lost"]
            assert archive.members[HEALTH]["kernel_layer"] == "complete"
            assert archive.finished["exit_code"] == code
            assert archive.actions("/workspace/ready") != set()
            # as the next start does
            daemon.ensure_engine(own_state).close()
            assert sweep_dead_runs(bench.client, own_state) == [plan.spec.run_id]
        assert exit_code(measure(bench, agent(bench, NOTHING))) == 0
    assert_gone(own_state, before)


def end_engine(state: State, run_id: str, number: signal.Signals) -> None:
    until(lambda: is_ready(state, run_id))
    pid = daemon.engine_status(state).pid
    assert pid is not None
    os.kill(pid, number)
    if number == signal.SIGKILL:
        let_go(state, run_id)
