"""Each row of docs/engines.md, with the engine that it names: `nox -s engines` (root)."""

import subprocess
import time
from pathlib import Path

import pytest

from harness.host.state import State
from tests.engines.daemons import running
from tests.engines.rows import PODMAN_SYSTEMD, ROWS, SYSTEMD, Row
from tests.engines.series import At, check_refusal, check_row, command, environment, said
from tests.engines.systemd import booted

BELOW_SYSTEMD = (SYSTEMD, PODMAN_SYSTEMD)
pytestmark = [pytest.mark.linux, pytest.mark.timeout(900)]


@pytest.mark.parametrize("row", [row for row in ROWS if row not in BELOW_SYSTEMD], ids=lambda row: row.name)
def test_row(row: Row, state: State, probe: Path, tmp_path: Path) -> None:
    with running(row) as url:
        if row.refused:
            check_refusal(row, At(url), state, tmp_path)
        else:
            check_row(row, At(url), state, probe, tmp_path)


@pytest.mark.parametrize("row", BELOW_SYSTEMD, ids=lambda row: row.name)
def test_below_systemd_no_unit_is_left(row: Row, state: State, probe: Path, tmp_path: Path) -> None:
    """Also none of a run that was killed, once the next one has started."""
    with booted(row) as host:
        at = At(host.url, host.join)
        check_row(row, at, state, probe, tmp_path)
        said(state, at, "gate", "kernel-only", "--runs", "20", "-o", tmp_path / "twenty")
        assert host.units() == []

        image = said(state, at, "image", "build", "kernel-only").split()[0]
        sleeps = ("--", "/usr/bin/python3.11", "-c", "import time; time.sleep(600)")
        arguments = command(at, "run", "--image", image, "-o", tmp_path / "killed.tar.gz", *sleeps)
        with subprocess.Popen(arguments, env=environment(state, at)) as killed:
            deadline = time.monotonic() + 60
            while len(host.units()) < 2 and time.monotonic() < deadline:
                time.sleep(0.1)
            killed.kill()
        assert len(host.units()) >= 2, "what is counted is there while a run lasts, and after its harness"
        said(state, at, "run", "kernel-only", "-o", tmp_path / "after.tar.gz")
        assert host.units() == []
