"""What is at each path of an image, from the tars of its layers, whoever built it.

Rules of the OCI image spec (layer.md): a layer hides what is below it; `.wh.NAME` takes NAME away, and
`.wh..wh..opq` all that lower layers have in its folder. Folders that no layer names are there all the same.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from attrs import define, field, frozen

from harness.engine.file_list import FILE, FOLDER, LINK, PROGRAM, Listed
from harness.evidence.programs import SHEBANG_BYTES, shebang

_CHUNK = 1 << 20
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_SPECIAL = ""  # content of a device, a pipe or a socket: none


@frozen
class Contents:
    """`lines` in byte order of their paths; `scripts`: path -> first line after "#!"."""

    lines: tuple[Listed, ...]
    scripts: dict[str, str]


@define
class _Node:
    """What stands at a path, and below it; a folder that no layer names has no line."""

    line: Listed | None = None
    script: str | None = None
    below: dict[str, "_Node"] = field(factory=dict)


def contents_of(layers: Sequence[Path]) -> Contents:
    """Of the image with these layers (uncompressed tars, lowest first); tarfile.TarError if one is none."""
    root = _Node()
    for layer in layers:
        _lay(root, layer)
    found = sorted(_walk(root, ""), key=lambda pair: os.fsencode(pair[0].path))
    return Contents(
        tuple(line for line, _ in found),
        {line.path: script for line, script in found if script is not None},
    )


def _lay(root: _Node, layer: Path) -> None:
    added: list[tuple[list[str], Listed, str | None]] = []
    with tarfile.open(layer, "r:") as tar:
        seen: dict[str, tuple[Listed, str | None]] = {}
        for entry in tar:
            parts = [part for part in entry.name.split("/") if part not in ("", ".")]
            if not parts or ".." in parts:
                continue  # the root itself; or what no engine unpacks
            if parts[-1] == _OPAQUE:
                node = _find(root, parts[:-1])
                if node is not None:
                    node.below.clear()
            elif parts[-1].startswith(_WHITEOUT):
                node = _find(root, parts[:-1])
                if node is not None:
                    node.below.pop(parts[-1].removeprefix(_WHITEOUT), None)
            else:
                path = "/".join(parts)
                seen[path] = line, script = _read(tar, entry, path, seen, root)
                added.append((parts, line, script))
    for parts, line, script in added:
        _put(root, parts, line, script)


def _read(
    tar: tarfile.TarFile,
    entry: tarfile.TarInfo,
    path: str,
    seen: dict[str, tuple[Listed, str | None]],
    root: _Node,
) -> tuple[Listed, str | None]:
    if entry.isdir():
        return Listed(path, FOLDER, 0, ""), None
    if entry.issym():
        return Listed(path, LINK, len(os.fsencode(entry.linkname)), entry.linkname), None
    if entry.islnk():
        parts = [part for part in entry.linkname.split("/") if part not in ("", ".")]
        node = _find(root, parts)
        other = seen.get("/".join(parts)) or (node and node.line and (node.line, node.script))
        if other:
            return other[0]._replace(path=path), other[1]
        return Listed(path, FILE, 0, _SPECIAL), None
    if not entry.isreg():
        return Listed(path, FILE, 0, _SPECIAL), None
    data = tar.extractfile(entry)
    assert data is not None, "it is a regular file"
    digest, first = hashlib.sha256(), b""
    while chunk := data.read(_CHUNK):
        first = first or chunk[:SHEBANG_BYTES]
        digest.update(chunk)
    executable = bool(entry.mode & 0o111)
    line = shebang(first) if executable else None
    listed = Listed(path, PROGRAM if executable else FILE, entry.size, digest.hexdigest())
    return listed, None if line is None else os.fsdecode(line)


def _find(root: _Node, parts: Iterable[str]) -> _Node | None:
    node: _Node | None = root
    for part in parts:
        node = node.below.get(part) if node is not None else None
    return node


def _put(root: _Node, parts: list[str], line: Listed, script: str | None) -> None:
    node = root
    for part in parts[:-1]:
        node = node.below.setdefault(part, _Node())
        if node.line is not None and node.line.mode != FOLDER:
            node.line, node.script = None, None  # a layer above makes a folder of it
    last = node.below.setdefault(parts[-1], _Node())
    last.line, last.script = line, script
    if line.mode != FOLDER:
        last.below.clear()


def _walk(node: _Node, path: str) -> Iterator[tuple[Listed, str | None]]:
    waiting = [(node, path)]
    while waiting:
        at, name = waiting.pop()
        if name:
            yield at.line or Listed(name, FOLDER, 0, ""), at.script
        waiting += [(child, f"{name}/{part}" if name else part) for part, child in at.below.items()]
