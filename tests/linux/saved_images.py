"""An image that leaves an engine as a file and comes back from it: docker-save(1), docker-load(1)."""

from pathlib import Path

import docker


def saved_and_loaded(engine: docker.DockerClient, image: str, file: Path) -> str:
    """The ID that the image with the ID `image` has afterwards; `file` holds it meanwhile."""
    with file.open("wb") as saved:
        for chunk in engine.images.get(image).save(named=True):
            saved.write(chunk)
    engine.images.remove(image, force=True)
    assert image not in {one.id for one in engine.images.list(all=True)}
    with file.open("rb") as saved:
        (loaded,) = engine.images.load(saved)
    file.unlink()
    return str(loaded.id)
