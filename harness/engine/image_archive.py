"""An image on its way into an engine, as one archive of which every engine's handle is known beforehand.

The archive is an OCI image layout (image-spec 1.1) and a docker-archive (`manifest.json`) over the same
blobs. What an engine then calls the image, its handle, is one of two digests: the config's, or that of our
manifest in Docker's containerd image store.
"""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen
from docker.errors import APIError, DockerException
from requests.exceptions import RequestException

from harness.engine.answers import unfit
from harness.engine.handles import find_handle
from harness.errors import EnvironmentUnfitError

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_PLATFORM = {"architecture": "amd64", "os": "linux"}
_CHUNK = 1 << 20
_LOADED = re.compile(r"sha256:[0-9a-f]{64}")  # "Loaded image ID: sha256:…", "Loaded image: sha256:…"


@frozen
class SavedImage:
    """`config` is what the ID is the digest of; `layers` are (diff ID, its tar), lowest first."""

    config: bytes
    layers: tuple[tuple[str, Path], ...]

    @property
    def id(self) -> str:
        return _sha256(self.config)

    @property
    def files(self) -> dict[str, Path]:
        """Each layer once."""
        return dict(self.layers)

    @property
    def handles(self) -> tuple[str, str]:
        """What an engine that loads `chunks` may call it: the digest of its config, or of our manifest."""
        return self.id, self.manifest_digest

    @property
    def manifest_digest(self) -> str:
        return _sha256(self._manifest)

    @property
    def _manifest(self) -> bytes:
        layers = [_descriptor(_LAYER_TYPE, digest, path.stat().st_size) for digest, path in self.layers]
        config = _descriptor(_CONFIG_TYPE, self.id, len(self.config))
        return _json({"schemaVersion": 2, "mediaType": _MANIFEST_TYPE, "config": config, "layers": layers})

    def chunks(self) -> Iterator[bytes]:
        """The archive, without a tag; made while it is sent."""
        manifest = self._manifest
        described = _descriptor(_MANIFEST_TYPE, _sha256(manifest), len(manifest)) | {"platform": _PLATFORM}
        docker = {
            "Config": _blob(self.id),
            "RepoTags": None,
            "Layers": [_blob(digest) for digest, _ in self.layers],
        }
        yield from _members(
            ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            ("index.json", _json({"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [described]})),
            ("manifest.json", _json([docker])),
            (_blob(self.id), self.config),
            (_blob(_sha256(manifest)), manifest),
            *((_blob(digest), path) for digest, path in self.files.items()),
        )


def load_archive(client: Any, image: SavedImage) -> str:
    """Load the image, without a tag; gives its handle. EnvironmentUnfitError if the engine does not take it.

    An engine that keeps it under a third name is refused, and made to forget it again.
    """
    loaded: list[str] = []
    try:
        for answer in client.api.load_image(image.chunks()):
            loaded += _LOADED.findall(str(answer.get("stream", "")))
        handle = find_handle(client, image.handles)
    except (DockerException, RequestException) as error:
        raise unfit(f"the engine does not take the image {image.id}", error) from None
    if handle is None:
        for other in loaded:
            try:
                client.api.remove_image(other)
            except APIError:
                pass  # it is not there, or somebody else uses it
        raise EnvironmentUnfitError(
            f"the engine keeps the image {image.id} under another ID: {', '.join(loaded) or 'it says none'}",
            hint="use an engine of docs/engines.md",
        )
    return handle


def _members(*members: tuple[str, bytes | Path]) -> Iterator[bytes]:
    for name, part in members:
        info = tarfile.TarInfo(name)
        info.size = len(part) if isinstance(part, bytes) else part.stat().st_size
        yield info.tobuf(tarfile.GNU_FORMAT)
        with io.BytesIO(part) if isinstance(part, bytes) else part.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
        yield bytes(-info.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _descriptor(kind: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest, "size": size}


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
