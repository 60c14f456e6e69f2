"""Doing something to a run while it is going on."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from harness.evidence.model import Role
from harness.host.cgroup import FAMILY, Slice, choose_parent, find_root
from harness.host.state import State

TIMEOUT_S = 60.0
T = TypeVar("T")


@contextmanager
def meanwhile(action: Callable[[], object]) -> Iterator[None]:
    """Do `action` in another thread while the body runs; what it raises is raised here."""
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(action)
        yield
        doing.result(TIMEOUT_S)


def until(condition: Callable[[], T]) -> T:
    """Wait for a true value, looking often; AssertionError after TIMEOUT_S."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.002)
    return found


def slice_of(run_id: str) -> Slice:
    """A run's slice to look at, whether it is there or not."""
    root = find_root()
    return Slice(root, run_id, choose_parent(root) / FAMILY / run_id, -1)


def first_process(run_id: str, role: Role) -> int | None:
    """Host pid of the program that is process 1 of the role's container, once it runs."""
    for pid in slice_of(run_id).pids(role):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            program = Path(f"/proc/{pid}/exe").readlink()
        except OSError:
            continue
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
        if numbers[-1] == "1" and program.name == "python3.11":
            return pid
    return None


def let_go(state: State, run_id: str) -> None:
    """Let an agent go on that waits for it (agents.UNTIL_LET_GO)."""
    pipe = os.open(state.runs / run_id / "workspace" / "go", os.O_RDWR)
    os.write(pipe, b"x")
    os.close(pipe)


def is_ready(state: State, run_id: str) -> bool:
    """Has the agent said that it has begun?"""
    return (state.runs / run_id / "workspace" / "ready").exists()
