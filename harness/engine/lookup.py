"""An image that is already in the engine, by whatever name the user knows it."""

from typing import Any

from docker.errors import APIError, ImageNotFound

from harness.engine.kept_files import files_of_image
from harness.engine.saved_images import image_identity
from harness.errors import InputError
from harness.evidence.image import RunImage, search_of
from harness.host.state import State

WHOLE = ("/",)  # whatever is in its file list is the image; its labels say nothing


def find_image(client: Any, name: str, *, state: State) -> RunImage:
    """With its file list, which is computed once. InputError if the engine does not have it."""
    try:
        image = client.images.get(name)
    except (ImageNotFound, APIError):
        raise InputError(
            f"the engine has no image {name!r}",
            place="--image",
            hint="load it first (`docker load`); nothing is pulled from anywhere",
        ) from None
    env = (image.attrs.get("Config") or {}).get("Env") or ()
    identity = image_identity(client, state, image.id)
    files = files_of_image(client, identity, state=state)
    return RunImage(name, identity, WHOLE, files=files, handle=image.id, search=search_of(env))
