"""Images that leave an engine, as their config and their layers and nothing else.

`docker save` writes whatever its version likes around them, and layers as it keeps them, packed or not. The
config's digest is the image's ID, and it names the digests of the layers unpacked (OCI image spec), so these
bytes are the same from every engine.
"""

import gzip
import hashlib
import json
import platform
import tarfile
from pathlib import Path
from typing import IO, Any

from docker.errors import DockerException

from harness.bundle.kit_contents import diff_ids
from harness.contracts.canonical import sha256_of
from harness.engine.answers import said
from harness.engine.handles import (
    engine_id,
    find_handle,
    is_containerd_store,
    known_handles,
    known_identity,
    remember,
)
from harness.engine.image_archive import SavedImage
from harness.errors import EnvironmentUnfitError, InputError, VerificationError
from harness.host.state import State

_CHUNK = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as configs name them (image-spec, "architecture")


def image_identity(client: Any, state: State, handle: str) -> str:
    """The digest of the config of what the engine has under this handle.

    The containerd store does not tell it, so the image is saved once to find out.
    """
    if not is_containerd_store(client.info()):
        return handle
    known = known_identity(state, handle)
    if known is None:
        with state.scratch("identity") as scratch:
            whole = _fetched(client, handle, scratch)
            with tarfile.open(whole) as tar:
                known = sha256_of(_described(tar)[1])
        remember(state, handle, known)
    return known


def save_image(
    client: Any, identity: str, folder: Path, *, tag: str = "", state: State | None = None
) -> SavedImage:
    """The engine's image of this ID, in the empty `folder`; InputError if it is not there.

    Where the engine calls it something else, it is what was seen to be this image (in `state`), or what has
    this `tag`. VerificationError if what the engine gives is not what the ID stands for.
    """
    handle = find_handle(client, (identity, *(known_handles(state, identity) if state else ())))
    if handle is None and tag and is_containerd_store(client.info()):
        handle = engine_id(client, tag)
    if handle is None:
        raise _not_there(identity)
    whole = _fetched(client, handle, folder)
    try:
        saved = _saved(whole, folder)
    except OSError as error:
        raise _no_room(handle, folder, error) from None
    whole.unlink()
    if saved.id != identity:
        if handle == identity:
            raise VerificationError("ImageIdMismatch", f"the engine gave {saved.id}", place=identity)
        raise _not_there(identity, f" (its {tag} is {saved.id})" if tag else "")
    return saved


def _not_there(identity: str, more: str = "") -> InputError:
    return InputError(
        f"the engine has no image {identity}{more}",
        hint="build it (`assay-runner image build`) or load it: a kit needs the very image of the run",
    )


def _no_room(handle: str, folder: Path, error: OSError) -> EnvironmentUnfitError:
    return EnvironmentUnfitError(
        f"the image {handle} cannot be copied into {folder.parent}: {error}",
        hint="a kit needs twice the image's size there",
    )


def _fetched(client: Any, handle: str, folder: Path) -> Path:
    whole = folder / "saved.tar"
    try:
        with whole.open("wb") as target:
            for chunk in client.api.get_image(handle):
                target.write(chunk)
    except DockerException as error:
        raise EnvironmentUnfitError(
            f"the engine does not give the image {handle}: {said(error)}", hint="see the engine's log"
        ) from None
    except OSError as error:  # a RequestException is one as well
        raise _no_room(handle, folder, error) from None
    return whole


def _described(tar: tarfile.TarFile) -> tuple[list[str], bytes]:
    """The layers' members and the config of the image for this machine; an index may hold others."""
    wanted = _ARCHITECTURES.get(platform.machine(), platform.machine())
    found = [
        (one["Layers"], _member(tar, one["Config"])) for one in json.loads(_member(tar, "manifest.json"))
    ]
    return next((one for one in found if json.loads(one[1]).get("architecture") == wanted), found[0])


def _saved(whole: Path, folder: Path) -> SavedImage:
    with tarfile.open(whole) as tar:
        names, config = _described(tar)
        identity = sha256_of(config)
        layers = []
        for digest, name in zip(diff_ids(config, identity), names, strict=True):
            path = folder / f"{digest.removeprefix('sha256:')}.tar"
            if not path.exists() and _extract(tar, name, path) != digest:
                raise VerificationError(
                    "LayerDigestMismatch",
                    f"the engine gives other bytes than those of the layer {digest}",
                    place=identity,
                    hint="load the image again: what the engine keeps of it is damaged",
                )
            layers.append((digest, path))
    return SavedImage(config, tuple(layers))


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None, f"the engine's {name} is no file"
    return file.read()


def _extract(tar: tarfile.TarFile, name: str, path: Path) -> str:
    """Copy a layer out, unpacked, following the links by which engines save one that is there twice."""
    file, digest = tar.extractfile(name), hashlib.sha256()
    assert file is not None, f"the engine's {name} is no file"
    with _unpacked(file, name) as source, path.open("wb") as target:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            target.write(chunk)
    return f"sha256:{digest.hexdigest()}"


def _unpacked(file: IO[bytes], name: str) -> IO[bytes]:
    """A layer as its tar; registries give them packed, and the containerd store keeps them so."""
    start = file.read(4)
    file.seek(0)
    if start.startswith(_ZSTD):
        raise InputError(
            f"the layer {name} is packed with zstd, which cannot be read here",
            hint="build or push the image with gzip, or use an engine that keeps layers unpacked",
        )
    return gzip.GzipFile(fileobj=file) if start.startswith(_GZIP) else file  # type: ignore[return-value]
