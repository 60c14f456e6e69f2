"""Only what the lock names: building, running and verifying images against image.lock.toml."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from harness.engine.file_list import first_difference
from harness.engine.handles import engine_id, remember
from harness.engine.image_lock import (
    LOCK_NAME,
    ImageLock,
    changed_input,
    differences,
    lock_of,
    read_lock,
    refresh,
    to_toml,
)
from harness.engine.images import (
    BuiltImage,
    Progress,
    build_image,
    find_list,
    kept_image,
    load_image,
    read_list,
)
from harness.engine.layer_plans import check_downloads
from harness.engine.layers import check_layer
from harness.engine.recipe import Recipe, load_recipe
from harness.errors import EvidenceError, VerificationError
from harness.evidence.image import RunImage
from harness.host.state import State


@frozen
class ImageState:
    """A line of `image list`; nothing is built for it.

    lock   "locked", "differs" (an input, or what is built of it, is not the lock's) or "unlocked"
    id     of the lock, else of the built image, else None; `size` likewise, in bytes
    built  all layers are in the cache
    """

    name: str
    id: str | None
    size: int | None
    lock: str
    base: str
    runtime: dict[str, str]
    built: bool


def build_locked(
    client: Any, folders: Iterable[Path], *, state: State, progress: Progress
) -> Iterator[BuiltImage]:
    """Build each image and load it. VerificationError, naming the file and with nothing of that image
    loaded, if an input, a kept download, a kept layer or the result is not what the lock says."""
    checked: set[Path] = set()  # layers that several images share are read once
    for folder in folders:
        wanted, lock = load_recipe(folder), _required(folder)
        changed = changed_input(lock, wanted)
        if changed is not None:
            raise VerificationError(
                "ImageInputChanged",
                f"{LOCK_NAME} names other bytes: {changed[1]}",
                place=str(changed[0]),
                hint=refresh(folder),
            )
        check_downloads(wanted, state.root)
        image = _build(folder, state.root, progress)
        for _, layer in image.parts:
            if layer.path not in checked:
                check_layer(layer)
            checked.add(layer.path)
        _check(wanted, lock, image)
        remember(state, load_image(client, image, progress=progress), image.id)
        yield image


def image_for_run(client: Any, folder: Path, *, state: State, progress: Progress, unlocked: bool) -> RunImage:
    """The image as a run needs it, in the engine.

    EvidenceError with both IDs if it is not the locked one, or if its tag names something else in the
    engine; `unlocked` lets it pass. What runs is what the folder's sources give, in any case.
    """
    image, lock = _build(folder, state.root, progress), read_lock(folder)
    locked = lock is not None and lock.id == image.id
    if not unlocked:
        _refuse_other(folder, lock, image, engine_id(client, image.tag))
    handle = load_image(client, image, progress=progress)
    remember(state, handle, image.id)
    return RunImage(
        image.tag,
        image.id,
        image.runtime_roots,
        locked,
        image.contents(),
        handle=handle,
        search=image.search,
    )


def refresh_lock(folder: Path, *, state: State, progress: Progress) -> tuple[ImageLock | None, ImageLock]:
    """Build the image and write what it is into its lock; gives the lock as it was and as it is."""
    wanted = load_recipe(folder)
    image = _build(folder, state.root, progress)
    old, new = read_lock(folder), lock_of(wanted, image)
    part = folder / f".{LOCK_NAME}.part"
    try:
        part.write_text(to_toml(new), encoding="utf-8")
        part.replace(folder / LOCK_NAME)
    finally:
        part.unlink(missing_ok=True)
    return old, new


def verify_images(folders: Iterable[Path], *, state: State, progress: Progress) -> Iterator[BuiltImage]:
    """Build each image from empty caches and compare it with its lock; gives those that are the same.

    VerificationError names the first layer and, if the locked layer is still kept in `state`, the
    first file that differ.
    """
    with _empty_state(state) as empty:
        for folder in folders:
            wanted, lock = load_recipe(folder), _required(folder)
            image = _build(folder, empty, progress)
            _compare_layers(folder, lock, image, state)
            _check(wanted, lock, image)
            yield image


def image_state(folder: Path, *, state: State) -> ImageState:
    """What is known of an image without building anything."""
    wanted, known = load_recipe(folder), read_lock(folder)
    kept = kept_image(wanted, state=state.root)
    if known is None:
        said = "unlocked"
    elif (kept is not None and kept.id != known.id) or changed_input(known, wanted):
        said = "differs"
    else:
        said = "locked"
    named = known or kept
    return ImageState(
        name=wanted.file.name,
        id=named.id if named else None,
        size=named.size if named else None,
        lock=said,
        base=wanted.file.base,
        runtime=known.runtime if known else {},
        built=kept is not None,
    )


def _build(folder: Path, state: Path, progress: Progress) -> BuiltImage:
    return build_image(folder.name, state=state, fixtures=folder.parent, progress=progress)


def _required(folder: Path) -> ImageLock:
    lock = read_lock(folder)
    if lock is None:
        raise VerificationError(
            "ImageUnlocked", "there is no lock", place=str(folder / LOCK_NAME), hint=refresh(folder)
        )
    return lock


def _check(wanted: Recipe, lock: ImageLock, image: BuiltImage) -> None:
    different = differences(lock, lock_of(wanted, image))
    if different:
        raise VerificationError(
            "ImageLockMismatch",
            f"this is not what is built: {'; '.join(different)}",
            place=str(wanted.folder / LOCK_NAME),
            hint=refresh(wanted.folder),
        )


def _refuse_other(folder: Path, lock: ImageLock | None, image: BuiltImage, tagged: str | None) -> None:
    place = str(folder / LOCK_NAME)
    if lock is None or lock.id != image.id:
        changed = changed_input(lock, load_recipe(folder)) if lock else None
        because = f" ({changed[0]} changed)" if changed else ""
        raise EvidenceError(
            f"the image {image.name} is {image.id}, the lock says {lock.id if lock else 'nothing'}{because}",
            place=place,
            hint=f"{refresh(folder)}, or measure it as it is: --image-unlocked",
        )
    if tagged not in (None, *image.handles):
        raise EvidenceError(
            f"the engine has {tagged} under the tag {image.tag}, not the image {lock.id} of the lock",
            place=place,
            hint="`assay-runner image build` puts the tag right; --image-unlocked does not look at it",
        )


def _compare_layers(folder: Path, lock: ImageLock, image: BuiltImage, state: State) -> None:
    """VerificationError for the first layer that is another one than in the lock."""
    locked = {one.title: one for one in lock.layer}
    for title, layer in image.parts:
        known = locked.get(title)
        if known is None or (known.digest, known.files) == (layer.digest, layer.files):
            continue
        kept = find_list(known.digest, state=state.root)
        said = first_difference(kept, read_list(layer)) if kept is not None else None
        where = f"first file: {said}" if said else "no list of the locked layer's files is kept here"
        raise VerificationError(
            "ImageLayerDiffers",
            f"layer {title} is {layer.digest}, the lock says {known.digest}; {where}",
            place=str(folder / LOCK_NAME),
            hint=refresh(folder),
        )


@contextmanager
def _empty_state(state: State) -> Iterator[Path]:
    """A folder with nothing in it, gone afterwards; what a killed verification left is removed."""
    with state.locked("image-verify"):
        for stale in state.root.glob("verify-*"):
            shutil.rmtree(stale)
        folder = Path(tempfile.mkdtemp(prefix="verify-", dir=state.root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
