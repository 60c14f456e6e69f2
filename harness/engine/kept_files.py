"""File lists of images that this program did not build, computed once per image ID and kept.

cache/images/<ID>.files is the list (harness.engine.file_list), <ID>.json its digest and the first lines of
the scripts in it.
"""

import json
import os
import tarfile
from pathlib import Path
from typing import Any

from harness.contracts.canonical import sha256_of
from harness.engine import file_list
from harness.engine.layer_files import contents_of
from harness.engine.saved_images import save_image
from harness.errors import VerificationError
from harness.evidence.image import ImageFiles
from harness.host.state import State


def files_of_image(client: Any, identity: str, *, state: State) -> ImageFiles:
    """What is in the engine's image of this ID; errors as of save_image.

    VerificationError if a layer of it cannot be read.
    """
    record = state.cache / "images" / f"{identity.removeprefix('sha256:')}.json"
    kept = _kept(record)
    if kept is not None:
        return kept
    with state.scratch("image-files") as folder:
        saved = save_image(client, identity, folder, state=state)
        try:
            contents = contents_of([layer for _, layer in saved.layers])
        except tarfile.TarError as error:
            raise VerificationError(
                "LayerUnreadable", f"a layer is no tar: {error}", place=identity, hint="load the image again"
            ) from None
    listed = file_list.to_bytes(contents.lines)
    record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(record.with_suffix(".files"), listed)
    _write(record, json.dumps({"files": sha256_of(listed), "scripts": contents.scripts}).encode("ascii"))
    return file_list.image_files(contents.lines, contents.scripts)


def _kept(record: Path) -> ImageFiles | None:
    try:
        said = json.loads(record.read_bytes())
        listed = record.with_suffix(".files").read_bytes()
        if said["files"] == sha256_of(listed):
            return file_list.image_files(file_list.from_bytes(listed), said["scripts"])
    except (OSError, ValueError, LookupError, TypeError):
        pass  # not there, not whole, or of another version: it is made again
    return None


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(data)
    part.rename(path)
