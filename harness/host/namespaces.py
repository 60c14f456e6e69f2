"""The network namespaces of a run, held from before the first instruction until after the last.

A namespace is a container's by fact: a process of the role's cgroup is in it, and it did not exist
before the start. So it does not matter in which namespaces the harness and the engine live.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from harness.evidence.model import NetworkSeal, Role
from harness.host import network
from harness.host.cgroup import Slice

_Identity = tuple[int, int]  # st_dev and st_ino name a namespace while it exists, namespaces(7)
_LOOK_EVERY_S = 0.002  # a runtime needs some ten milliseconds from the namespace to the first program
_FIRST = -20  # niceness: whoever looks must not wait for the CPU behind what it looks at


class Namespaces:
    """The network namespaces of a run's containers, looked at when found and at the end.

    `subject` is what the run declares of the agent's network: "none" or "loopback".
    """

    def __init__(self, slice_: Slice, *, subject: str = "none") -> None:
        self._slice = slice_
        self._declared = {Role.SUBJECT: subject}
        self._held: dict[Role, tuple[int | None, network.NetworkSnapshot]] = {}

    def start(self, role: Role, start: Callable[[], None]) -> None:
        """Start the role's container with `start` and look into its namespace."""
        with Existing() as existing:
            watch = _Watch(self._slice, role, existing)
            try:
                start()
            finally:
                descriptor = watch.finish()
        if descriptor is None:
            problem = "network_unreadable: no new namespace was seen"
            snapshot = network.NetworkSnapshot(role, problems=(problem,))
        else:
            snapshot = network.inspect(role, descriptor)
        self._held[role] = descriptor, snapshot

    def knows(self, role: Role) -> bool:
        """Whether the role's container was started."""
        return role in self._held

    def seals(self) -> tuple[NetworkSeal, ...]:
        """Look again, now that the containers have ended, and judge."""
        found = []
        for role, (descriptor, before) in self._held.items():
            after = before if descriptor is None else network.inspect(role, descriptor)
            found.append(network.seal(role, before, after, declared=self._declared.get(role, "none")))
        return tuple(found)

    def close(self) -> None:
        """Let the namespaces go."""
        for descriptor, _ in self._held.values():
            if descriptor is not None:
                os.close(descriptor)


class Existing:
    """The network namespaces that exist now: of any process, or kept by a mount. Context manager.

    They are held meanwhile: one that died could hand its inode number on to the new one, which would
    then look as if it had been there before.
    """

    def __init__(self) -> None:
        self._held: dict[_Identity, int] = {}

    def __enter__(self) -> Self:
        kind = os.stat("/proc/self/ns/net").st_dev  # noqa: PTH116 - as below
        for path in _namespace_files():
            self._hold(path, kind)
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def __contains__(self, identity: _Identity) -> bool:
        return identity in self._held

    def _hold(self, path: str, kind: int) -> None:
        try:
            if identity_of(os.stat(path)) in self._held:  # noqa: PTH116 - for each process of the host
                return
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return  # the process has ended
        status = os.fstat(descriptor)
        # where something is mounted over a mount, its path leads elsewhere
        if status.st_dev != kind or self._held.setdefault(identity_of(status), descriptor) != descriptor:
            os.close(descriptor)


def identity_of(status: os.stat_result) -> _Identity:
    """What a namespace is called, from the status of its file."""
    return status.st_dev, status.st_ino


def _namespace_files() -> Iterator[str]:
    """A file of every process's namespace, and every mount of one, as each mount namespace shows it."""
    seen = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208 - as above
        yield f"/proc/{pid}/ns/net"
        try:
            mounts = identity_of(os.stat(f"/proc/{pid}/ns/mnt"))  # noqa: PTH116 - as above
            if mounts in seen:
                continue
            seen.add(mounts)
            lines = Path(f"/proc/{pid}/mountinfo").read_bytes().splitlines()
        except OSError:
            continue
        for fields in (line.split(b" ") for line in lines):
            if fields[3].startswith(b"net:["):  # proc(5): the root of the mount within its file system
                place = fields[4].decode("unicode_escape").encode("latin-1")  # blanks are \040
                yield f"/proc/{pid}/root" + os.fsdecode(place)


class _Watch(threading.Thread):
    """Holds the role's network namespace from before its first instruction.

    A container that ends at once has no namespace left to look at afterwards, so this looks at the
    processes of the role's cgroup while the runtime sets it up. The runtime's first process comes out
    of a namespace that was there before; the one it goes into is new, and the program starts there.
    """

    def __init__(self, slice_: Slice, role: Role, existing: Existing) -> None:
        super().__init__(name=f"namespace-{role}", daemon=True)
        self._slice, self._role, self._existing = slice_, role, existing
        self._over = threading.Event()
        self.descriptor: int | None = None
        self.start()

    def run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _FIRST)  # of this thread alone
        while self.descriptor is None and not self._over.is_set():
            begun = time.thread_time()
            self._look()
            # never more than half of a slow host's only CPU: the runtime has to get on as well
            self._over.wait(max(_LOOK_EVERY_S, time.thread_time() - begun))
        if self.descriptor is None:
            self._look()  # a last time: the container may run

    def _look(self) -> None:
        for pid in self._slice.pids(self._role):
            try:
                descriptor = network.open_netns(pid)
            except OSError:
                continue  # it is already gone
            if identity_of(os.fstat(descriptor)) not in self._existing:
                self.descriptor = descriptor
                return
            os.close(descriptor)

    def finish(self) -> int | None:
        """Stop looking; the descriptor, now the caller's, if one was found."""
        self._over.set()
        self.join()
        return self.descriptor
