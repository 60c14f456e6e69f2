"""What is at each path of a layer or image, with digests: kept beside a layer, merged for an image.

One JSON array a line, in byte order of the paths: [path, mode, size, content]. The path is relative
to the root folder; modes are those of git's trees (gitformat-pack(5)): 100644 and 100755 files, 040000
folders, 120000 links; content is the sha256 of a file, the target of a link, "" of a folder.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from harness.evidence.image import ImageFiles

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
FILE, PROGRAM, FOLDER, LINK = "100644", "100755", "040000", "120000"


class Listed(NamedTuple):
    """One line; `size` in bytes, of a link the length of its target, of a folder 0."""

    path: str
    mode: str
    size: int
    content: str


def file_at(path: str, source: bytes | Path, *, executable: bool) -> Listed:
    """The line of a file with these bytes."""
    mode = PROGRAM if executable else FILE
    if isinstance(source, bytes):
        return Listed(path, mode, len(source), hashlib.sha256(source).hexdigest())
    with source.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
        return Listed(path, mode, data.tell(), digest)


def to_bytes(lines: Iterable[Listed]) -> bytes:
    return "".join(f"{_ENCODE(line)}\n" for line in lines).encode()


def from_bytes(data: bytes) -> list[Listed]:
    """What to_bytes wrote; whoever reads it from a disk checks its digest first."""
    return [Listed(*line) for line in json.loads(b"[" + b",".join(data.splitlines()) + b"]")]


def merged(lists: Iterable[Iterable[Listed]]) -> list[Listed]:
    """The list of an image from those of its layers: what is above hides what is below."""
    seen = {line.path: line for lines in lists for line in lines}
    return sorted(seen.values(), key=lambda line: os.fsencode(line.path))


def image_files(lines: Iterable[Listed], scripts: Mapping[str, str] | None = None) -> ImageFiles:
    """What evidence needs to know: every path as the kernel names it, and the digest of the list.

    Links are in it as well: the kernel gives a link's own path only to who opens the link itself.
    `scripts`: path -> first line after "#!", of the programs that are scripts.
    """
    kept = list(lines)
    digest = hashlib.sha256(to_bytes(kept)).hexdigest()
    return ImageFiles(
        f"sha256:{digest}",
        frozenset(_absolute(line.path) for line in kept),
        links={_absolute(line.path): os.fsencode(line.content) for line in kept if line.mode == LINK},
        programs=frozenset(_absolute(line.path) for line in kept if line.mode == PROGRAM),
        scripts={_absolute(path): os.fsencode(line) for path, line in (scripts or {}).items()},
    )


def _absolute(path: str) -> bytes:
    return b"/" + os.fsencode(path)


def first_difference(left: Iterable[Listed], right: Iterable[Listed]) -> str | None:
    """The first path, in byte order, that is not the same in both, and how; None if there is none."""
    old, new = ({line.path: line for line in lines} for lines in (left, right))
    for path in sorted(old.keys() | new.keys(), key=os.fsencode):
        if old.get(path) != new.get(path):
            return f"{path}: {_told(old.get(path))} became {_told(new.get(path))}"
    return None


def _told(line: Listed | None) -> str:
    return f"({line.mode} {line.size} {line.content})" if line else "(nothing)"
