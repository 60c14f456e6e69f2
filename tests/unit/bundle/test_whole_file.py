"""Whole or not there, however the writer ends, on file systems with and without files that have no name."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.bundle.whole_file import whole_file, write_whole
from harness.errors import EnvironmentUnfitError, InputError


@pytest.fixture(params=["no name", "a name"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the file system can have files without a name."""
    kind: str = request.param
    if kind == "a name":
        real = os.open

        def without(path: Any, flags: int, *more: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return real(path, flags, *more)

        monkeypatch.setattr(os, "open", without)
    return kind


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_is_there_once_it_is_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.bin"
    for data in (b"first", b"second"):
        with whole_file(path, "thing") as stream:
            stream.write(data)
            stream.flush()
            aside = [name for name in names(tmp_path) if name != "a.bin"]
            assert [name.endswith(".partial") for name in aside] == [True] * (kind == "a name")
            assert path.exists() == (data == b"second")
        assert path.read_bytes() == data
        assert names(tmp_path) == ["a.bin"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert path.stat().st_nlink == 1


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


@pytest.mark.usefixtures("kind")
def test_what_was_there_stays_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), whole_file(path, "thing") as stream:
        stream.write(b"%d" % (1 // 0))
    assert names(tmp_path) == ["a.bin"]
    assert path.read_bytes() == b"old"


@pytest.mark.usefixtures("kind")
def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    for path, error in (
        (tmp_path / "none" / "a.bin", InputError),
        (tmp_path, InputError),
        (Path("/proc/a.bin"), (InputError, EnvironmentUnfitError)),
    ):
        with pytest.raises(error) as caught, whole_file(path, "thing") as stream:
            stream.write(b"x")
        assert caught.value.place == str(path)
        assert caught.value.message.startswith("the thing could not be written: ")
    assert names(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from harness.bundle.whole_file import whole_file, write_whole
with whole_file(Path(sys.argv[1]), "thing") as stream:
    stream.write(b"half")
    stream.flush()
    os.fsync(stream.fileno())
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "a.bin"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert names(tmp_path) == []


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        write_whole(pipe, b"through", "thing")
        assert reader.communicate(timeout=60)[0] == b"through"
    assert pipe.is_fifo()
    with pytest.raises(EnvironmentUnfitError, match="No space left on device"):
        write_whole(Path("/dev/full"), b"x", "thing")
