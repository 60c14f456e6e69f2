"""The metering loop of the capture process: drain, spool, freeze the slice when the ring fills.

Nothing is decoded here: ring bytes go to a file as they are, because a record not copied in time
is a record lost. The process is its own sentinel: it enters the slice's `harness` cgroup, opens a
prime number of known names, and leaves again.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from attrs import Factory, define, frozen

from harness.capture.program import Program, counters_between
from harness.capture.ring import Ring
from harness.contracts.bounds import MAX_RAW_BYTES, MAX_RECORDS
from harness.evidence.model import Kind, KindCounters, Role

SENTINEL_OPENS, SENTINEL_MISSES = 12, 11  # together 23
SENTINEL_ROOT = "/assay-runner-sentinel"
_FREEZE_ABOVE, _THAW_BELOW = 0.5, 0.1  # of the ring
_DRAIN_TIMEOUT = 10.0  # seconds
_LAZY_BITE = 16 << 10  # bytes; no record is longer


@frozen
class Window:
    """One armed window: absolute cgroup paths, the spool file, and how to meter."""

    run: Path
    subject: Path
    tools: Path
    sentinel: Path
    spool: Path
    backpressure: bool = True
    lazy: bool = False  # takes nothing until the slice is frozen, then little: slower than any producer
    most_bytes: int = MAX_RAW_BYTES
    most_records: int = MAX_RECORDS


@frozen
class Reading:
    """What was counted in a window; times in nanoseconds, sizes in bytes."""

    kinds: dict[Kind, KindCounters]
    received: int
    received_bytes: int
    recursion_misses: int
    ring_bytes: int
    ring_high_water: int
    freezes: int
    frozen_ns: int
    errors: tuple[str, ...]


@define
class Meter:
    """One window at a time over one loaded program. Not thread-safe."""

    program: Program
    ring: Ring
    window: Window
    _network: Mapping[Role, int] = Factory(dict)
    _spool: int = -1
    _home: int = -1
    _sentinel: int = -1
    _before: Mapping[Kind, KindCounters] = Factory(dict)
    _misses_before: int = 0
    _received: int = 0
    _received_bytes: int = 0
    _frozen_since: int = 0
    _frozen_ns: int = 0
    _freezes: int = 0
    _errors: tuple[str, ...] = ()

    def arm(self) -> None:
        """Attach to the still empty slice and prove the way: opening sentinels must arrive."""
        self.ring.drain(self.ring.size)
        self.ring.high_water = 0
        self._spool = os.open(self.window.spool, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._home = os.open(_own_cgroup(self.window.run) / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        self._sentinel = os.open(self.window.sentinel / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        self._before = self.program.counters()
        self._network = self.program.attach(self.window.run, self.window.subject, self.window.tools)
        # last: beside an operation on a map the kernel skips whoever comes in between, so nobody of the slice
        self._misses_before = self.program.recursion_misses()
        self._send_sentinels("open")
        self._drain_all()
        if self._received < SENTINEL_OPENS + SENTINEL_MISSES:
            self._errors += ("opening_sentinels_lost",)

    def turn(self) -> int:
        """One turn of the loop; returns the number of records taken."""
        if not self.window.lazy:
            count = self._take(1 << 22)
        else:
            count = self._take(_LAZY_BITE) if self._frozen_since else 0
            time.sleep(0.001)
        if self.window.backpressure:
            self._balance()
        if self._received_bytes > self.window.most_bytes:
            self._stop("too_many_bytes")
        elif self._received > self.window.most_records:
            self._stop("too_many_records")
        return count

    def disarm(self) -> Reading:
        """Closing sentinels, drain to the last record, counters, detach."""
        self._thaw()
        self._send_sentinels("close")
        self._drain_all()
        misses = self.program.recursion_misses() - self._misses_before  # before maps are looked at again
        kinds = counters_between(self._before, self.program.counters())
        self.program.detach(self._network)
        for descriptor in (self._spool, self._home, self._sentinel):
            os.close(descriptor)
        return Reading(
            kinds=kinds,
            received=self._received,
            received_bytes=self._received_bytes,
            recursion_misses=misses,
            ring_bytes=self.ring.size,
            ring_high_water=self.ring.high_water,
            freezes=self._freezes,
            frozen_ns=self._frozen_ns,
            errors=self._errors,
        )

    def _take(self, limit: int) -> int:
        data, count = self.ring.drain(limit)
        self._received += count
        self._received_bytes += len(data)
        try:
            while data:
                data = data[os.write(self._spool, data) :]
        except OSError:
            if "spool_failed" not in self._errors:
                self._errors += ("spool_failed",)
        return count

    def _drain_all(self) -> None:
        deadline = time.monotonic() + _DRAIN_TIMEOUT
        while self.ring.lag():
            if not self._take(1 << 22) and time.monotonic() > deadline:
                self._errors += ("ring_not_drained",)
                return

    def _balance(self) -> None:
        lag = self.ring.lag()
        if not self._frozen_since and lag > self.ring.size * _FREEZE_ABOVE:
            (self.window.run / "cgroup.freeze").write_text("1")
            self._frozen_since = time.monotonic_ns()
            self._freezes += 1
        elif self._frozen_since and lag < self.ring.size * _THAW_BELOW:
            self._thaw()

    def _stop(self, code: str) -> None:
        """Kill what is measured, once: nobody would take evidence of more, and the disk is not its own."""
        if code in self._errors:
            return
        self._errors += (code,)
        for role in (self.window.subject, self.window.tools):
            (role / "cgroup.kill").write_text("1")  # frozen ones too (cgroup-v2.rst)

    def _thaw(self) -> None:
        if self._frozen_since:
            (self.window.run / "cgroup.freeze").write_text("0")
            self._frozen_ns += time.monotonic_ns() - self._frozen_since
            self._frozen_since = 0

    def _send_sentinels(self, phase: str) -> None:
        names = sentinel_names(phase)
        spool = os.fspath(self.window.spool)
        os.write(self._sentinel, b"0")
        try:
            for _ in range(SENTINEL_OPENS):
                os.close(os.open(spool, os.O_RDONLY))
            for name in names:
                try:
                    os.close(os.open(name, os.O_RDONLY))
                except FileNotFoundError:
                    continue
        finally:
            os.write(self._home, b"0")


def sentinel_names(phase: str) -> list[bytes]:
    """The names that a phase ("open" or "close") tries and fails to open."""
    return [f"{SENTINEL_ROOT}/{phase}/{i}".encode() for i in range(SENTINEL_MISSES)]


def _own_cgroup(inside: Path) -> Path:
    """This process's cgroup v2 folder, in the hierarchy that `inside` belongs to."""
    root = inside
    while (root.parent / "cgroup.procs").exists():
        root = root.parent
    line = next(x for x in Path("/proc/self/cgroup").read_text().splitlines() if x.startswith("0::"))
    return root / line.removeprefix("0::").lstrip("/")
