"""A test session that is killed leaves an engine and a folder; the next session removes both."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.engine.daemon import engine_status
from harness.host.state import State
from harness.plan import FIXTURES
from tests.machine import sweep_killed_sessions

pytestmark = pytest.mark.linux

SESSION = """
from harness.engine import daemon
from tests.machine import own_state
with own_state() as state:
    daemon.ensure_engine(state.prepare()).close()
    print(state.root, flush=True)
    input()
"""


def test_the_next_session_ends_what_a_killed_one_left(state: State) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SESSION],
        cwd=FIXTURES.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as session:
        assert session.stdout is not None
        left = State(Path(session.stdout.readline().strip()))
        sweep_killed_sessions()
        assert engine_status(left).answering
        session.send_signal(signal.SIGKILL)
    assert engine_status(left).answering
    sweep_killed_sessions()
    assert engine_status(left).pid is None
    assert not left.root.exists()
    assert state.root.exists()
