"""What an image is declared to be: image.toml of a fixture, images/base.toml and its lock.

Unknown keys and wrong types are refused with their place, before anything is fetched.
"""

import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import TypeVar

from attrs import Factory, field, frozen

from harness.contracts.converter import constant, structure
from harness.errors import InputError

T = TypeVar("T")

IMAGES = Path(__file__).resolve().parents[2] / "images"
SHARED = IMAGES / "shared"
BASES = ("python", "node")
# What an engine takes as a part of a repository's name (OCI distribution spec), and no more.
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
NAME_RULE = "a-z, 0-9 and single '-' between them"


@frozen
class AppSpec:
    """The fixture's own part: `files` and those of images/shared that it names in `shared` go to /opt/app,
    `npm` (a package-lock.json with its package.json beside it) to /opt/app/node_modules, `pip` (a hashed
    requirement file) to /opt/site."""

    files: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    npm: str | None = None
    pip: str | None = None


@frozen
class ImageFile:
    """image.toml as written."""

    name: str
    base: str
    runtime_roots: tuple[str, ...]
    app: AppSpec = AppSpec()
    env: dict[str, str] = Factory(dict)
    schema: str = constant("assay.runner.image.v1")


@frozen
class Recipe:
    """An image.toml that passed all checks, with the folder it came from."""

    folder: Path
    file: ImageFile

    @property
    def named(self) -> tuple[str, ...]:
        """The files of the folder that go into the image, or pin what does; relative to it."""
        app = self.file.app
        beside = str(Path(app.npm).with_name("package.json")) if app.npm else None
        return tuple(dict.fromkeys(filter(None, (*app.files, app.npm, beside, app.pip))))


@frozen
class Deb:
    """One pinned package: `path` is its place in any Debian mirror, `size` in bytes."""

    name: str
    version: str
    path: str
    size: int
    sha256: str


@frozen
class DebLock:
    """images/base.lock.toml, written by harness.engine.pins."""

    suite: str
    deb: tuple[Deb, ...]
    schema: str = constant("assay.runner.deb_lock.v1")


@frozen
class BaseSpec:
    """images/base.toml: which Debian packages, what of them, and what else stands in the root folder.

    `drop` and `only` are fnmatch patterns ("*" crosses "/") on paths without a leading "/"; of a
    package named in `only` nothing else is taken.
    """

    suite: str
    packages: tuple[str, ...]
    drop: tuple[str, ...] = ()
    only: dict[str, tuple[str, ...]] = Factory(dict)
    folders: tuple[str, ...] = ()
    links: dict[str, str] = Factory(dict)
    files: dict[str, str] = Factory(dict)
    schema: str = constant("assay.runner.base_image.v1")


@frozen
class Base:
    """The Debian part of every image, with the bytes that declare it (they are its cache key)."""

    spec: BaseSpec
    lock: DebLock
    declared: tuple[bytes, ...] = field(repr=False)


def load_recipe(folder: Path, *, locked: bool = True) -> Recipe:
    """Read and check `folder`/image.toml; InputError names the place and the remedy.

    Unless `locked`, the package locks that it names may still have to be made.
    """
    path = folder / "image.toml"
    file = _structure(ImageFile, _read(path), path)
    recipe = Recipe(folder, file)
    named = recipe.named
    unsafe = [name for name in named if name.startswith("/") or ".." in PurePosixPath(name).parts]
    to_be_made = () if locked else (file.app.npm, file.app.pip)
    known = sorted(path.name for path in SHARED.iterdir() if path.suffix in (".py", ".mjs"))
    unknown = [name for name in file.app.shared if name not in known]
    twice = sorted({*file.app.files} & {*file.app.shared})
    missing = [name for name in named if name not in (*unsafe, *to_be_made) and not (folder / name).is_file()]
    relative = [root for root in file.runtime_roots if not root.startswith("/")]
    for wrong, what, hint in (
        (file.name != folder.name, f"name {file.name!r} is not the folder's name", "make them equal"),
        (not NAME.fullmatch(file.name), f"name {file.name!r} cannot be an image's", f"use {NAME_RULE}"),
        (file.base not in BASES, f"base {file.base!r} is not known", f"known: {', '.join(BASES)}"),
        (bool(unsafe), f"{unsafe} lead out of the fixture's folder", "name files below it"),
        (bool(missing), f"{missing} are not in the fixture's folder", "add them, or correct [app]"),
        (bool(unknown), f"shared {unknown} are not known", f"known: {', '.join(known)}"),
        (bool(twice), f"{twice} are in files and in shared", "name each in one of them"),
        (bool(relative), f"runtime_roots {relative} are not absolute", "begin them with '/'"),
    ):
        if wrong:
            raise InputError(what, place=str(path), hint=hint)
    return recipe


def load_base(images: Path = IMAGES) -> Base:
    """Read images/base.toml and its lock; InputError when they do not name the same packages."""
    spec_path, lock_path = images / "base.toml", images / "base.lock.toml"
    declared = (_read(spec_path), _read(lock_path))
    spec = _structure(BaseSpec, declared[0], spec_path)
    lock = _structure(DebLock, declared[1], lock_path)
    if spec.suite != lock.suite or sorted(spec.packages) != sorted(deb.name for deb in lock.deb):
        raise InputError(
            "locks other packages than base.toml asks for",
            place=str(lock_path),
            hint="run `assay-runner image lock --all --packages`",
        )
    return Base(spec, lock, declared)


def load_base_spec(images: Path = IMAGES) -> BaseSpec:
    """images/base.toml alone, whatever its lock says."""
    path = images / "base.toml"
    return _structure(BaseSpec, _read(path), path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", place=str(path), hint="check the path"
        ) from None


def _structure(cls: type[T], raw: bytes, path: Path) -> T:
    try:
        document = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not valid TOML: {error}", place=str(path), hint="correct it") from None
    return structure(cls, document, place=str(path))
