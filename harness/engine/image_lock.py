"""image.lock.toml of a fixture: what its image is made from, and what that becomes, byte for byte.

The ID alone decides whether an image is the locked one; the rest says where a difference comes from.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import Factory, asdict, frozen

from harness.contracts.converter import Natural, constant, structure
from harness.contracts.rules import Digest
from harness.engine.file_list import image_files
from harness.engine.images import BuiltImage
from harness.engine.layer_plans import NODE_LOCK, NODE_PACKAGE, input_files
from harness.engine.recipe import IMAGES, Recipe, load_base
from harness.errors import InputError

LOCK_NAME = "image.lock.toml"
_FIXTURES = IMAGES.parent / "runner-fixtures"
_PYTHON_PACKAGE = "python3.11-minimal"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


@frozen
class LockedLayer:
    """`digest` is the layer's diff ID, `size` its tar's bytes, `files` the digest of its file list."""

    title: str
    digest: Digest
    size: Natural
    files: Digest


@frozen
class LockedInputs:
    """File -> digest: `repository` relative to this repository, `fixture` to the fixture's folder."""

    repository: dict[str, Digest]
    fixture: dict[str, Digest]


@frozen
class ImageLock:
    """`id` and `size` as of BuiltImage, `files` the digest of the merged file list, `runtime` versions
    by name: the interpreters, and the fixture's own direct npm packages or all of its pip packages."""

    name: str
    base: str
    id: Digest
    size: Natural
    files: Digest
    layer: tuple[LockedLayer, ...]
    inputs: LockedInputs
    runtime: dict[str, str] = Factory(dict)
    schema: str = constant("assay.runner.image_lock.v1")


def read_lock(folder: Path) -> ImageLock | None:
    """The lock in a fixture's folder, None if there is none; InputError if it cannot be understood."""
    path = folder / LOCK_NAME
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", place=str(path), hint=refresh(folder)) from None
    return structure(ImageLock, document, place=str(path))


def lock_of(wanted: Recipe, image: BuiltImage) -> ImageLock:
    """The lock that says what has just been built."""
    return ImageLock(
        name=image.name,
        base=wanted.file.base,
        id=image.id,
        size=image.size,
        files=image_files(image.files()).sha256,
        layer=tuple(
            LockedLayer(title, layer.digest, layer.size, layer.files) for title, layer in image.parts
        ),
        inputs=inputs_of(wanted),
        runtime=runtime_of(wanted),
    )


def inputs_of(wanted: Recipe) -> LockedInputs:
    """Digests of the files that the image is made from, as they are now."""
    shared, own = input_files(wanted)
    return LockedInputs(*({name: _sha256(path) for name, path in files.items()} for files in (shared, own)))


def to_toml(lock: ImageLock) -> str:
    """The bytes of image.lock.toml."""
    names = ("schema", "name", "base", "id", "size", "files")
    tables = [
        ("[runtime]", lock.runtime),
        ("[inputs.repository]", lock.inputs.repository),
        ("[inputs.fixture]", lock.inputs.fixture),
    ]
    text = "# Written by `assay-runner image lock`.\n" + _pairs({name: getattr(lock, name) for name in names})
    for one in lock.layer:
        text += "\n[[layer]]\n" + _pairs(asdict(one))
    for title, table in tables:
        text += f"\n{title}\n{_pairs(table)}"
    return text


def differences(old: ImageLock, new: ImageLock) -> list[str]:
    """One line for each value that is not the same, causes before effects; empty for equal locks."""
    before, after = _flat(old), _flat(new)
    return [
        f"{key}: {before.get(key, 'not there')} -> {after.get(key, 'not there')}"
        for key in dict.fromkeys((*after, *before))
        if before.get(key) != after.get(key)
    ]


def refresh(folder: Path) -> str:
    """The remedy: what to type when the change is meant."""
    name = folder.name if folder.parent == _FIXTURES else str(folder)
    return (
        "the ID follows from every input, the agent and harness/policy included; "
        f"if the change is meant: assay-runner image lock {name}"
    )


def changed_input(lock: ImageLock, wanted: Recipe) -> tuple[Path, str] | None:
    """The first input file that is not the one of the lock, with what differs."""
    now = inputs_of(wanted)
    for root, files, locked, found in zip(
        (IMAGES.parent, wanted.folder),
        input_files(wanted),
        (lock.inputs.repository, lock.inputs.fixture),
        (now.repository, now.fixture),
        strict=True,
    ):
        for name in sorted(locked.keys() | found.keys()):
            if locked.get(name) != found.get(name):
                said = f"{found.get(name, 'not an input any more')}, locked: {locked.get(name, 'nothing')}"
                return files.get(name, root / name), said
    return None


def _flat(lock: ImageLock) -> dict[str, str]:
    flat = {f"input {name}": digest for name, digest in lock.inputs.repository.items()}
    flat |= {f"input {lock.name}/{name}": digest for name, digest in lock.inputs.fixture.items()}
    flat |= {f"runtime {name}": version for name, version in lock.runtime.items()}
    flat |= {f"layer {one.title}": f"{one.digest} ({one.size} bytes)" for one in lock.layer}
    flat |= {f"file list of layer {one.title}": one.files for one in lock.layer}
    return flat | {"base": lock.base, "size": str(lock.size), "files": lock.files, "id": lock.id}


def _pairs(table: Mapping[str, Any]) -> str:
    """TOML 1.0: a JSON string is a basic string; keys are quoted where they are not bare."""
    return "".join(f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items())


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def runtime_of(wanted: Recipe) -> dict[str, str]:
    """Versions as the locks have them; Debian's are cut to what Python itself would say."""
    (python,) = (deb.version for deb in load_base().lock.deb if deb.name == _PYTHON_PACKAGE)
    found = {"python": python.partition("-")[0]}
    app = wanted.file.app
    if wanted.file.base == "node":
        found["node"] = _npm_versions(IMAGES.parent / NODE_LOCK)[NODE_PACKAGE]
    if app.npm:
        found |= _npm_versions(wanted.folder / app.npm)
    if app.pip:
        text = (wanted.folder / app.pip).read_text(encoding="utf-8")
        found |= dict(sorted(_PIN.findall(text)))
    return found


def _npm_versions(lock: Path) -> dict[str, str]:
    """The direct dependencies of a package-lock.json (version 3)."""
    try:
        packages = json.loads(lock.read_bytes())["packages"]
        wanted = sorted(packages[""].get("dependencies", {}))
        return {name: packages[f"node_modules/{name}"]["version"] for name in wanted}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InputError("not a lock file of npm 7 or later", place=str(lock), hint="make it anew") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
