"""The probe program is that of the other tests on the machine."""

from tests.linux.conftest import probe

__all__ = ["probe"]
