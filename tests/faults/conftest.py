"""What tests that break runs share: one state folder with its private engine, one bench, and the
check that nothing is left on the machine, whatever was broken.
"""

import os
import uuid
from collections.abc import Iterator

import pytest

from harness.bench import Bench
from harness.host.state import State
from tests.faults.traces import MARK, within
from tests.linux.conftest import state

__all__ = ["state"]


@pytest.fixture(scope="session", autouse=True)
def mark() -> None:
    """All processes that these tests start can be told from others by a variable of their environment."""
    os.environ.setdefault(MARK, uuid.uuid4().hex)


@pytest.fixture(scope="session")
def bench(state: State) -> Iterator[Bench]:
    """A bench for runs that break nothing but themselves."""
    with Bench(state, print) as made:
        _ = made.capture.facts  # loaded: from here on its programs and processes stay the same
        yield made


@pytest.fixture(autouse=True)
def leaves_nothing(state: State, bench: Bench) -> Iterator[None]:
    """What is on the machine after a test was there before it."""
    with within(state):
        yield
