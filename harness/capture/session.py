"""The harness's handle on the capture process: start it once, arm and disarm it per run."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attrs import asdict, frozen

from harness.capture.hooks import CallHook
from harness.capture.meter import SENTINEL_MISSES, SENTINEL_OPENS, Window, sentinel_names
from harness.capture.records import Keep, decode, everything, spooled
from harness.contracts.bounds import MAX_RAW_BYTES, MAX_RECORDS
from harness.errors import EnvironmentUnfitError
from harness.evidence.model import (
    CaptureAccounting,
    Flag,
    KernelRecord,
    Kind,
    KindCounters,
    Role,
)

RING_BYTES = 32 << 20
_START_TIMEOUT = 120.0  # seconds; compiling takes two on an idle machine
_ANSWER_TIMEOUT = 60.0


@frozen
class CaptureOptions:
    """How to meter. The defaults lose nothing; the others exist to prove that losses are seen."""

    ring_bytes: int = RING_BYTES  # a power of two of whole pages
    backpressure: bool = True
    lazy: bool = False  # a consumer that takes nothing until the slice is frozen
    most_bytes: int = MAX_RAW_BYTES  # of records, and ...
    most_records: int = MAX_RECORDS  # ... how many: a run that makes more is stopped
    hook: CallHook | None = None  # None: the one that loses nothing on this kernel


class CaptureSession:
    """A running capture process with its program loaded. Use as a context manager.

    `kept_in` is a folder for the compiled program, so that only the first start has to make it. `log` is
    the file for all that compiler and verifier say if the program cannot be loaded.
    Must be started by the harness's main thread: the process dies with the thread that made it.
    """

    def __init__(
        self,
        options: CaptureOptions = CaptureOptions(),
        *,
        kept_in: Path | None = None,
        log: Path | None = None,
    ) -> None:
        self.options = options
        self._log = log
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._window: Window | None = None
        arguments = {
            "control": theirs.fileno(),
            "ring_bytes": options.ring_bytes,
            "parent": os.getpid(),
            "kept_in": kept_in and os.fspath(kept_in),
            "hook": options.hook,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.capture.worker", json.dumps(arguments)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            start_new_session=True,
        )
        theirs.close()
        self._facts: dict[str, Any] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """BuildFacts of the program; waits until it is loaded. EnvironmentUnfitError if it cannot be."""
        if self._facts is None:
            answer = self._receive(_START_TIMEOUT)
            if answer is None or "refused" in answer:
                raise self._not_loaded(answer or {"refused": "its process died", "remedy": "see the file"})
            self._facts = answer
        return self._facts

    def _not_loaded(self, answer: dict[str, Any]) -> EnvironmentUnfitError:
        """One line; what compiler and verifier said goes to the file, which the hint names."""
        try:
            self._process.wait(10)  # it has said all then
        except subprocess.TimeoutExpired:
            pass
        said = self._said()
        self.close()
        hint = answer["remedy"]
        if self._log is not None:
            try:
                self._log.write_text(said, encoding="utf-8")
                hint = f"{hint}: {self._log}"
            except OSError as error:
                hint = f"{hint} (which could not be written: {error})"
        return EnvironmentUnfitError(f"the capture program cannot be loaded: {answer['refused']}", hint=hint)

    @property
    def pid(self) -> int:
        """The capture process."""
        return self._process.pid

    def arm(self, run: Path, subject: Path, tools: Path, sentinel: Path, spool: Path) -> None:
        """Open a window on an empty slice (absolute cgroup paths); returns when it is being watched."""
        _ = self.facts
        options = self.options
        self._window = Window(
            run, subject, tools, sentinel, spool.resolve(), options.backpressure, options.lazy,
            options.most_bytes, options.most_records,
        )  # fmt: skip
        values = {k: os.fspath(v) if isinstance(v, Path) else v for k, v in asdict(self._window).items()}
        if self._ask({"command": "arm", "window": values}) is None:
            tail = self._said().rstrip().rpartition("\n")[2][-200:]
            raise EnvironmentUnfitError(
                f"the capture process died while arming: {tail or 'it said nothing'}",
                hint="run `assay-runner doctor`",
            )

    def disarm(self, keep: Keep = everything) -> tuple[tuple[KernelRecord, ...], CaptureAccounting]:
        """Close the window: decoded records in ring order, and all the counts.

        `keep` chooses which records are given back; every one is decoded and counted all the same.
        If the capture process died, what it had spooled is decoded and the accounting says
        `capture_process_died`: the run is not clean, but it is not lost.
        """
        assert self._window is not None, "not armed"
        window, self._window = self._window, None
        reading = self._ask({"command": "disarm"})
        watch = _Watch(os.fsencode(window.spool), keep)
        with spooled(window.spool) as data:
            decoded = decode(data, watch)
        if reading is None:
            reading = {
                "kinds": {},
                "received": decoded.total,
                "received_bytes": 0,
                "recursion_misses": 0,
                "ring_bytes": self.options.ring_bytes,
                "ring_high_water": 0,
                "freezes": 0,
                "frozen_ns": 0,
                "errors": ["capture_process_died"],
            }
        reading["kinds"] = {Kind(kind): KindCounters(**values) for kind, values in reading["kinds"].items()}
        reading["errors"] = tuple(reading["errors"])
        accounting = CaptureAccounting(
            decoded=decoded.total,
            decode_errors=decoded.errors,
            sentinels_expected=2 * (SENTINEL_OPENS + SENTINEL_MISSES),
            sentinels_seen=watch.sentinels,
            boundaries=frozenset(watch.boundaries),
            left_out=decoded.left_out,
            **reading,
        )
        return decoded.records, accounting

    def abandon(self) -> None:
        """Close a window that nobody will read, if one is open."""
        if self._window is not None:
            self._window = None
            self._ask({"command": "disarm"})

    def close(self) -> None:
        """End the capture process; everything it attached goes with it."""
        self._control.close()
        if self._facts is None:
            self._process.kill()  # it may still compile, and would not notice for seconds
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any] | None:
        try:
            self._control.sendall(json.dumps(message).encode())
        except OSError:
            return None
        answer = self._receive(_ANSWER_TIMEOUT)
        if answer is None:
            self._process.kill()  # its late answer would be taken for that to the next question
        return answer

    def _receive(self, timeout: float) -> dict[str, Any] | None:
        self._control.settimeout(timeout)
        try:
            packet = self._control.recv(1 << 20)
        except OSError:
            return None
        answer: dict[str, Any] | None = json.loads(packet) if packet else None
        return answer

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")


class _Watch:
    """Looks for sentinels, each with its exact path, and for start boundaries in passing."""

    def __init__(self, spool: bytes, keep: Keep) -> None:
        self._keep = keep
        self._missing = Counter({spool: 2 * SENTINEL_OPENS})
        self._missing.update(name for phase in ("open", "close") for name in sentinel_names(phase))
        self.sentinels = 0
        self.boundaries: set[Role] = set()

    def __call__(self, record: KernelRecord) -> bool:
        if record.role is Role.HARNESS:
            name = record.walked if record.flags & Flag.OBJECT else record.raw
            if record.kind is Kind.OPEN and self._missing[name] > 0:
                self._missing[name] -= 1
                self.sentinels += 1
        elif record.kind is Kind.EXEC and record.result >= 0 and not record.setup:
            self.boundaries.add(record.role)
        return self._keep(record)
