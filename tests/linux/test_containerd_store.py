"""Docker's containerd image store, which names images by manifests: a row of docs/engines.md."""

from pathlib import Path

import pytest

from harness.host.state import State
from tests.engines.daemons import running
from tests.engines.rows import CONTAINERD
from tests.engines.series import At, check_row

pytestmark = pytest.mark.linux


def test_everything_passes_with_the_ids_of_the_locks(state: State, probe: Path, tmp_path: Path) -> None:
    with running(CONTAINERD) as url:
        check_row(CONTAINERD, At(url), state, probe, tmp_path)
