"""For tests that break runs: the check that nothing is left on the machine, whatever was broken."""

from collections.abc import Iterator

import pytest

from harness.bench import Bench
from harness.host.state import State
from tests.faults.traces import within


@pytest.fixture(autouse=True)
def leaves_nothing(state: State, bench: Bench) -> Iterator[None]:
    """What is on the machine after a test was there before it."""
    with within(state):
        yield
