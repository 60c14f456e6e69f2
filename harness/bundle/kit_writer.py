"""Writes a replay kit, whole or not at all: the same parts give the same bytes."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness.bundle.layout import END, header, padding
from harness.bundle.whole_file import whole_file
from harness.contracts.canonical import sha256_of, to_bytes
from harness.contracts.converter import unstructure
from harness.contracts.manifest import ArchiveFile
from harness.contracts.replay_kit import KIT, SIGNATURE, ReplayKit

_CHUNK = 1 << 20
Part = bytes | Path
Sign = Callable[[ReplayKit, bytes], bytes]


def described(parts: Mapping[str, Part], known: Mapping[str, str] | None = None) -> dict[str, ArchiveFile]:
    """The `files` table of kit.json; names sorted by their bytes. `known` are digests of files by name."""
    return {name: _described(name, parts[name], known or {}) for name in sorted(parts, key=str.encode)}


def write_kit(path: Path, kit: ReplayKit, parts: Mapping[str, Part], sign: Sign | None = None) -> str:
    """Write the kit to `path` and return the digest of its kit.json.

    `sign` makes the signature's file from the kit and the exact bytes of kit.json. Errors as `whole_file`.
    """
    manifest = to_bytes(unstructure(kit))
    heads = {KIT: manifest} | ({SIGNATURE: sign(kit, manifest)} if sign else {})
    with whole_file(path, "kit") as stream:
        for name, part in (heads | {name: parts[name] for name in kit.files}).items():
            size = len(part) if isinstance(part, bytes) else part.stat().st_size
            stream.write(header(name, size))
            for chunk in _chunks(part):
                stream.write(chunk)
            stream.write(bytes(padding(size)))
        stream.write(END)
    return sha256_of(manifest)


def _described(name: str, part: Part, known: Mapping[str, str]) -> ArchiveFile:
    if name in known and isinstance(part, Path):
        return ArchiveFile(path=name, sha256=known[name], bytes=part.stat().st_size)
    whole, size = hashlib.sha256(), 0
    for chunk in _chunks(part):
        whole.update(chunk)
        size += len(chunk)
    return ArchiveFile(path=name, sha256=f"sha256:{whole.hexdigest()}", bytes=size)


def _chunks(part: Part) -> Iterator[bytes]:
    if isinstance(part, bytes):
        yield part
        return
    with part.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk
