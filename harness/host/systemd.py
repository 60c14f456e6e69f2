"""systemd's side of a run's slices, where the engine's containers are its units.

It makes a unit of each slice that an engine names, and of those above. A unit stays active after its folder
is gone, so it is stopped. A harness in a container talks to the host's systemd, which is process 1.
"""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

_BOOTED = Path("/run/systemd/system")  # sd_booted(3)
_TIMEOUT_S = 30.0


def is_running(root: Path = Path("/")) -> bool:
    """Whether systemd runs what has this root folder."""
    try:
        return (root / _BOOTED.relative_to("/")).is_dir()
    except PermissionError:  # another process's root folder
        return False


def stop(units: Iterable[str]) -> None:
    """Stop these units and wait until they are; one that is not loaded is stopped already."""
    command = _systemctl()
    if command is None:
        return
    try:
        subprocess.run(
            [*command, "--no-ask-password", "--quiet", "stop", "--", *units],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        pass  # whoever removes the folders sees what is still in them


def _systemctl() -> list[str] | None:
    if is_running():
        return ["systemctl"] if shutil.which("systemctl") else None
    if is_running(Path("/proc/1/root")):
        return ["nsenter", "--target", "1", "--mount", "--", "systemctl"]
    return None
