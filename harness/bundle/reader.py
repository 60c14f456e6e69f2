"""Reads archives of strangers: everything is bounded before it is allocated (contracts §1.7).

No member is ever written to a path of its own choosing; members stay in memory.
"""

import os
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from harness.bundle.layout import (
    BLOCK,
    END,
    FIELDS,
    GZIP_HEADER,
    GZIP_TRAILER,
    MAX_NAME,
    MEMBER_ORDER,
    header,
    padding,
)
from harness.contracts.canonical import JsonError, load_json, sha256_of
from harness.contracts.converter import ContractError, parse
from harness.contracts.manifest import COMPANION_MANIFEST, MANIFEST, V0_MEMBERS, ArchiveManifest
from harness.errors import InputError, VerificationError

MIB = 1 << 20
_PIECE = 64 << 10  # compressed bytes at a time
_CHUNK = MIB  # decoded bytes at a time
_HINT = "the archive is damaged or was changed: get it again from where it was made"


@frozen
class Limits:
    """Bytes, except `ratio` (decoded to compressed, once `ratio_floor` bytes are decoded).

    Names need none: the header has room for 100 bytes, and only known members are accepted once.
    """

    bundle: int = 100 * MIB
    decoded: int = 1024 * MIB
    document: int = 32 * MIB  # a JSON member: parsed, it takes many times its size
    lines: int = 500 * MIB  # an NDJSON member
    ratio: int = 500
    ratio_floor: int = 8 * MIB


@frozen
class Archive:
    """The members in their order, checked for structure only; see `verify` for what they say.

    `identity` is the digest of the exact manifest.json bytes.
    """

    place: str
    members: Mapping[str, bytes]
    manifest: ArchiveManifest

    @property
    def identity(self) -> str:
        return sha256_of(self.members[MANIFEST])

    @property
    def run_id(self) -> str:
        return self.manifest.run_id

    @property
    def has_companion(self) -> bool:
        return COMPANION_MANIFEST in self.members


def read_archive(path: Path, limits: Limits | None = None) -> Archive:
    """An archive file, or the folder into which one was extracted.

    InputError when there is nothing to read; VerificationError (codes of contracts §1.7) when it
    is no archive of ours or of the reference.
    """
    limits = limits or Limits()
    place = str(path)
    try:
        if path.is_dir():
            members = _read_folder(path, limits)
        else:
            members = _read_tar(_gunzip(_read_file(path, limits), place, limits), place, limits)
    except FileNotFoundError:
        raise InputError("no such archive", place=place, hint="check the path") from None
    except PermissionError:
        raise InputError("may not be read", place=place, hint="ask for read permission") from None
    except OSError as error:
        raise _failure("IntegrityIo", f"cannot be read: {error.strerror}", place) from None
    for name in V0_MEMBERS:
        if name not in members:
            code = "ContractMissingManifest" if name == MANIFEST else "ContractMissingFile"
            raise _failure(code, f"member {name} is missing", place)
    return Archive(place, members, _manifest(members[MANIFEST], place))


def _failure(code: str, message: str, place: str) -> VerificationError:
    return VerificationError(code, message, place=place, hint=_HINT)


def _manifest(data: bytes, place: str) -> ArchiveManifest:
    where = f"{place}: {MANIFEST}"
    try:
        return parse(ArchiveManifest, load_json(data, MANIFEST))
    except JsonError as error:
        raise _failure(error.code, error.message, where) from None
    except ContractError as error:
        code = "ContractSchemaVersion" if error.pointer == "/schema" else "ContractInvalidJson"
        raise _failure(code, error.message, f"{where} at {error.pointer or '/'}") from None


def _read_file(path: Path, limits: Limits) -> bytes:
    with path.open("rb") as stream:
        return _bounded(stream, limits.bundle, "LimitBundleBytes", str(path))


def _bounded(stream: BinaryIO, limit: int, code: str, place: str) -> bytes:
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise _failure(code, f"more than {limit} bytes", place)
    return data


def _gunzip(data: bytes, place: str, limits: Limits) -> bytes:
    """The payload of exactly one gzip member with exactly our header and nothing after it."""
    if data[: len(GZIP_HEADER)] != GZIP_HEADER:
        raise _failure("IntegrityGzip", "does not begin with the fixed gzip header", place)
    inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    payload = bytearray()
    at = len(GZIP_HEADER)
    try:
        while not inflate.eof and (inflate.unconsumed_tail or at < len(data)):
            piece = inflate.unconsumed_tail
            if not piece:
                piece = data[at : at + _PIECE]
                at += len(piece)
            payload += inflate.decompress(piece, _CHUNK)
            if len(payload) > limits.decoded:
                raise _failure("LimitDecodeBytes", f"unpacks to more than {limits.decoded} bytes", place)
            if len(payload) > max(limits.ratio_floor, limits.ratio * len(data)):
                raise _failure("IntegrityZipBomb", f"unpacks to over {limits.ratio} times its size", place)
    except zlib.error as error:
        raise _failure("IntegrityGzip", f"cannot be unpacked: {error}", place) from None
    if not inflate.eof:
        raise _failure("IntegrityGzip", "is cut short", place)
    trailer = GZIP_TRAILER.pack(zlib.crc32(payload), len(payload) & 0xFFFFFFFF)
    if inflate.unused_data + data[at:] != trailer:
        raise _failure("IntegrityGzip", "has a wrong trailer, or bytes after it", place)
    return bytes(payload)


def _read_tar(data: bytes, place: str, limits: Limits) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    offset = 0
    while (block := data[offset : offset + BLOCK]) != bytes(BLOCK):
        if len(block) < BLOCK:
            raise _failure("IntegrityTar", f"ends within a header at byte {offset}", place)
        name = _name(block, place)
        size = _size(block, name, place, limits)
        _check_header(block, name, size, place)
        _check_member(name, members, place)
        offset += BLOCK
        content = data[offset : offset + size]
        offset += size
        pad = data[offset : offset + padding(size)]
        offset += padding(size)
        if len(content) < size or pad != bytes(padding(size)):
            raise _failure("IntegrityTar", f"member {name} is cut short or badly padded", place)
        members[name] = content
    if data[offset:] != END:
        raise _failure("IntegrityTar", "does not end with exactly two zero blocks", place)
    return members


def _name(block: bytes, place: str) -> str:
    raw = block[:MAX_NAME].rstrip(b"\0")
    if not raw or not all(0x20 < byte < 0x7F for byte in raw):
        raise _failure("IntegrityTar", f"a member has the impossible name {raw!r}", place)
    return raw.decode("ascii")


def _size(block: bytes, name: str, place: str, limits: Limits) -> int:
    raw = block[124:135]
    if not all(byte in b"01234567" for byte in raw):
        raise _failure("IntegrityTar", f"member {name} has no octal size", place)
    return _bound_size(int(raw, 8), name, place, limits)


def _bound_size(size: int, name: str, place: str, limits: Limits) -> int:
    limit = limits.lines if name.endswith(".ndjson") else limits.document
    if size > limit:
        raise _failure("LimitFileSize", f"member {name} has {size} bytes, more than {limit}", place)
    return size


def _check_header(block: bytes, name: str, size: int, place: str) -> None:
    wanted = header(name, size)
    if block != wanted:
        differing = [at for at in range(BLOCK) if block[at] != wanted[at]]
        fields = {[label for start, label in FIELDS if start <= at][-1] for at in differing}
        # The checksum differs with any other field: name the cause.
        field = ", ".join(sorted(fields - {"checksum"}) or fields)
        raise _failure("IntegrityTar", f"member {name}: header field {field} is not as fixed", place)


def _check_member(name: str, before: Mapping[str, bytes], place: str) -> None:
    if name.startswith("/"):
        raise _failure("SecurityAbsolutePath", f"member {name} has an absolute path", place)
    if ".." in name.split("/"):
        raise _failure("SecurityPathTraversal", f"member {name} leads out of the archive", place)
    if name in before:
        raise _failure("ContractDuplicateFile", f"member {name} is there twice", place)
    if name not in MEMBER_ORDER:
        raise _failure("ContractUnexpectedFile", f"member {name} is not known", place)
    if not before and name != MANIFEST:
        raise _failure("ContractMissingManifest", f"the first member is {name}, not {MANIFEST}", place)
    if before:
        last = list(before)[-1]
        if MEMBER_ORDER.index(name) < MEMBER_ORDER.index(last):
            raise _failure("ContractFileOrder", f"member {name} comes after {last}", place)


def _read_folder(path: Path, limits: Limits) -> dict[str, bytes]:
    """Regular files at known places and nothing else; links are not followed."""
    folders = {name.rpartition("/")[0] for name in MEMBER_ORDER} - {""}
    found: dict[str, bytes] = {}
    total = 0
    for base in ("", *sorted(folders)):
        folder = path / base
        if base and not os.path.lexists(folder):
            continue
        for entry in sorted(os.scandir(_real_folder(folder) if base else folder), key=lambda item: item.name):
            name = f"{base}/{entry.name}" if base else entry.name
            if name in folders:
                continue
            if name not in MEMBER_ORDER:
                raise _failure("ContractUnexpectedFile", f"{name!r} is no member", str(path))
            found[name] = _read_member(folder / entry.name, name, limits)
            total += len(found[name])
            if total > limits.decoded:
                raise _failure("LimitDecodeBytes", f"holds more than {limits.decoded} bytes", str(path))
    return {name: found[name] for name in MEMBER_ORDER if name in found}


def _real_folder(folder: Path) -> Path:
    if folder.is_symlink() or not folder.is_dir():
        raise _failure("ContractUnexpectedFile", "is no folder of its own", str(folder))
    return folder


def _read_member(path: Path, name: str, limits: Limits) -> bytes:
    # Not blocking: a fifo must not hang the reader before it is seen to be none of ours.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise _failure("ContractUnexpectedFile", "is no regular file", str(path))
        size = _bound_size(facts.st_size, name, str(path), limits)
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return _bounded(stream, size, "LimitFileSize", str(path))
    finally:
        os.close(descriptor)
