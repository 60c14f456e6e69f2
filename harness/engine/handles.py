"""What an engine calls an image, its handle, and which image that is.

An image's identity is the digest of its config: that names the layers' digests, and every engine keeps
it. Most engines use it as their ID. Docker's containerd image store uses the digest of a manifest instead,
which differs for the same image as soon as somebody else wrote it (with its layers packed, say). So a
handle is used for creating, saving and removing, and never recorded in evidence.
"""

import json
import os
import re
from collections.abc import Iterable
from typing import Any

from docker.errors import ImageNotFound

from harness.host.state import State

_CONTAINERD = ["driver-type", "io.containerd.snapshotter.v1"]
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_KEPT = 1000


def engine_id(client: Any, name: str) -> str | None:
    """The handle of what the engine has under this digest or tag."""
    try:
        found = client.images.get(name)
    except ImageNotFound:
        return None
    return str(found.id)


def find_handle(client: Any, digests: Iterable[str]) -> str | None:
    """The first of these digests that is a handle in this engine."""
    return next((digest for digest in digests if engine_id(client, digest) == digest), None)


def is_containerd_store(info: dict[str, Any]) -> bool:
    """Whether handles are digests of manifests, by the engine's own `info`.

    Its `Driver` does not tell: a snapshotter can be named as a storage driver is.
    """
    return _CONTAINERD in (info.get("DriverStatus") or [])


def known_identity(state: State, handle: str) -> str | None:
    """What `remember` was told of this handle, in any engine: it is a digest."""
    return _read(state).get(handle)


def known_handles(state: State, identity: str) -> list[str]:
    """The handles that were seen to be this image."""
    return [handle for handle, known in _read(state).items() if known == identity]


def remember(state: State, handle: str, identity: str) -> None:
    """Note which image a handle is, so that nobody has to save it again to find out."""
    if handle == identity:
        return
    with state.locked("handles"):
        known = _read(state)
        known.pop(handle, None)
        kept = dict([*known.items(), (handle, identity)][-_KEPT:])
        part = state.cache / f"handles.{os.getpid()}.part"
        part.write_text(json.dumps(kept, indent=0), encoding="ascii")
        part.replace(state.cache / "handles.json")


def _read(state: State) -> dict[str, str]:
    try:
        known = json.loads((state.cache / "handles.json").read_bytes())
    except (OSError, ValueError):
        return {}
    pairs = known.items() if isinstance(known, dict) else ()
    return {a: b for a, b in pairs if isinstance(b, str) and _DIGEST.fullmatch(a) and _DIGEST.fullmatch(b)}
