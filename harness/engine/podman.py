"""Where podman, asked through Docker's API, wants to be told something otherwise than Docker."""

import functools
from pathlib import Path
from typing import Any

from harness.engine import seccomp
from harness.host import cgroup
from harness.host.state import State

# it knows no uid=, and its runtimes leave the mode alone
TMPFS = {"/tmp": "rw,nosuid,nodev,exec,mode=1777,size=268435456"}  # noqa: S108 - in the container


@functools.lru_cache(maxsize=8)
def is_podman(client: Any) -> bool:
    """Whether it is podman's service that answers."""
    parts = client.version().get("Components") or []
    return any(part.get("Name") == "Podman Engine" for part in parts)


def seccomp_file(state: State, run_id: str) -> Path:
    """Our seccomp profile in the run's folder: podman takes a path, and reads it where its service runs."""
    path = state.runs / run_id / "seccomp.json"
    path.write_text(seccomp.profile_json(), encoding="ascii")
    return path


def without_missing_limits(host_config: dict[str, Any]) -> dict[str, Any]:
    """The same without a limit of processes where cgroup2 has no controller for it: crun insists on one.

    Set afterwards, because Docker's SDK leaves a 0 out, for which podman has a default of its own.
    """
    controllers = cgroup.find_root().mount / "cgroup.controllers"
    if "pids" in controllers.read_text(encoding="ascii").split():
        return host_config
    return host_config | {"PidsLimit": 0}
