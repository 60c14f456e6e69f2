"""Image layers and configs whose bytes depend on their inputs alone.

A layer is an uncompressed GNU tar: entries in byte order of their names, owner 0:0, modes 0755 or
0644, one fixed time (reproducible-builds.org, SOURCE_DATE_EPOCH). An image's ID is the sha256 of its
config (OCI image spec, "ImageID").
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from attrs import frozen

from harness.engine import file_list
from harness.engine.file_list import Listed
from harness.errors import VerificationError

SOURCE_DATE_EPOCH = 1735689600
CREATED = "2025-01-01T00:00:00Z"  # the same moment, as the image config wants it


@frozen
class Entry:
    """What stands at one path of a layer: a file (`source`), a link (`target`), else a folder."""

    source: bytes | Path | None = None
    target: str | None = None
    executable: bool = False


FOLDER = Entry()
Tree = Mapping[str, Entry]  # paths are relative to the image's root, without a leading "/"


@frozen
class Layer:
    """A finished layer: `digest` is its diff ID ("sha256:…"), `size` its tar's bytes, `files` the
    digest of its file list, which lies beside it."""

    path: Path
    digest: str
    size: int
    files: str

    @property
    def list_path(self) -> Path:
        return self.path.with_suffix(".files")


@frozen
class ImageConfig:
    """What an image says about itself besides its layers."""

    env: Mapping[str, str]
    labels: Mapping[str, str]


class _HashedFile:
    """A writable file that knows the sha256 of what went through it."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        return self._raw.write(data)


def write_layer(tree: Tree, path: Path) -> Layer:
    """Write `tree` as a layer, its file list beside it; parent folders are added where they are left out."""
    entries = dict(tree)
    for name in tree:
        for parent in list(Path(name).parents)[:-1]:
            entries.setdefault(str(parent), FOLDER)
    with path.open("wb") as raw:
        out = _HashedFile(raw)
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT) as tar:  # type: ignore[call-overload]
            for name in sorted(entries, key=os.fsencode):
                _add(tar, name, entries[name])
    listed = file_list.to_bytes(_listed(name, entries[name]) for name in sorted(entries, key=os.fsencode))
    files = f"sha256:{hashlib.sha256(listed).hexdigest()}"
    layer = Layer(path, f"sha256:{out.hash.hexdigest()}", out.size, files)
    layer.list_path.write_bytes(listed)
    return layer


def _listed(name: str, entry: Entry) -> Listed:
    if entry.source is not None:
        return file_list.file_at(name, entry.source, executable=entry.executable)
    if entry.target is not None:
        return Listed(name, file_list.LINK, len(os.fsencode(entry.target)), entry.target)
    return Listed(name, file_list.FOLDER, 0, "")


def _add(tar: tarfile.TarFile, name: str, entry: Entry) -> None:
    info = _info(name, 0o755 if entry.executable or entry.source is None else 0o644)
    if entry.target is not None:
        info.type, info.linkname = tarfile.SYMTYPE, entry.target
        tar.addfile(info)
    elif entry.source is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif isinstance(entry.source, bytes):
        info.size = len(entry.source)
        tar.addfile(info, io.BytesIO(entry.source))
    else:
        info.size = entry.source.stat().st_size
        with entry.source.open("rb") as data:
            tar.addfile(info, data)


def _info(name: str, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = mode, SOURCE_DATE_EPOCH
    return info


def config_bytes(config: ImageConfig, layers: Sequence[Layer]) -> bytes:
    """The image config; its sha256 is the image's ID."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": CREATED,
        "config": {
            "Env": [f"{key}={value}" for key, value in sorted(config.env.items())],
            "Labels": dict(config.labels),
            "User": "65534:65534",
            "WorkingDir": "/workspace",
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        "history": [{"created": CREATED, "created_by": "assay-runner"} for _ in layers],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def image_id(config: bytes) -> str:
    return f"sha256:{hashlib.sha256(config).hexdigest()}"


def check_layer(layer: Layer) -> None:
    """Raise VerificationError, naming the file, if the layer or its file list is not what it was."""
    check_sha256(layer.path, layer.digest.removeprefix("sha256:"), "LayerDigestMismatch")
    check_sha256(layer.list_path, layer.files.removeprefix("sha256:"), "FileListDigestMismatch")


def check_sha256(path: Path, expected: str, code: str, *, source: str = "") -> None:
    """Raise VerificationError `code` unless the bytes of `path` have this sha256 (hex).

    It names `path`, or `source`: where a file that is not kept came from.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        hint = "delete this file and try again; if it happens again, do not trust its source"
        raise VerificationError(
            code,
            f"sha256 is {found}, expected {expected}",
            place=source or str(path),
            hint="do not trust its source, or correct the lock" if source else hint,
        )
