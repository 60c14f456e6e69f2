"""Looks over an image layer of a stranger before an engine unpacks it.

Only headers are read. Everything that could make a layer larger than its own bytes, or name a place
outside of the image, is refused: sparse files, compressed layers, device nodes, "..", absolute names.
"""

import re
import tarfile
from pathlib import Path
from typing import BinaryIO

from harness.bundle.layout import BLOCK, padding
from harness.errors import VerificationError

MAX_ENTRIES = 1_000_000
MAX_EXTENSION = 1 << 20  # bytes of one pax header or long name
_LONG = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE)  # of the next entry, of all that follow
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_EMPTY = (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)
_PAX_RECORD = re.compile(rb"(\d{1,10}) ([^=]+)=")
_CHUNK = 1 << 20

Names = list[tuple[str, str]]  # ("path" or "linkpath", name) that extensions give the next entry


def check_layer_tar(path: Path, place: str) -> int:
    """The number of entries; VerificationError `LayerUnsafe`, saying which, for anything unusual."""
    with path.open("rb") as stream:
        return _walk(stream, path.stat().st_size, place)


def _walk(stream: BinaryIO, end: int, place: str) -> int:
    at = entries = 0
    names: Names = []
    while True:
        stream.seek(at)
        block = stream.read(BLOCK)
        if block == bytes(BLOCK):
            break
        entry = _header(block, at, place)
        size = 0 if entry.type in _EMPTY else entry.size  # a link may carry the size of its target
        if at + BLOCK + size > end:
            raise _unsafe(f"the entry {entry.name!r} says {size} bytes, more than there are", place)
        if entry.type in _LONG or entry.type in _PAX:
            names += _extension(stream, entry.type, size, place)
        elif entry.type in _FILES or entry.type in _EMPTY:
            _check_names(entry, names, place)
            names, entries = [], entries + 1
        else:
            raise _unsafe(f"the entry {entry.name!r} is of type {entry.type!r}", place)
        if entries > MAX_ENTRIES:
            raise _unsafe(f"has more than {MAX_ENTRIES} entries", place)
        at += BLOCK + size + padding(size)
    while rest := stream.read(_CHUNK):
        if rest.strip(b"\0"):
            raise _unsafe("has something after its end", place)
    return entries


def _header(block: bytes, at: int, place: str) -> tarfile.TarInfo:
    try:
        entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise _unsafe(f"what stands at byte {at} is no header of a tar", place) from None
    if entry.size < 0:
        raise _unsafe(f"the entry {entry.name!r} has a negative size", place)
    return entry


def _extension(stream: BinaryIO, kind: bytes, size: int, place: str) -> Names:
    if size > MAX_EXTENSION:
        raise _unsafe(f"a header extension has {size} bytes, more than {MAX_EXTENSION}", place)
    data = stream.read(size)
    if kind in _LONG:
        return [(_LONG[kind], _text(data.rstrip(b"\0")))]
    names: Names = []
    at = 0
    while at < len(data):
        record = _PAX_RECORD.match(data, at)
        end = at + int(record[1]) if record else 0
        if record is None or not record.end() < end <= len(data):
            raise _unsafe("a pax header cannot be read", place)
        keyword, value = _text(record[2]), _text(data[record.end() : end - 1])
        # a size of its own, or one for sparse files, would make two readers see two different layers
        if keyword == "size" or keyword.startswith("GNU.sparse.") or kind == tarfile.XGLTYPE:
            raise _unsafe(f"a pax header sets {keyword!r}", place)
        if keyword in _LONG.values():
            names.append((keyword, value))
        at = end
    return names


def _check_names(entry: tarfile.TarInfo, extended: Names, place: str) -> None:
    names = [entry.name, *(name for keyword, name in extended if keyword == "path")]
    if entry.type == tarfile.LNKTYPE:  # a symbolic link may lead anywhere: only the container follows it
        names += [entry.linkname, *(name for keyword, name in extended if keyword == "linkpath")]
    for name in names:
        if name.startswith("/") or ".." in name.split("/"):
            raise _unsafe(f"the entry {name!r} leads out of the image", place)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _unsafe(what: str, place: str) -> VerificationError:
    return VerificationError(
        "LayerUnsafe", what, place=place, hint="do not load this image: unpacking it may harm the engine"
    )
