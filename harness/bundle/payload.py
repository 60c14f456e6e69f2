"""The decoded bytes of an archive, bounded while they are decoded, kept where nobody else can change them."""

import errno
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from attrs import frozen
from zlib_ng import zlib_ng

from harness.bundle.foreign import HEAD, foreign
from harness.bundle.layout import GZIP_HEADER, GZIP_TRAILER
from harness.bundle.problem import BrokenError, Problem
from harness.contracts import bounds
from harness.contracts.bounds import MIB
from harness.errors import EnvironmentUnfitError

CHUNK = 256 << 10  # fits the processor's cache, which is what makes reading in chunks fast
_PIECE = 64 << 10  # compressed bytes at a time
_DAMAGED: type[Exception] = zlib_ng.error  # type: ignore[assignment]  # its stub has an instance there


@frozen
class Limits:
    """Bytes, except `ratio` (decoded to compressed, once `ratio_floor` bytes are decoded) and the last.

    Names need none: the header has room for 100 bytes, and only known members are accepted once.
    """

    bundle: int = bounds.MAX_BUNDLE
    decoded: int = bounds.MAX_DECODED
    document: int = bounds.MAX_DOCUMENT
    lines: int = bounds.MAX_LINES_BYTES
    ratio: int = bounds.MAX_RATIO
    ratio_floor: int = bounds.RATIO_FLOOR
    in_memory: int = 16 * MIB  # decoded bytes beyond that go to a nameless file below $TMPDIR

    def of_member(self, name: str) -> int:
        return self.lines if name.endswith(".ndjson") else self.document


class Payload:
    """Append, then read; EnvironmentUnfitError when the disk cannot take it."""

    def __init__(self, in_memory: int) -> None:
        self._in_memory = in_memory
        self._held = bytearray()
        self._file: int | None = None
        self.size = 0

    def append(self, data: bytes) -> None:
        self.size += len(data)
        if self._file is None and self.size <= self._in_memory:
            self._held += data
        else:
            self._spill(data)

    def read(self, offset: int, size: int) -> bytes:
        """As many bytes as there are, at most `size`."""
        if self._file is None:
            return bytes(memoryview(self._held)[offset : offset + size])
        return b"".join(self.chunks(offset, size))

    def chunks(self, offset: int, size: int) -> Iterator[bytes]:
        """The same in pieces of at most CHUNK bytes."""
        end = min(offset + size, self.size)
        while offset < end:
            length = min(CHUNK, end - offset)
            if self._file is None:
                yield bytes(memoryview(self._held)[offset : offset + length])
            else:
                yield os.pread(self._file, length, offset)
            offset += length

    def _spill(self, data: bytes) -> None:
        try:
            if self._file is None:
                self._file = _nameless()
                weakref.finalize(self, os.close, self._file)
                _write(self._file, self._held)
                self._held = bytearray()
            _write(self._file, data)
        except OSError as error:
            raise EnvironmentUnfitError(
                f"the archive's decoded bytes cannot be kept: {error.strerror}",
                place=tempfile.gettempdir(),
                hint="free some space there, or name another folder in TMPDIR",
            ) from None


def _write(descriptor: int, data: bytes | bytearray) -> None:
    with memoryview(data) as view:
        at = 0
        while at < len(view):
            at += os.write(descriptor, view[at:])


def _nameless() -> int:
    try:
        return os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise
    descriptor, name = tempfile.mkstemp()  # a file system without O_TMPFILE
    Path(name).unlink()
    return descriptor


def gunzip(stream: BinaryIO, limits: Limits) -> Payload:
    """The payload of exactly one gzip member with exactly our header and nothing after it.

    BrokenError with the code of contracts §1.7 as soon as one bound or the frame does not hold.
    """
    head = stream.read(len(GZIP_HEADER))
    if head != GZIP_HEADER:
        what, remedy = foreign(head + stream.read(HEAD - len(head)))
        raise BrokenError([Problem("IntegrityGzip", "", "", "", what, remedy)])
    inflate = zlib_ng.decompressobj(wbits=-zlib_ng.MAX_WBITS)
    payload, checksum, taken = Payload(limits.in_memory), 0, len(GZIP_HEADER)
    try:
        while not inflate.eof:
            piece = inflate.unconsumed_tail
            if not piece:
                piece = stream.read(_PIECE)
                taken = _taken(taken + len(piece), limits)
                if not piece:
                    break
            data = inflate.decompress(piece, CHUNK)
            checksum = zlib_ng.crc32(data, checksum)
            _bounded(payload.size + len(data), taken, limits)
            payload.append(data)
    except _DAMAGED as error:
        raise BrokenError.one("IntegrityGzip", "", f"cannot be unpacked: {error}") from None
    if not inflate.eof:
        raise BrokenError.one("IntegrityGzip", "", "is cut short")
    trailer = GZIP_TRAILER.pack(checksum, payload.size & 0xFFFFFFFF)
    rest = inflate.unused_data + stream.read(len(trailer) + 1)
    _taken(taken + len(rest) - len(inflate.unused_data), limits)
    if rest != trailer:
        raise BrokenError.one("IntegrityGzip", "", "has a wrong trailer, or bytes after it")
    return payload


def _taken(size: int, limits: Limits) -> int:
    if size > limits.bundle:
        raise BrokenError.one("LimitBundleBytes", "", f"more than {limits.bundle} bytes")
    return size


def _bounded(decoded: int, taken: int, limits: Limits) -> None:
    if decoded > limits.decoded:
        raise BrokenError.one("LimitDecodeBytes", "", f"unpacks to more than {limits.decoded} bytes")
    if decoded > max(limits.ratio_floor, limits.ratio * taken):
        raise BrokenError.one("IntegrityZipBomb", "", f"unpacks to over {limits.ratio} times its size")
