"""Agents that flood a witness: stopped at a bound, archived small, not clean, and the archive says why."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bench import Bench
from harness.capture.session import CaptureOptions
from harness.contracts.bounds import MAX_CHANNEL_LINES, MIB
from harness.host.state import State
from harness.run import measure
from tests.faults.agents import agent, with_tools
from tests.faults.archives import ACCOUNTING, exit_code, read

pytestmark = pytest.mark.linux

# Failing opens by names of 4 KB, each another one, without an end.
OPENS = """
import itertools, os
name = "/" + "/".join(["d" * 200] * 19) + "/%d"
for number in itertools.count():
    try: os.open(name % number, os.O_RDONLY)
    except OSError: pass
"""
LINES = """
import os, _socket, time
s = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
s.connect(os.environ["ASSAY_RUNNER_SDK_SOCKET"])
try:
    while True: s.sendall(b'%s\\n' * 1000)
except OSError: pass
time.sleep(600)
"""
SMALL = 2 * MIB


@pytest.fixture(scope="module")
def narrow(state: State, bench: Bench) -> Iterator[Bench]:
    """A bench whose capture takes less, so that a test need not write half a gigabyte."""
    with Bench(state, print, CaptureOptions(most_bytes=48 * MIB)) as made:
        yield made


@pytest.mark.breaks("unclean:kernel:left_out", "unclean:capture:too_many_bytes")
def test_a_flood_of_long_names_is_stopped(narrow: Bench, tmp_path: Path) -> None:
    begun = time.monotonic()
    measured = measure(narrow, agent(narrow, OPENS, deadline_s=200)).write(tmp_path / "run.tar.gz")
    assert time.monotonic() - begun < 150  # and not at its deadline
    assert exit_code(measured) == 3
    archive = read(tmp_path / "run.tar.gz")
    assert archive.unclean == ["capture:too_many_bytes", "kernel:left_out"]
    assert (tmp_path / "run.tar.gz").stat().st_size < SMALL
    books = archive.members[ACCOUNTING]
    assert books["capture"]["received_bytes"] < 100 * MIB
    assert books["records"]["classes"]["left_out"] > 5_000
    assert all(identity["holds"] for identity in books["identities"])
    assert archive.finished["signal"] == 9


@pytest.mark.parametrize("line", ["", "{}"])
def test_a_flood_of_lines_is_stopped(bench: Bench, tmp_path: Path, line: str) -> None:
    plan = with_tools(bench, LINES % line, witnesses=("kernel", "sdk"))
    begun = time.monotonic()
    measured = measure(bench, plan).write(tmp_path / "run.tar.gz")
    assert time.monotonic() - begun < plan.subject.deadline_s
    assert exit_code(measured) == 3
    archive = read(tmp_path / "run.tar.gz")
    assert "sdk:too_many_lines" in archive.unclean
    assert (tmp_path / "run.tar.gz").stat().st_size < SMALL
    assert len(measured.observation.sdk_events.lines) == MAX_CHANNEL_LINES
    assert archive.finished["signal"] == 9
