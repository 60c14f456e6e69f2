"""What takes minutes to make is made once: kept by a digest of what it is made from.

Everything is below `hosts/` of the state folder's cache. A maker holds a lock, works in a folder beside, and
renames it when all is there; what a killed one left is removed by the next.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from harness.host.state import default_state

SECONDS = "seconds"  # file of each: how long making it took
_MOST = 3  # kept ones of a name, beside a new one


def folder() -> Path:
    """Where it is, made if need be."""
    made = default_state().prepare().cache.resolve() / "hosts"
    made.mkdir(mode=0o700, exist_ok=True)
    return made


def digest(*parts: bytes | str | Path) -> str:
    """Of texts, and of files' contents, in this order."""
    whole = hashlib.sha256()
    for part in parts:
        data = (
            part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        )
        whole.update(hashlib.sha256(data).digest())
    return whole.hexdigest()[:16]


def kept(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` made from what `key` is the digest of: there already, or filled by `make`."""
    place = folder() / f"{name}-{key}"
    with _locked(name):
        if not place.exists():
            aside = folder() / f"{name}.part"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            begun = time.monotonic()
            make(aside)
            (aside / SECONDS).write_text(f"{time.monotonic() - begun:.0f}\n", encoding="ascii")
            for old in _by_age(name)[:-_MOST]:
                shutil.rmtree(old)
            aside.rename(place)
        os.utime(place)
    return place


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A folder while the body runs; those of killed processes are removed first."""
    with ExitStack() as stack:
        with _locked(f"{name}-scratch"):  # a new one is not to be taken for a dead one's
            for old in folder().glob(f"{name}-scratch-*/"):
                _remove_if_dead(old)
            made = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{name}-scratch-", dir=folder()))
            )
            flock(stack.enter_context((made / "alive").open("w")), LOCK_EX)
        yield made


def _remove_if_dead(old: Path) -> None:
    with (old / "alive").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return
        shutil.rmtree(old)


def _by_age(name: str) -> list[Path]:
    length = len(name) + 17
    found = [path for path in folder().glob(f"{name}-*") if len(path.name) == length]
    return sorted(found, key=lambda path: path.stat().st_mtime)


@contextmanager
def _locked(name: str) -> Iterator[None]:
    with (folder() / f"{name}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield
