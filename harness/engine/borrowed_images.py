"""An image that an engine has for one run alone, noted before it is loaded: a killed run's is found."""

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from docker.errors import APIError, DockerException, ImageNotFound
from requests.exceptions import RequestException

from harness.engine.images import engine_id
from harness.engine.saved_images import SavedImage
from harness.errors import EnvironmentUnfitError
from harness.host.state import RunFolder, State

_NOTE = "image"
_CHUNK = 1 << 20
_BLOCK = tarfile.BLOCKSIZE


@contextmanager
def borrowed_image(client: Any, state: State, image: SavedImage) -> Iterator[None]:
    """The image in the engine for as long as the block lasts; it stays if it was there before.

    It gets no tag: a stranger's image takes no name. EnvironmentUnfitError if the engine does not take it,
    InputError if it is being borrowed already.
    """
    if engine_id(client, image.id) is not None:
        yield
        return
    folder = RunFolder.create(state, f"replay-{image.id.removeprefix('sha256:')[:12]}")
    try:
        (folder.path / _NOTE).write_text(image.id, encoding="ascii")
        _load(client, image)
        yield
    finally:
        return_image(client, folder)
        folder.remove()


def return_image(client: Any, folder: RunFolder) -> None:
    """Remove the image that was borrowed with this folder, if one was."""
    note = folder.path / _NOTE
    identity = note.read_text(encoding="ascii") if note.is_file() else ""
    if identity:  # killed while the note was written: nothing had been loaded yet
        try:
            client.api.remove_image(identity)
        except (ImageNotFound, APIError):
            pass  # it never came, somebody else uses it meanwhile, or has removed it


def _load(client: Any, image: SavedImage) -> None:
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
