"""Names as the kernel gave them, made absolute, normal, and free of what varies between runs.

Failed operations, and operations on names, carry the program's own string: it is joined to the
walked directory and normalised lexically, so a symlink before ".." is not followed here.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from harness.evidence.model import Flag, KernelRecord
from harness.evidence.syscalls import EFAULT, ENOENT, MAY_BE_EMPTY

ProcessName = Callable[[int], str]  # in-container pid, as seen by the record's process -> its label

_PROC_PID = re.compile(rb"^/proc/(\d+)(?=/|$)")
_PROC_THREAD = re.compile(rb"^(/proc/[^/]+/task)/\d+(?=/|$)")
_DESCRIPTOR = re.compile(rb"^(/proc/[^/]+(?:/task/<thread>)?/(?:fd|fdinfo)|/dev/fd)/\d+(?=/|$)")
# Links to objects of the kernel, whatever they say (proc_pid_fd(5) and its like), and /dev's to them.
_MAGIC = re.compile(
    rb"^/proc/[^/]+(?:/task/[^/]+)?/(?:cwd|exe|root|fd|map_files)(?:/|$)|^/dev/(?:fd|stdin|stdout|stderr)(?:/|$)"
)
_NAMELESS = re.compile(rb"/#\d+$")  # O_TMPFILE: its inode number


def path_of(record: KernelRecord, name_of: ProcessName) -> bytes | None:
    """The object of a record as a container path; None where there was no name to read.

    `detached:` stands before a walk that ended outside the process's root (memfd, pipes).
    """
    path = _joined(record)
    if path is None:
        return None
    if record.flags & Flag.UNLINKED:
        path = _NAMELESS.sub(b"/#tmpfile", path)
    return without_numbers(path, name_of)


def _joined(record: KernelRecord) -> bytes | None:
    walked = normal(record.walked) if record.walked else b""
    if record.flags & Flag.DETACHED and walked:
        walked = b"detached:" + walked
    if record.flags & Flag.OBJECT:
        return walked or None
    if not record.raw:
        if MAY_BE_EMPTY.get(record.syscall) != record.part:
            return None  # an empty name of any other call names nothing
        # No name: the descriptor itself (AT_EMPTY_PATH, or a null pointer of utimensat) ...
        gone = ENOENT if not record.flags & Flag.UNREADABLE else EFAULT
        return walked if walked and record.result != -gone else None  # ... or an error
    if record.raw.startswith(b"/"):
        return normal(record.raw)
    prefix, slash, base = walked.partition(b"/")
    joined = normal(slash + base + b"/" + record.raw) if slash else normal(record.raw)
    return prefix + joined


def normal(path: bytes) -> bytes:
    """`path` without "//", "." and "..", lexically; ".." above the root stays at the root."""
    absolute = path.startswith(b"/")
    if absolute and b"//" not in path and b"/." not in path and not path.endswith(b"/"):
        return path  # as nearly all are
    kept: list[bytes] = []
    for part in path.split(b"/"):
        if part == b".." and kept and kept[-1] != b"..":
            kept.pop()
        elif part == b".." and absolute:
            continue
        elif part not in (b"", b"."):
            kept.append(part)
    joined = b"/".join(kept)
    return b"/" + joined if absolute else joined or b"."


def without_numbers(path: bytes, name_of: ProcessName) -> bytes:
    """Process, thread and descriptor numbers of /proc and /dev/fd by name instead."""
    if not path.startswith((b"/proc/", b"/dev/fd/")):
        return path
    path = _PROC_PID.sub(lambda found: b"/proc/" + name_of(int(found[1])).encode(), path)
    path = _PROC_THREAD.sub(rb"\1/<thread>", path)
    return _DESCRIPTOR.sub(rb"\1/<fd>", path)


def magic(path: bytes) -> bool:
    """Does the normal `path` go through a link of the kernel that may lead anywhere?"""
    return _MAGIC.search(path) is not None


def text(path: bytes) -> str:
    """For people and for v0: bytes that are no UTF-8 become U+FFFD (contracts §4.3)."""
    return path.decode("utf-8", "replace")


def hex_if_lossy(path: bytes) -> str | None:
    """All bytes of a path as hex, where `text` cannot show them."""
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return path.hex()
    return None


def below(path: bytes, folders: tuple[bytes, ...]) -> bool:
    """Is the normal `path` one of these, or below one?"""
    return any(path == folder or path.startswith(folder + b"/") for folder in folders)


def within(path: bytes, *folders: str) -> bool:
    """Is `path` one of the folders (without trailing slash) or below it?"""
    return (path + b"/").startswith(_prefixes(folders))


@lru_cache(64)
def _prefixes(folders: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(folder.rstrip("/").encode() + b"/" for folder in folders)
