"""Images that leave an engine, as their config and their layers and nothing else.

`docker save` writes whatever its version likes around them; the config's digest is the image's ID, and
it names the digests of the layers (OCI image spec), so these bytes are the same from every engine.
"""

import hashlib
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from docker.errors import DockerException

from harness.bundle.kit_contents import diff_ids
from harness.engine import file_list
from harness.engine.file_list import FILE, FOLDER, LINK, PROGRAM, Listed
from harness.engine.images import engine_id
from harness.errors import EnvironmentUnfitError, InputError, VerificationError

_CHUNK = 1 << 20


@frozen
class SavedImage:
    """`config` is what the ID is the digest of; `layers` are (diff ID, its tar), lowest first."""

    config: bytes
    layers: tuple[tuple[str, Path], ...]

    @property
    def id(self) -> str:
        return f"sha256:{hashlib.sha256(self.config).hexdigest()}"

    @property
    def files(self) -> dict[str, Path]:
        """Each layer once."""
        return dict(self.layers)


def save_image(client: Any, identity: str, folder: Path) -> SavedImage:
    """The engine's image of this ID, in the empty `folder`; InputError if it is not there.

    VerificationError if what the engine gives is not what the ID stands for.
    """
    if engine_id(client, identity) != identity:
        raise InputError(
            f"the engine has no image {identity}",
            hint="build it (`assay-runner image build`) or load it: a kit needs the very image of the run",
        )
    whole = folder / "saved.tar"
    try:
        with whole.open("wb") as target:
            for chunk in client.api.get_image(identity):
                target.write(chunk)
        return _saved(whole, identity, folder)
    except DockerException as error:
        raise EnvironmentUnfitError(
            f"the engine does not give the image {identity}: {error}", hint="see the engine's log"
        ) from None
    except OSError as error:  # a RequestException is one as well
        raise EnvironmentUnfitError(
            f"the image {identity} cannot be copied into {folder.parent}: {error}",
            hint="a kit needs twice the image's size there",
        ) from None


def _saved(whole: Path, identity: str, folder: Path) -> SavedImage:
    with tarfile.open(whole) as tar:
        described = json.loads(_member(tar, "manifest.json"))[0]
        config = _member(tar, described["Config"])
        wanted = diff_ids(config, identity)
        layers = []
        for digest, name in zip(wanted, described["Layers"], strict=True):
            path = folder / f"{digest.removeprefix('sha256:')}.tar"
            if not path.exists() and _extract(tar, name, path) != digest:
                raise VerificationError(
                    "LayerDigestMismatch",
                    f"the engine gives other bytes than those of the layer {digest}",
                    place=identity,
                    hint="use an engine that keeps layers unpacked: turn its containerd image store off",
                )
            layers.append((digest, path))
    whole.unlink()
    saved = SavedImage(config, tuple(layers))
    if saved.id != identity:
        raise VerificationError("ImageIdMismatch", f"the engine gave {saved.id}", place=identity)
    return saved


def files_of(layers: Sequence[Path]) -> list[Listed]:
    """What is at each path of an image that this program built (harness.engine.layers), from its layers.

    EnvironmentUnfitError for entries that such a layer does not have.
    """
    return file_list.merged([_listed(path) for path in layers])


def _listed(path: Path) -> list[Listed]:
    with tarfile.open(path, "r:") as tar:
        return [_line(tar, entry) for entry in tar]


def _line(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Listed:
    if entry.isreg():
        data = tar.extractfile(entry)
        assert data is not None, "it is a regular file"
        digest = hashlib.sha256()
        while chunk := data.read(_CHUNK):
            digest.update(chunk)
        return Listed(entry.name, PROGRAM if entry.mode & 0o111 else FILE, entry.size, digest.hexdigest())
    if entry.isdir():
        return Listed(entry.name, FOLDER, 0, "")
    return Listed(entry.name, LINK, len(entry.linkname.encode("utf-8", "surrogateescape")), entry.linkname)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None, f"the engine's {name} is no file"
    return file.read()


def _extract(tar: tarfile.TarFile, name: str, path: Path) -> str:
    """Copy a layer out, following the links by which engines save one that is there twice."""
    file, digest = tar.extractfile(name), hashlib.sha256()
    assert file is not None, f"the engine's {name} is no file"
    with path.open("wb") as target:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            target.write(chunk)
    return f"sha256:{digest.hexdigest()}"
