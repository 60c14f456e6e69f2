"""What runs share: a fit host, a live engine, a loaded capture program. Opened once, used for many runs."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from types import TracebackType
from typing import Any, Self

from harness.capture.session import CaptureOptions, CaptureSession
from harness.engine.containers import sweep_dead_runs
from harness.engine.daemon import checks as engine_checks
from harness.engine.daemon import describe, ensure_engine
from harness.errors import RunNameTakenError
from harness.host import doctor, kernel
from harness.host.cgroup import Slice
from harness.host.state import RunFolder, State

Progress = Callable[[str], None]
_NAME_TIMEOUT = 600.0  # seconds to wait for another run of the same name, e.g. of a gate in another CI job


class Bench:
    """Context manager. EnvironmentUnfitError on entry names everything that is missing.

    Entering also removes whatever a killed run left behind: containers, cgroups, folders.
    """

    def __init__(self, state: State, progress: Progress, options: CaptureOptions | None = None) -> None:
        self.state = state
        self.progress = progress
        self._options = options or CaptureOptions()
        self._stack = ExitStack()
        self.capture: CaptureSession
        self.client: Any
        self.engine: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            doctor.require_fit(self.state, engine_checks)
            self.state.prepare()
            # Compiles in its own process while the engine starts.
            self.capture = stack.enter_context(
                CaptureSession(self._options, kept_in=self.state.kernel_program, log=self.state.capture_log)
            )
            self.client = ensure_engine(self.state)
            stack.callback(self.client.close)
            self.engine = describe(self.client)
            self._sweep()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def claim(self, run_id: str, *, timeout_s: float = _NAME_TIMEOUT) -> tuple[RunFolder, Slice]:
        """Folder and slice of a new run, held by the caller. A host has each run's name once.

        Waits for a live run of that name and says so; RunNameTakenError if it is not over in time.
        """
        deadline = time.monotonic() + timeout_s
        for attempt in count():
            try:
                return self._claim(run_id)
            except RunNameTakenError:
                if attempt and time.monotonic() > deadline:
                    raise
            self._sweep()  # it may be dead
            if attempt == 1:
                self.progress(
                    f"waiting for another run named {run_id} on this host, {timeout_s:.0f} s at most"
                )
            time.sleep(0.2 if attempt else 0)
        raise AssertionError

    def _claim(self, run_id: str) -> tuple[RunFolder, Slice]:
        folder = RunFolder.create(self.state, run_id)
        try:
            return folder, Slice.create(run_id, driver=self.engine["cgroup_driver"])
        except BaseException:
            folder.remove()
            raise

    def _sweep(self) -> None:
        for name in sweep_dead_runs(self.client, self.state):
            self.progress(f"removed what the killed run {name} left behind")

    def host_facts(self) -> dict[str, str]:
        """Facts of host, engine and program for companion/host.json."""
        found = kernel.facts()
        program = self.capture.facts
        return {
            "kernel": found.release,
            "machine": found.machine,
            "btf_sha256": program["btf_digest"],
            "program_sha256": program["digest"],
            "sys_exit_hook": program["call_hook"],
            **self.engine,
        }
