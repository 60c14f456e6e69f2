"""A proof pack's files, as a folder or as one tar; packs come from strangers, so all is bounded.

The tar has one possible form: a USTAR header per file (POSIX.1-2017, pax: ustar), sorted, time 0, two zero
blocks at the end. The reader makes the header that each file must have and compares all of it.
"""

import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from harness.bundle.layout import BLOCK, END, padding
from harness.contracts.proof_pack import CHECKSUMS, MANIFEST, PAYLOAD
from harness.errors import InputError, VerificationError

MIB = 1 << 20
MAX_FILE = 100 * MIB
MAX_PACK = 1024 * MIB
MAX_FILES = 20_000
MAX_DEPTH = 8
_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_HINT = "the pack is damaged or was changed: get it again from where it was made"


def read_pack(path: Path) -> dict[str, bytes]:
    """Path in the pack -> bytes, sorted; InputError when there is nothing to read, VerificationError
    (codes of contracts §1.7) for what no pack holds."""
    try:
        files = dict(_folder(path) if path.is_dir() else _tar(path))
    except FileNotFoundError:
        raise InputError("no such proof pack", place=str(path), hint="check the path") from None
    except PermissionError:
        raise InputError("may not be read", place=str(path), hint="ask for read permission") from None
    except OSError as error:
        raise _failure("IntegrityIo", f"cannot be read: {error.strerror}", str(path)) from None
    if MANIFEST not in files:
        raise _failure("ContractMissingManifest", f"{MANIFEST} is missing", str(path))
    return files


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """The one tar of these files."""
    out = bytearray()
    for name in sorted(files):
        out += _header(name, len(files[name])) + files[name] + bytes(padding(len(files[name])))
    return bytes(out + END)


def _failure(code: str, message: str, place: str) -> VerificationError:
    return VerificationError(code, message, place=place, hint=_HINT)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii")


def _check_name(name: str, place: str) -> None:
    if name.startswith("/"):
        raise _failure("SecurityAbsolutePath", f"{name!r} is an absolute path", place)
    if ".." in name.split("/"):
        raise _failure("SecurityPathTraversal", f"{name!r} leads out of the pack", place)
    known = name in (MANIFEST, CHECKSUMS) or name.startswith(PAYLOAD)
    if not known or not _PATH.fullmatch(name) or name.count("/") > MAX_DEPTH:
        raise _failure("ContractUnexpectedFile", f"{name!r} is no file of a proof pack", place)


def _tar(path: Path) -> Iterator[tuple[str, bytes]]:
    place = str(path)
    with path.open("rb") as stream:
        data = stream.read(MAX_PACK + 1)
    if len(data) > MAX_PACK:
        raise _failure("LimitBundleBytes", f"more than {MAX_PACK} bytes", place)
    offset = count = 0
    last = ""
    while (block := data[offset : offset + BLOCK]) != bytes(BLOCK):
        if len(block) < BLOCK:
            raise _failure("IntegrityTar", f"ends within a header at byte {offset}", place)
        name, size = _named(block, offset, place)
        _check_name(name, place)
        if block != _header(name, size):
            raise _failure("IntegrityTar", f"{name!r}: the header is not the one it must have", place)
        if name <= last:
            code = "ContractDuplicateFile" if name == last else "ContractFileOrder"
            raise _failure(code, f"{name!r} comes after {last!r}", place)
        _check_bounds(name, size, count, place)
        offset += BLOCK
        content = data[offset : offset + size]
        offset += size + padding(size)
        if len(content) < size or any(data[offset - padding(size) : offset]):
            raise _failure("IntegrityTar", f"{name!r} is cut short or badly padded", place)
        yield name, content
        last, count = name, count + 1
    if data[offset:] != END:
        raise _failure("IntegrityTar", "does not end with exactly two zero blocks", place)


def _named(block: bytes, offset: int, place: str) -> tuple[str, int]:
    try:
        prefix, name = (block[at].rstrip(b"\0").decode("ascii") for at in (slice(345, 500), slice(0, 100)))
        return (f"{prefix}/{name}" if prefix else name), int(block[124:135].decode("ascii"), 8)
    except ValueError:
        raise _failure("IntegrityTar", f"no header at byte {offset}", place) from None


def _check_bounds(name: str, size: int, count: int, place: str) -> None:
    if size > MAX_FILE:
        raise _failure("LimitFileSize", f"{name!r} has {size} bytes, more than {MAX_FILE}", place)
    if count >= MAX_FILES:
        raise _failure("LimitBundleBytes", f"more than {MAX_FILES} files", place)


def _folder(path: Path) -> Iterator[tuple[str, bytes]]:
    """Regular files and nothing else; links are not followed."""
    total = 0
    for count, (name, place) in enumerate(_entries(path)):
        data = _regular(place, name, count)
        total += len(data)
        if total > MAX_PACK:
            raise _failure("LimitBundleBytes", f"holds more than {MAX_PACK} bytes", str(path))
        yield name, data


def _entries(path: Path) -> list[tuple[str, Path]]:
    """Sorted by name; a folder's own name is checked before it is entered."""
    found, waiting = [], [("", path)]
    while waiting:
        base, folder = waiting.pop()
        for entry in _scanned(folder):
            name = f"{base}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                _check_name(f"{name}/any", str(path))
                waiting.append((f"{name}/", Path(entry.path)))
            else:
                _check_name(name, str(path))
                found.append((name, Path(entry.path)))
            if len(found) + len(waiting) > MAX_FILES:
                raise _failure("LimitBundleBytes", f"more than {MAX_FILES} files", str(path))
    return sorted(found)


def _scanned(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(islice(entries, MAX_FILES + 1))


def _regular(place: Path, name: str, count: int) -> bytes:
    # A link is refused by O_NOFOLLOW, and a fifo must not hang the reader before it is seen to be one.
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if stat.S_ISREG(place.lstat().st_mode):
            raise
        raise _failure(
            "ContractUnexpectedFile", f"is no regular file: {error.strerror}", str(place)
        ) from None
    with os.fdopen(descriptor, "rb") as stream:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise _failure("ContractUnexpectedFile", "is no regular file", str(place))
        _check_bounds(name, facts.st_size, count, str(place))
        return stream.read(MAX_FILE)
