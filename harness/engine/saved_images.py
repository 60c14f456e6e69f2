"""Images that leave an engine and enter one, as their config and their layers and nothing else.

`docker save` writes whatever its version likes around them; the config's digest is the image's ID, and
it names the digests of the layers (OCI image spec), so these bytes are the same from every engine.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from docker.errors import APIError, DockerException, ImageNotFound
from requests.exceptions import RequestException

from harness.bundle.kit_contents import diff_ids
from harness.engine import file_list
from harness.engine.file_list import FILE, FOLDER, LINK, PROGRAM, Listed
from harness.engine.images import engine_id
from harness.errors import EnvironmentUnfitError, InputError, VerificationError

_CHUNK = 1 << 20
_BLOCK = tarfile.BLOCKSIZE


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


@contextmanager
def loaded_image(client: Any, image: SavedImage) -> Iterator[None]:
    """The image in the engine for as long as the block lasts; it stays if it was there before.

    It gets no tag: a stranger's image takes no name. EnvironmentUnfitError if the engine does not take it.
    """
    if engine_id(client, image.id) is not None:
        yield
        return
    try:
        client.api.load_image(_docker_archive(image))
        found = engine_id(client, image.id)
    except (DockerException, RequestException) as error:
        raise EnvironmentUnfitError(
            f"the engine does not take the image {image.id}: {error}", hint="see the engine's log"
        ) from None
    if found != image.id:
        raise EnvironmentUnfitError(
            f"the engine keeps the image under another ID than {image.id}",
            hint='turn its containerd image store off: {"features": {"containerd-snapshotter": false}}',
        )
    try:
        yield
    finally:
        try:
            client.api.remove_image(image.id)
        except (ImageNotFound, APIError):
            pass  # somebody else uses it meanwhile, or has removed it


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


def _docker_archive(image: SavedImage) -> Iterator[bytes]:
    """The image as `docker load` reads it, without a tag; made while it is sent."""
    config = f"{image.id.removeprefix('sha256:')}.json"
    names = {digest: f"{digest.removeprefix('sha256:')}/layer.tar" for digest, _ in image.layers}
    layers = [names[digest] for digest, _ in image.layers]
    manifest = json.dumps([{"Config": config, "RepoTags": None, "Layers": layers}]).encode()
    members: Mapping[str, bytes | Path] = {
        config: image.config,
        "manifest.json": manifest,
        **{names[digest]: path for digest, path in image.files.items()},
    }
    for name, part in members.items():
        info = tarfile.TarInfo(name)
        info.size = len(part) if isinstance(part, bytes) else part.stat().st_size
        yield info.tobuf(tarfile.GNU_FORMAT)
        with io.BytesIO(part) if isinstance(part, bytes) else part.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
        yield bytes(-info.size % _BLOCK)
    yield bytes(2 * _BLOCK)
