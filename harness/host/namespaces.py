"""The network namespaces of a run, held from before the first instruction until after the last."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from harness.evidence.model import NetworkSeal, Role
from harness.host import network
from harness.host.cgroup import Slice


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
        watch = _Watch(self._slice, role)
        try:
            start()
        finally:
            descriptor = watch.finish()
        if descriptor is None:
            snapshot = network.NetworkSnapshot(role, problems=("network_unreadable: no namespace was seen",))
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


class _Watch(threading.Thread):
    """Holds the role's network namespace from before its first instruction.

    A container that ends at once has no namespace left to look at afterwards, so this looks at the
    role's cgroup while the runtime sets it up and keeps the first namespace that is not the host's.
    """

    def __init__(self, slice_: Slice, role: Role) -> None:
        super().__init__(name=f"namespace-{role}", daemon=True)
        self._slice, self._role = slice_, role
        self._over = threading.Event()
        self._host = Path("/proc/self/ns/net").stat().st_ino
        self.descriptor: int | None = None
        self.start()

    def run(self) -> None:
        while self.descriptor is None and not self._over.is_set():
            for pid in self._slice.pids(self._role):
                try:
                    descriptor = network.open_netns(pid)
                except OSError:
                    continue  # it is already gone
                if os.fstat(descriptor).st_ino != self._host:
                    self.descriptor = descriptor
                    return
                os.close(descriptor)
            self._over.wait(0.002)

    def finish(self) -> int | None:
        """Stop looking; the descriptor, now the caller's, if one was found."""
        self._over.set()
        self.join()
        return self.descriptor
