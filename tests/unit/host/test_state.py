"""The state folder and the folders of runs: locks tell the living from the dead."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import EnvironmentUnfitError, InputError
from harness.host.state import RunFolder, State, claim_dead_runs, default_state, live_runs

HOLDER = (
    "import sys, time; from pathlib import Path; from harness.host.state import RunFolder, State\n"
    "RunFolder.create(State(Path(sys.argv[1])), 'held'); print('ready', flush=True); time.sleep(600)"
)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state").prepare()


def test_default_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSAY_RUNNER_STATE", str(tmp_path / "a" / ".." / "b"))
    assert default_state().root == tmp_path / "b"
    monkeypatch.delenv("ASSAY_RUNNER_STATE")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_state().root == Path("/var/lib/assay-runner")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    assert default_state().root == Path("/x/assay-runner")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/u")
    assert default_state().root == Path("/home/u/.local/state/assay-runner")


def test_prepare_is_private_and_repeatable(state: State) -> None:
    state.prepare()
    for folder in (state.engine, state.runs, state.cache, state.locks):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_prepare_that_cannot_be_done_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentUnfitError, match="ASSAY_RUNNER_STATE"):
        State(tmp_path / "file" / "state").prepare()


def test_a_run_lives_until_it_is_released(state: State) -> None:
    folder = RunFolder.create(state, "one")
    assert live_runs(state) == {"one"}
    assert claim_dead_runs(state) == []
    with pytest.raises(InputError, match="still there"):
        RunFolder.create(state, "one")
    folder.release()
    assert live_runs(state) == frozenset()
    [claimed] = claim_dead_runs(state)
    assert claimed.run_id == "one"
    assert claim_dead_runs(state) == []  # claimed once, not twice
    claimed.remove()
    assert list(state.runs.iterdir()) == []
    RunFolder.create(state, "one").remove()


def test_a_killed_holder_is_dead(state: State) -> None:
    argv = [sys.executable, "-c", HOLDER, str(state.root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        assert live_runs(state) == {"held"}
        holder.send_signal(signal.SIGKILL)
    [claimed] = claim_dead_runs(state)
    assert claimed.run_id == "held"
    claimed.remove()


def test_a_program_started_by_the_holder_does_not_keep_the_lock(state: State) -> None:
    folder = RunFolder.create(state, "one")
    with subprocess.Popen(["sleep", "600"]) as child:
        folder.release()
        [claimed] = claim_dead_runs(state)
        claimed.remove()
        child.kill()


def test_subfolder_has_exactly_its_mode(state: State) -> None:
    folder = RunFolder.create(state, "one")
    before = os.umask(0o077)
    try:
        made = folder.subfolder("decisions", mode=0o777)
    finally:
        os.umask(before)
    assert made.stat().st_mode & 0o777 == 0o777
    assert folder.subfolder("decisions", mode=0o755) == made
    folder.remove()


def test_lock_excludes(state: State, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from harness.host.state import State\n"
        "with State(Path(sys.argv[1])).locked('engine'): print('in', flush=True)"
    )
    with state.locked("engine"):
        argv = [sys.executable, "-c", code, str(state.root)]
        other = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=0.5)
    assert other.communicate(timeout=60)[0] == "in\n"


def test_scratch_is_empty_and_gone_afterwards_and_takes_what_a_killed_one_left(state: State) -> None:
    stale = state.root / "scratch-replay-killed"
    (stale / "kit").mkdir(parents=True)
    other = state.root / "scratch-kit-alive"
    other.mkdir()
    with state.scratch("replay") as folder:
        assert not stale.exists()
        assert folder.is_dir()
        assert not list(folder.iterdir())
        (folder / "x").write_text("x")
    assert not folder.exists()
    assert other.is_dir()
    with pytest.raises(ZeroDivisionError), state.scratch("replay") as folder:
        _ = 1 / 0
    assert not folder.exists()
