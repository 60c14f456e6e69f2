"""A session that is killed leaves nothing: no machine, no mount, no namespace. Part of `nox -s hosts`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts import boot, store
from tests.hosts.roots import ALONE, ROOT

# A machine that is not even started, and a process that waits where disks are made, with a mount of its own.
_MACHINE = f"""
import time
from pathlib import Path
from tests.hosts import boot, store
with boot._running(["{boot.QEMU}", "-nodefaults", "-display", "none", "-S", "-name", "MARK"], Path("FOLDER")):
    time.sleep(600)
"""
_MAKER = f"""
import subprocess
script = "mount -t tmpfs MARK FOLDER; sleep 600; exit 0"
subprocess.run([*{ALONE!r}, "/bin/sh", "-c", script, "MARK"])
"""


def _with(mark: str) -> list[int]:
    """Processes that carry it on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it has ended
    return found


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("code", "least"), [(_MACHINE, 2), (_MAKER, 3)])
def test_what_a_killed_session_started_goes_with_it(code: str, least: int, tmp_path: Path) -> None:
    mark = f"killed-{os.getpid()}-{least}"
    code = code.replace("MARK", mark).replace("FOLDER", str(tmp_path))
    session = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    _until(lambda: len(_with(mark)) >= least)
    session.send_signal(signal.SIGKILL)
    session.wait()
    _until(lambda: not _with(mark))
    assert mark not in Path("/proc/mounts").read_text(encoding="utf-8")


def test_what_a_killed_session_left_on_disk_is_removed_by_the_next(tmp_path: Path) -> None:
    name = f"test{os.getpid()}"
    code = f"""
import time
from tests.hosts import store
with store.scratch({name!r}):
    time.sleep(600)
"""
    session = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        _until(lambda: list(store.folder().glob(f"{name}-scratch-*/alive")))
        (left,) = store.folder().glob(f"{name}-scratch-*/")
        with store.scratch(name) as beside:
            assert left.is_dir(), "a live one's is left alone"
        assert not beside.exists()
    finally:
        session.kill()
        session.wait()
    with store.scratch(name):
        assert not left.exists()
    (store.folder() / f"{name}-scratch.lock").unlink()
