"""The same check for leftovers as the tests that break runs have."""

from tests.faults.conftest import leaves_nothing
from tests.linux.conftest import probe

__all__ = ["leaves_nothing", "probe"]
