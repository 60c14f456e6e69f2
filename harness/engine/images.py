"""Fixture images: built layer by layer from their plans, kept in a cache, loaded into the engine."""

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from harness.engine import file_list, layers
from harness.engine.file_list import Listed
from harness.engine.handles import engine_id, find_handle
from harness.engine.image_archive import SavedImage, load_archive
from harness.engine.layer_files import contents_of
from harness.engine.layer_plans import LayerPlan, layer_plans
from harness.engine.layers import ImageConfig, Layer
from harness.engine.recipe import Recipe, load_recipe
from harness.errors import VerificationError
from harness.evidence.image import ImageFiles, search_of

LABEL_IMAGE = "dev.assay.runner.image"
LABEL_ROOTS = "dev.assay.runner.runtime_roots"
UNUSED_DAYS = 30
PATHS = {"python": "/usr/bin", "node": "/opt/node/bin:/usr/bin"}

Progress = Callable[[str], None]


@frozen
class BuiltImage:
    """An image: `id` and `layers` as "sha256:…", `size` in bytes of its layers, unpacked.

    `parts` are the layers as (title, layer) pairs, `config` the bytes that `id` is the digest of.
    """

    name: str
    id: str
    size: int
    layers: tuple[str, ...]
    runtime_roots: tuple[str, ...]
    parts: tuple[tuple[str, Layer], ...] = field(eq=False, repr=False)
    config: bytes = field(repr=False)

    @property
    def saved(self) -> SavedImage:
        """As it goes into an engine."""
        return SavedImage(self.config, tuple((layer.digest, layer.path) for _, layer in self.parts))

    @property
    def handles(self) -> tuple[str, str]:
        """What an engine may call it."""
        return self.id, self.saved.manifest_digest

    @property
    def tag(self) -> str:
        return f"assay-runner/{self.name}:{self.id.removeprefix('sha256:')[:12]}"

    def files(self) -> list[Listed]:
        """What is at each path; VerificationError if a kept list is not what it was."""
        return file_list.merged(read_list(layer) for _, layer in self.parts)

    def contents(self) -> ImageFiles:
        """The same as evidence needs it."""
        scripts: dict[str, str] = {}
        for _, layer in self.parts:
            for line in read_list(layer):
                scripts.pop(line.path, None)
            scripts |= _scripts(layer)
        return file_list.image_files(self.files(), scripts)

    @property
    def search(self) -> str:
        """PATH of its containers."""
        return search_of(json.loads(self.config)["config"]["Env"])


def ensure_image(client: Any, name: str, *, state: Path, fixtures: Path, progress: Progress) -> BuiltImage:
    """The image `name` of `fixtures`, in the engine behind `client` (a docker.DockerClient).

    `state` keeps caches. Raises InputError for a bad recipe, VerificationError for anything that does
    not have its pinned hash (nothing is loaded then), EnvironmentUnfitError when something is missing.
    """
    image = build_image(name, state=state, fixtures=fixtures, progress=progress)
    load_image(client, image, progress=progress)
    return image


def build_image(name: str, *, state: Path, fixtures: Path, progress: Progress) -> BuiltImage:
    """Build what is missing of the image's layers; no engine is needed. Errors as ensure_image."""
    wanted = load_recipe(fixtures / name)
    return _image(
        wanted, [(plan.title, _layer(plan, state, progress)) for plan in layer_plans(wanted, state)]
    )


def kept_image(wanted: Recipe, *, state: Path) -> BuiltImage | None:
    """The image if all its layers are in the cache; nothing is built."""
    parts = []
    for plan in layer_plans(wanted, state):
        layer = _kept(plan, state)
        if layer is None:
            return None
        parts.append((plan.title, layer))
    return _image(wanted, parts)


def load_image(client: Any, image: BuiltImage, *, progress: Progress) -> str:
    """Make the engine have the image, under its tag; gives its handle there.

    VerificationError if a kept layer was changed, EnvironmentUnfitError if the engine does not take it.
    """
    handle = find_handle(client, image.handles)
    if handle is None:
        progress(f"loading image {image.tag}")
        for layer in {layer.path: layer for _, layer in image.parts}.values():
            layers.check_sha256(layer.path, layer.digest.removeprefix("sha256:"), "LayerDigestMismatch")
        handle = load_archive(client, image.saved)
    if engine_id(client, image.tag) != handle:
        client.api.tag(handle, *image.tag.split(":"))
    return handle


def read_list(layer: Layer) -> list[Listed]:
    """The file list beside a kept layer; VerificationError if it is not what it was."""
    layers.check_sha256(layer.list_path, layer.files.removeprefix("sha256:"), "FileListDigestMismatch")
    return file_list.from_bytes(layer.list_path.read_bytes())


def _scripts(layer: Layer) -> dict[str, str]:
    """First lines of the layer's scripts, by their paths; kept beside it: a list has digests alone."""
    kept = layer.path.with_suffix(".scripts")
    try:
        said = json.loads(kept.read_bytes())
        if said["layer"] == layer.digest:
            return dict(said["scripts"])
    except (OSError, ValueError, LookupError, TypeError):
        pass  # not there, or of another version
    scripts = contents_of([layer.path]).scripts
    part = kept.with_name(f"{kept.name}.{os.getpid()}")
    part.write_text(json.dumps({"layer": layer.digest, "scripts": scripts}), encoding="ascii")
    part.rename(kept)
    return scripts


def find_list(digest: str, *, state: Path) -> list[Listed] | None:
    """The file list of any kept layer with this digest ("sha256:…")."""
    for record in sorted((state / "cache" / "layers").glob("*.json")):
        try:
            layer = _recorded(record)
            if layer.digest == digest:
                return read_list(layer)
        except VerificationError:
            continue  # another version of this program wrote it
        except FileNotFoundError:
            continue  # it is being removed
    return None


def _image(wanted: Recipe, parts: list[tuple[str, Layer]]) -> BuiltImage:
    name, roots = wanted.file.name, wanted.file.runtime_roots
    labels = {LABEL_IMAGE: name, LABEL_ROOTS: json.dumps(roots, separators=(",", ":"))}
    env = {"PATH": PATHS[wanted.file.base]} | wanted.file.env
    built = [layer for _, layer in parts]
    config = layers.config_bytes(ImageConfig(env, labels), built)
    return BuiltImage(
        name,
        layers.image_id(config),
        sum(layer.size for layer in built),
        tuple(layer.digest for layer in built),
        roots,
        tuple(parts),
        config,
    )


def _layer(plan: LayerPlan, state: Path, progress: Progress) -> Layer:
    """The layer of `plan` as recorded when it was built; built now if it never was."""
    with suppress(OSError):  # not there, or nothing can be removed from there either
        os.utime(_record(plan, state))  # in use, and said so before it is looked at: see _remove_unused
    kept = _kept(plan, state)
    if kept is not None:
        return kept
    with _scratch(state) as scratch:
        kept = _kept(plan, state)  # another process may have built it meanwhile
        if kept is not None:
            return kept
        progress(f"building image layer {plan.title}")
        begun = time.monotonic()
        built = layers.write_layer(plan.tree(scratch), scratch / "layer.tar")
        record = _record(plan, state)
        record.parent.mkdir(parents=True, exist_ok=True)
        kept = evolve(built, path=record.with_suffix(".tar"))
        built.path.rename(kept.path)
        built.list_path.rename(kept.list_path)
        part = scratch / "record.json"
        said = {"digest": kept.digest, "size": kept.size, "files": kept.files}
        part.write_text(json.dumps(said), encoding="utf-8")
        part.rename(record)
        _remove_unused(record.parent)
        took = time.monotonic() - begun
        progress(f"built image layer {plan.title}: {kept.size / 1e6:.1f} MB in {took:.1f} s")
        return kept


def _remove_unused(folder: Path) -> None:
    """Remove the layers that no build has asked for in UNUSED_DAYS; called by who holds the cache's lock."""
    oldest = time.time() - UNUSED_DAYS * 86400
    for record in folder.glob("*.json"):
        if record.stat().st_mtime < oldest:
            aside = record.with_suffix(".gone")
            record.rename(aside)  # nobody finds it any more
            if aside.stat().st_mtime >= oldest:  # but somebody just has
                aside.rename(record)
    for gone in folder.glob("*.gone"):
        for kind in (".tar", ".files", ".scripts"):
            gone.with_suffix(kind).unlink(missing_ok=True)
        gone.unlink()


def _record(plan: LayerPlan, state: Path) -> Path:
    return state / "cache" / "layers" / f"{plan.key}.json"


def _kept(plan: LayerPlan, state: Path) -> Layer | None:
    try:
        layer = _recorded(_record(plan, state))
    except FileNotFoundError:
        return None
    return layer if layer.path.exists() and layer.list_path.exists() else None


def _recorded(record: Path) -> Layer:
    try:
        known = json.loads(record.read_bytes())
        return Layer(record.with_suffix(".tar"), known["digest"], known["size"], known["files"])
    except (ValueError, LookupError, TypeError):
        raise VerificationError(
            "LayerRecordUnreadable", "no record of a layer", place=str(record), hint="delete it and try again"
        ) from None


@contextmanager
def _scratch(state: Path) -> Iterator[Path]:
    """An empty folder, gone afterwards; one builder at a time, so what a killed one left is removed."""
    store = state / "cache"
    store.mkdir(parents=True, exist_ok=True)
    with (store / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in store.glob("scratch-*"):
            shutil.rmtree(stale)
        folder = Path(tempfile.mkdtemp(prefix="scratch-", dir=store))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
