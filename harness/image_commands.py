"""What the `image` commands do; `cli` imports this only when one of them is called."""

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

from attrs import asdict

from harness.engine.daemon import engine_status, ensure_engine
from harness.engine.handles import find_handle, known_handles
from harness.engine.image_lock import LOCK_NAME, differences
from harness.engine.locked_images import (
    ImageState,
    build_locked,
    image_state,
    refresh_lock,
    verify_images,
)
from harness.engine.pins import pin_debian, pin_npm, pin_pip
from harness.engine.recipe import IMAGES, load_recipe
from harness.errors import InputError
from harness.gates.catalog import all_images, find_fixture, is_candidate
from harness.host.state import State, default_state
from harness.present.progress import Progress

_INTERPRETERS = ("python", "node")


def build(arguments: argparse.Namespace, progress: Progress) -> int:
    """`assay-runner image build [NAME…]`: what the locks name, in the engine."""
    folders = [_folder(name) for name in arguments.names] or all_images(candidates=False)
    state = default_state().prepare()
    with contextlib.closing(ensure_engine(state)) as client:
        for built in build_locked(client, folders, state=state, progress=progress.step):
            progress.result(f"{built.tag} {built.id}")
    return 0


def lock(arguments: argparse.Namespace, progress: Progress) -> int:
    """`assay-runner image lock NAME…|--all [--packages]`: refresh locks and say what changed."""
    folders = _named(arguments, candidates=True)  # maintenance: an outdated lock helps nobody
    if arguments.packages:
        _pin_packages(folders, progress, shared=arguments.all)
    state = default_state().prepare()
    for folder in folders:
        old, new = refresh_lock(folder, state=state, progress=progress.step)
        changed = differences(old, new) if old else []
        said = "changed" if changed else "unchanged" if old else f"new, {new.id}"
        progress.result("\n  ".join((f"{folder / LOCK_NAME}: {said}", *changed)))
    return 0


def verify(arguments: argparse.Namespace, progress: Progress) -> int:
    """`assay-runner image verify NAME…|--all`: rebuild from nothing and compare with the locks."""
    folders = _named(arguments, candidates=False)
    state = default_state().prepare()
    for image in verify_images(folders, state=state, progress=progress.step):
        progress.result(f"verified {image.name} {image.id}")
    return 0


def listing(arguments: argparse.Namespace, progress: Progress) -> int:
    """`assay-runner image list`: what there is, without building anything."""
    state = default_state()
    folders = all_images(candidates=True)
    found = [image_state(folder, state=state) for folder in folders]
    rows = [
        asdict(one) | {"loaded": loaded, "candidate": is_candidate(folder)}
        for one, loaded, folder in zip(found, _loaded(found, state), folders, strict=True)
    ]
    if arguments.json:
        progress.result(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        size = f"{row['size'] / 1e6:7.1f} MB" if row["size"] is not None else " not built"
        versions = (f"{name} {row['runtime'][name]}" for name in _INTERPRETERS if name in row["runtime"])
        line = (
            f"{row['name']:24} {row['lock']:8} {size}",
            row["id"] or "-",
            row["base"],
            ", ".join(versions),
            "candidate" if row["candidate"] else "",
        )
        progress.result("  ".join(line).rstrip())
    return 0


def _loaded(images: list[ImageState], state: State) -> list[bool | None]:
    """Which of them the engine has; None when it does not run."""
    if not engine_status(state).answering:
        return [None] * len(images)
    with contextlib.closing(ensure_engine(state)) as client:
        return [image.id is not None and _has(client, state, image.id) for image in images]


def _has(client: Any, state: State, identity: str) -> bool:
    return find_handle(client, (identity, *known_handles(state, identity))) is not None


def _pin_packages(folders: list[Path], progress: Progress, *, shared: bool) -> None:
    """Refresh the package locks of the images, and with `shared` those of the layers that all have."""
    if shared:
        progress.step("locking Debian packages")
        pin_debian()
        progress.step("locking Node")
        pin_npm(IMAGES / "node" / "package-lock.json")
    for folder in folders:
        app = load_recipe(folder, locked=False).file.app
        if app.npm:
            progress.step(f"locking npm packages of {folder.name}")
            pin_npm(folder / app.npm)
        if app.pip:
            progress.step(f"locking pip packages of {folder.name}")
            pin_pip(folder / app.pip)


def _named(arguments: argparse.Namespace, *, candidates: bool) -> list[Path]:
    if bool(arguments.names) == arguments.all:
        raise InputError("name images, or give --all", place="image", hint="see image --help")
    return all_images(candidates=candidates) if arguments.all else [_folder(name) for name in arguments.names]


def _folder(name: str) -> Path:
    """The folder of an image: by its name, by path, or by a fixture that has it."""
    here = Path(name).resolve()
    if (here / "image.toml").is_file():
        return here
    for folder in all_images(candidates=True):
        if folder.name == name:
            return folder
    fixture = find_fixture(name)
    return fixture.folder.parent / fixture.file.image
