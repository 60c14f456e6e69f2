"""An image that is already in the engine, by whatever name the user knows it."""

import json
from typing import Any

from docker.errors import APIError, ImageNotFound

from harness.engine.saved_images import image_identity
from harness.errors import InputError
from harness.evidence.image import RunImage
from harness.host.state import State

ROOTS_LABEL = "dev.assay.runner.runtime_roots"


def find_image(client: Any, name: str, *, state: State) -> RunImage:
    """With the runtime roots that its label declares. InputError if the engine does not have it."""
    try:
        image = client.images.get(name)
    except (ImageNotFound, APIError):
        raise InputError(
            f"the engine has no image {name!r}",
            place="--image",
            hint="load it first (`docker load`); nothing is pulled from anywhere",
        ) from None
    try:
        roots = json.loads((image.labels or {}).get(ROOTS_LABEL, "[]"))
    except ValueError:
        roots = []
    declared = tuple(root for root in roots if isinstance(root, str) and root.startswith("/"))
    return RunImage(name, image_identity(client, state, image.id), declared, handle=image.id)
