"""What all tests on the real machine share: one state folder, its private engine, one loaded capture program.

Imported where a machine is needed, so that the pure tests run without Docker's SDK.
"""

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from harness.host.cgroup import find_root
from harness.host.state import State, default_state

if TYPE_CHECKING:
    import docker

    from harness.bench import Bench

_LOCKS = Path("/run/assay-runner-tests")
_ALIVE = "session"  # in a session's state folder, locked as long as the session lives
MARK = "ASSAY_RUNNER_FAULTS"  # environment variable of all processes that a test session starts


def _lock(name: str) -> IO[str]:
    """A lock of this host, not of a checkout: two may be tested at once."""
    _LOCKS.mkdir(mode=0o700, exist_ok=True)
    return (_LOCKS / name).open("w")


@pytest.fixture(autouse=True)
def turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test marked `alone` has this host to itself, among all tests of any checkout that use the host.

    Who waits to be alone lets nobody else in before (the first lock), so it waits for one test at most.
    """
    if request.node.get_closest_marker("linux") is None:
        yield
        return
    kind = fcntl.LOCK_EX if request.node.get_closest_marker("alone") else fcntl.LOCK_SH
    with _lock("inside") as inside, _lock("door") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(inside, kind)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


@contextmanager
def own_state() -> Iterator[State]:
    """A state folder with a short name that goes with its session, or with a later one if that is killed."""
    sweep_killed_sessions()
    with _lock("sessions") as sessions:
        fcntl.flock(sessions, fcntl.LOCK_EX)
        root = Path(tempfile.mkdtemp(prefix="assay-", dir="/tmp"))
        alive = (root / _ALIVE).open("w")
        fcntl.flock(alive, fcntl.LOCK_EX)
    with alive:
        yield State(root)
        _end(State(root))


def sweep_killed_sessions() -> None:
    """End the engines of sessions that are gone, with what these had in them, and remove their folders."""
    with _lock("sessions") as sessions:
        fcntl.flock(sessions, fcntl.LOCK_EX)
        for place in Path("/tmp").glob(f"assay-*/{_ALIVE}"):
            with place.open() as alive:
                try:
                    fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # it is at it
                _end(State(place.parent))


def _end(state: State) -> None:
    from harness.engine import daemon
    from harness.engine.containers import sweep_dead_runs

    if daemon.engine_status(state).answering:
        with closing(daemon.ensure_engine(state)) as client:
            sweep_dead_runs(client, state)
    daemon.stop_engine(state)
    shutil.rmtree(state.root)


@pytest.fixture(scope="session")
def state() -> Iterator[State]:
    """A state folder of this session; downloads come from the default state's cache."""
    os.environ.setdefault(MARK, uuid.uuid4().hex)
    with own_state() as made:
        (made.root / "cache").symlink_to(default_state().prepare().cache)
        yield made.prepare()
    try:
        (find_root().mount / "docker").rmdir()  # the engine's, for containers without a slice
    except OSError:
        pass  # there is none, or another engine uses it


@pytest.fixture(scope="session")
def engine(state: State) -> "Iterator[docker.DockerClient]":
    """A client of this session's private engine."""
    from harness.engine import daemon

    client = daemon.ensure_engine(state)
    yield client
    client.close()
    daemon.stop_engine(state)


@pytest.fixture(scope="session")
def bench(state: State, engine: "docker.DockerClient") -> "Iterator[Bench]":
    """A bench for runs that break nothing but themselves."""
    from harness.bench import Bench

    with Bench(state, print) as made:
        _ = made.capture.facts  # loaded: from here on its programs and processes stay the same
        yield made
