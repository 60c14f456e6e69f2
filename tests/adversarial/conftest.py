"""The same bench and the same check for leftovers as the tests that break runs have."""

from tests.faults.conftest import bench, leaves_nothing, mark
from tests.linux.conftest import probe, state

__all__ = ["bench", "leaves_nothing", "mark", "probe", "state"]
