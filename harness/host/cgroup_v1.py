"""What an engine that uses version 1 controllers on a hybrid host makes of a run's slice in each of them.

Its runtime makes the same path in every hierarchy, and removes the containers' own folders only.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def remove(path: PurePosixPath, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """Remove this path, from the root of cgroup2, in each version 1 hierarchy, and the folder above if empty.

    What still has a process or another run in it stays.
    """
    for mount in _mounts(mountinfo):
        there = mount / path.relative_to("/")
        for folder, _, _ in os.walk(there, topdown=False):
            _rmdir(Path(folder))
        if there.parent.exists() and there.parent != mount:
            _rmdir(there.parent)


def _mounts(mountinfo: Path) -> Iterator[Path]:
    for line in mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")  # proc(5): optional fields end with " - "
        fields = before.split(" ")
        if after.split(" ", 1)[0] == "cgroup" and fields[3] == "/":
            yield Path(fields[4].replace("\\040", " "))


def _rmdir(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass  # not ours alone
