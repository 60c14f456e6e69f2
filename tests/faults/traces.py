"""What a run can leave on a machine: containers, cgroups, folders, processes, mounts, sockets, programs."""

import ctypes
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

from harness.engine.containers import RUN_LABEL, STATE_LABEL
from harness.engine.daemon import engine_paths, engine_status
from harness.host.cgroup import find_root
from harness.host.state import State
from tests.machine import MARK

RUN_PREFIX = "fault_"  # of the run ids of these tests: whose a cgroup is can be told by nothing else
PATIENCE_S = 60.0  # the kernel frees programs and cgroups a little after their last user
_CGROUP_DEVICE = 15  # enum bpf_prog_type: the container runtime's, freed with the cgroup
_BPF, _NEXT_ID, _BY_ID, _INFO = 321, 11, 13, 15  # bpf(2) on x86-64 and its commands


@contextmanager
def within(state: State) -> Iterator[None]:
    """Assert that the body left nothing; an engine that it started may go on running."""
    before = traces(state)
    yield
    assert_gone(state, before)


def assert_gone(state: State, before: frozenset[str] = frozenset()) -> None:
    """Wait until nothing but `before` is there, or fail with what is."""
    deadline = time.monotonic() + PATIENCE_S
    while (left := traces(state) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, f"left behind: {sorted(left)}"


def traces(state: State) -> frozenset[str]:
    """All that runs of this state folder, and processes of this session, have on the machine now."""
    return frozenset(
        [
            *_containers(state),
            *_cgroups(),
            *_folders(state),
            *_processes(state),
            *_mounts(state),
            *_sockets(state),
            *_orphaned_programs(),
        ]
    )


def held_programs(pid: int) -> set[int]:
    """Ids of the BPF programs that a process holds by a descriptor."""
    held = set()
    try:
        for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
            for line in entry.read_text().splitlines():
                if line.startswith("prog_id:"):
                    held.add(int(line.split()[1]))
    except OSError:
        pass  # it ended
    return held


def _containers(state: State) -> Iterator[str]:
    if not engine_status(state).answering:
        return
    client = docker.APIClient(base_url=engine_paths(state).url, version="auto")
    try:
        for entry in client.containers(all=True, filters={"label": f"{STATE_LABEL}={state.root}"}):
            yield f"container {entry['Id'][:12]} of run {entry['Labels'].get(RUN_LABEL)}"
    finally:
        client.close()


def _cgroups() -> Iterator[str]:
    for folder, names, _ in os.walk(find_root().mount):
        for name in names:
            if RUN_PREFIX in name:
                yield f"cgroup {folder}/{name}"


def _folders(state: State) -> Iterator[str]:
    if state.runs.is_dir():
        yield from (f"folder {path}" for path in state.runs.iterdir())


def _processes(state: State) -> Iterator[str]:
    mark = f"{MARK}={os.environ[MARK]}".encode()
    root = os.fsencode(state.root)
    for pid in _pids():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            marked = mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended
        name = command.split(b"\0")[0].rsplit(b"/", 1)[-1]
        # a shim of the engine belongs to a container; the engine itself stays
        if marked or (root in command and name not in (b"dockerd", b"containerd")):
            yield f"process {pid} {command.replace(bytes(1), b' ').decode(errors='replace')[:120]}"


def _mounts(state: State) -> Iterator[str]:
    spaces = [Path("/proc/self/mountinfo")]
    daemon = engine_status(state).pid
    if daemon is not None:
        spaces.append(Path(f"/proc/{daemon}/mountinfo"))
    for space in spaces:
        for line in space.read_text().splitlines():
            ours = str(state.root) in line and ("/containers/" in line or "/merged" in line)
            if ours or RUN_PREFIX in line:
                yield f"mount {line.split()[4]}"


def _sockets(state: State) -> Iterator[str]:
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        path = line.split(maxsplit=7)[7:]
        if path and path[0].startswith(str(state.runs)):
            yield f"socket {path[0]}"


def _orphaned_programs() -> Iterator[str]:
    """BPF programs that no process holds, but something else does (a cgroup, a pin)."""
    present = dict(_programs())
    for pid in _pids():
        for number in held_programs(pid):
            present.pop(number, None)
    yield from (f"bpf program {number} {name}" for number, name in present.items())


def _programs() -> Iterator[tuple[int, str]]:
    number = 0
    while True:
        attribute = ctypes.create_string_buffer(struct.pack("=III", number, 0, 0), 12)
        if _bpf(_NEXT_ID, attribute) < 0:
            return
        (number,) = struct.unpack_from("=I", attribute, 4)
        descriptor = _bpf(_BY_ID, ctypes.create_string_buffer(struct.pack("=III", number, 0, 0), 12))
        if descriptor < 0:
            continue  # it was freed meanwhile
        try:
            info = ctypes.create_string_buffer(128)  # type at 0, name at 64 (struct bpf_prog_info)
            asked = struct.pack("=IIQ", descriptor, len(info), ctypes.addressof(info))
            assert _bpf(_INFO, ctypes.create_string_buffer(asked, len(asked))) == 0
        finally:
            os.close(descriptor)
        (kind,) = struct.unpack_from("=I", info)
        if kind != _CGROUP_DEVICE:
            yield number, info.raw[64:80].partition(b"\0")[0].decode()


def _bpf(command: int, attribute: "ctypes.Array[ctypes.c_char]") -> int:
    return int(ctypes.CDLL(None).syscall(_BPF, command, attribute, len(attribute)))


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
