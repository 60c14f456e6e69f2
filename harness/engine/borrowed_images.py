"""An image that an engine has for one run alone, noted before it is loaded: a killed run's is found."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from docker.errors import APIError, ImageNotFound

from harness.engine.handles import find_handle
from harness.engine.image_archive import SavedImage, load_archive
from harness.host.state import RunFolder, State

_NOTE = "image"


@contextmanager
def borrowed_image(client: Any, state: State, image: SavedImage) -> Iterator[str]:
    """The image in the engine for as long as the block lasts, by its handle; it stays if it was there before.

    It gets no tag: a stranger's image takes no name. EnvironmentUnfitError if the engine does not take it,
    InputError if it is being borrowed already.
    """
    handle = find_handle(client, image.handles)
    if handle is not None:
        yield handle
        return
    folder = RunFolder.create(state, f"replay-{image.id.removeprefix('sha256:')[:12]}")
    try:
        (folder.path / _NOTE).write_text(" ".join(image.handles), encoding="ascii")
        yield load_archive(client, image)
    finally:
        return_image(client, folder)
        folder.remove()


def return_image(client: Any, folder: RunFolder) -> None:
    """Remove the image that was borrowed with this folder, if one was."""
    note = folder.path / _NOTE
    # killed while the note was written: nothing had been loaded yet
    for handle in note.read_text(encoding="ascii").split() if note.is_file() else ():
        try:
            client.api.remove_image(handle)
        except (ImageNotFound, APIError):
            pass  # it never came, somebody else uses it meanwhile, or has removed it
