"""SIGKILL of the harness at any moment: the next start removes what is left, and measures cleanly."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.bench import Bench
from harness.host.state import State
from tests.faults.agents import new_run_id
from tests.faults.archives import read
from tests.faults.commands import in_state, run
from tests.faults.midrun import until
from tests.faults.traces import assert_gone, traces

pytestmark = pytest.mark.linux

# Moment -> what the killed run must have had on the machine then, so that the check can find it at all.
# Processes are there only if they are frozen: without its recorder the proxy ends, and with it the agent.
BEGUN = {"folder", "cgroup", "bpf"}
MOMENTS = {
    "loading": set[str](),
    "slice": {"folder", "cgroup"},
    "capture_armed": BEGUN,
    "containers_created": BEGUN | {"container"},
    "tools_ready": BEGUN | {"container"},
    "subject_started": BEGUN | {"container"},
    "frozen": BEGUN | {"container", "process", "mount"},
    "subject_ran": BEGUN | {"container"},
    "drained": {"folder", "cgroup", "container"},
    "writing": set[str](),
}


def start_and_die(state: State, before: frozenset[str], run_id: str, moment: str, output: Path) -> str:
    """What the dying harness said on stdout."""
    arguments = [str(state.root), run_id, moment, str(output)]
    died = subprocess.run(
        [sys.executable, "-m", "tests.faults.dies", *arguments],
        env=in_state(state),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, (moment, died.stderr)
    assert "passed" in died.stdout, (moment, died.stdout)
    # the capture process dies with it, and its programs are freed, but for what a cgroup holds
    until(lambda: not any("harness.capture.worker" in what for what in traces(state) - before))
    return died.stdout


@pytest.mark.breaks("guard:killed_harness")
@pytest.mark.alone  # whoever starts a run sweeps what dead ones left
@pytest.mark.timeout(900)  # a dozen starts, each of which compiles the capture program
def test_the_next_start_cleans_up_after_each_moment(bench: Bench, tmp_path: Path) -> None:
    """A chain, because a start is slow: each one cleans up after the one before, and dies later."""
    state, before = bench.state, traces(bench.state)
    left: frozenset[str] = frozenset()
    dead = ""
    for moment, kinds in MOMENTS.items():
        run_id, output = new_run_id(), tmp_path / f"{moment}.tar.gz"
        said = start_and_die(state, before, run_id, moment, output)
        assert (f"removed what the killed run {dead} left behind" in said) == bool(left), moment
        now = traces(state)
        assert sorted(left & now) == [], moment
        left, dead = now - before, run_id
        assert kinds <= {what.split()[0] for what in left}, moment
        assert list(tmp_path.iterdir()) == []  # not even of an archive that was being written
    run_id, output = new_run_id(), tmp_path / "last.tar.gz"
    done = run(state, "kernel-only", "--run-id", run_id, "-o", output)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == f"wrote {output} (run_id={run_id}, evidence=clean)"
    assert read(output).unclean == []
    assert_gone(state, before)
