"""A new fixture from templates: a small working agent of a runtime, with everything that its gate needs."""

import tempfile
from pathlib import Path

from harness.engine.recipe import NAME, NAME_RULE, load_recipe
from harness.errors import InputError
from harness.evidence.image import NO_IMAGE
from harness.plan import plan_fixture
from harness.spec import load_fixture

RUNTIMES = ("python", "node")
MARK = "@NAME@"  # in the templates, where the fixture's name stands
_TEMPLATES = Path(__file__).parent / "templates"
_MAX_NAME = 60


def write_fixture(name: str, runtime: str, parent: Path) -> Path:
    """Write parent/name, whole or not at all, and give its place. InputError for a name that an image
    cannot have, and for a folder that is there already."""
    if not NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise InputError(
            f"{name!r} cannot be a fixture's name", place="NAME", hint=f"use {NAME_RULE}, at most {_MAX_NAME}"
        )
    target = parent.resolve() / name
    if target.exists() or target.is_symlink():
        raise InputError("is there already", place=str(target), hint="choose another name or --folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-fixture-", dir=target.parent) as scratch:
            made = Path(scratch) / name
            _fill(made, name, runtime)
            made.rename(target)
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}", place=str(target), hint="choose another --folder"
        ) from None
    return target


def _fill(folder: Path, name: str, runtime: str) -> None:
    folder.mkdir()
    for source in (_TEMPLATES / "shared", _TEMPLATES / runtime):
        for path in sorted(source.rglob("*")):
            copy = folder / path.relative_to(source)
            if path.is_file() and "__pycache__" not in path.parts:
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(path.read_text(encoding="utf-8").replace(MARK, name), encoding="utf-8")
    fixture = load_fixture(folder)  # what is wrong with a template is found here, not by who uses it
    load_recipe(folder)
    plan_fixture(fixture, NO_IMAGE, run_id=None)
