"""Do harness and engine see the same machine? They need not live in the same namespaces.

The harness may be in a container beside the engine, or the other way round. What a run needs is looked
at by the engine's own process: its processes are visible here (the seal looks at a container's
namespace through them), both see one cgroup tree (the engine is given a path in it), and the state
folder is the same folder under the same name (the engine mounts what is in it).
"""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from harness.errors import EnvironmentUnfitError
from harness.host import cgroup
from harness.host.doctor import Check
from harness.host.state import State

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_NAME = "engine-view"


def check(socket_path: Path, state: State) -> Check:
    """One line of the doctor about the engine that listens at `socket_path`."""
    pid = listener(socket_path)
    if pid == 0:
        return Check(
            _NAME,
            ok=False,
            detail="the engine's processes are not visible here",
            remedy="start the harness's container with `--pid host`",
        )
    try:
        for detail, remedy in _differences(pid, state):
            return Check(_NAME, ok=False, detail=detail, remedy=remedy)
    except PermissionError as error:
        return Check(
            _NAME,
            ok=False,
            detail=f"the engine's process {pid} cannot be looked at: {error}",
            remedy="run as root; in a container, with `--cap-add SYS_PTRACE`",
        )
    return Check(_NAME, ok=True, detail=f"one machine with process {pid}")


def listener(path: Path) -> int:
    """Pid of who called listen(2) there, 0 if it has none in our pid namespace (SO_PEERCRED, unix(7))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.connect(os.fspath(path))
        data = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(data)[0]
    return pid


def _differences(pid: int, state: State) -> Iterator[tuple[str, str]]:
    seen = Path(f"/proc/{pid}/root")
    ours = cgroup.find_root().mount
    try:
        theirs = cgroup.find_root(Path(f"/proc/{pid}/mountinfo")).mount
    except EnvironmentUnfitError as error:
        yield f"the engine's process: {error.message}", error.hint
        return
    if not _same(ours, seen / theirs.relative_to("/")):
        yield (
            f"{ours} is not the root of the engine's cgroup tree",
            "start the harness's container with `--cgroupns host -v /sys/fs/cgroup:/sys/fs/cgroup`",
        )
    folder = next(path for path in (state.root, *state.root.parents) if path.exists())
    if not _same(folder, seen / folder.relative_to("/")):
        yield (
            f"the engine has not the same folder at {folder}",
            f"mount the state folder into the harness's container: `-v {state.root}:{state.root}`",
        )


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False
