"""The state folder: where the embedded engine, caches, locks and the folders of live runs are.

Layout: engine/ (private dockerd), runs/<run_id>/ (one per run that is not over), cache/ (images,
downloads), locks/. A run is alive while it holds an exclusive flock on runs/<run_id>/lock; the
kernel drops that lock however the holder ends, so a dead run is one whose lock can be taken.
"""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from harness.errors import EnvironmentUnfitError, RunNameTakenError

VARIABLE = "ASSAY_RUNNER_STATE"


@frozen
class State:
    """The state folder at `root`, which is absolute."""

    root: Path

    @property
    def engine(self) -> Path:
        return self.root / "engine"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def kernel_program(self) -> Path:
        """Folder of the compiled kernel program."""
        return self.cache / "bpf"

    @property
    def capture_log(self) -> Path:
        """What compiler and verifier said when the kernel program could not be loaded."""
        return self.root / "capture.log"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    def prepare(self) -> "State":
        """Make the folders, for the owner alone; EnvironmentUnfitError if that cannot be done."""
        try:
            self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
            for folder in (self.engine, self.runs, self.cache, self.locks):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EnvironmentUnfitError(
                f"the state folder cannot be made: {error}", hint=f"set {VARIABLE} to a folder you may write"
            ) from None
        return self

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock `name` of this state folder; waits for whoever has it."""
        self.locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """An empty folder, gone afterwards; what a killed holder left is removed. One holder at a time."""
        with self.locked(f"scratch-{name}"):
            for stale in self.root.glob(f"scratch-{name}-*"):
                _remove_tree(stale)
            folder = Path(tempfile.mkdtemp(prefix=f"scratch-{name}-", dir=self.root))
            try:
                yield folder
            finally:
                _remove_tree(folder)


def default_state() -> State:
    """$ASSAY_RUNNER_STATE, else /var/lib/assay-runner as root, else the XDG state folder."""
    named = os.environ.get(VARIABLE)
    if named:
        return State(Path(named).resolve())
    if os.geteuid() == 0:
        return State(Path("/var/lib/assay-runner"))
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return State(Path(base) / "assay-runner")


@frozen
class RunFolder:
    """runs/<run_id>, held: `descriptor` has the flock. A forked child shares the lock until it execs."""

    state: State
    run_id: str
    descriptor: int

    @property
    def path(self) -> Path:
        return self.state.runs / self.run_id

    @classmethod
    def create(cls, state: State, run_id: str) -> "RunFolder":
        """Make the folder and hold its lock; RunNameTakenError when a run of that name is not over."""
        with state.locked("runs"):
            folder = state.runs / run_id
            try:
                folder.mkdir(mode=0o700, parents=True)
            except FileExistsError:
                raise RunNameTakenError(
                    f"a run named {run_id!r} is still there",
                    place=str(folder),
                    hint="wait for it, or choose another run id; dead runs are swept at the next start",
                ) from None
            taken = _take(folder)
        if taken is None:
            raise RunNameTakenError(f"a run named {run_id!r} is being swept", hint="try again")
        return cls(state, run_id, taken)

    def subfolder(self, name: str, *, mode: int = 0o755, owner: int | None = None) -> Path:
        """Make (or reuse) a folder in it, with exactly this mode; `owner` is both uid and gid."""
        path = self.path / name
        path.mkdir(exist_ok=True)
        path.chmod(mode)
        if owner is not None:
            os.chown(path, owner, owner)
        return path

    def release(self) -> None:
        """Give up the lock and leave the folder: from now on the run counts as dead."""
        os.close(self.descriptor)

    def remove(self) -> None:
        """Remove the folder and give up the lock; EnvironmentUnfitError if that cannot be done."""
        try:
            with self.state.locked("runs"):
                _remove_tree(self.path)
        finally:
            os.close(self.descriptor)


def claim_dead_runs(state: State) -> list[RunFolder]:
    """Run folders whose holder is gone, each now held by the caller, so that no other sweep has it."""
    claimed = []
    with state.locked("runs"):
        folders = sorted(p for p in state.runs.iterdir() if p.is_dir()) if state.runs.is_dir() else []
        for folder in folders:
            descriptor = _take(folder)
            if descriptor is not None:
                claimed.append(RunFolder(state, folder.name, descriptor))
    return claimed


def live_runs(state: State) -> frozenset[str]:
    """Names of the runs whose lock is held by someone."""
    with state.locked("runs"):
        folders = [p for p in state.runs.iterdir() if p.is_dir()] if state.runs.is_dir() else []
        alive = set()
        for folder in folders:
            descriptor = _take(folder)
            if descriptor is None:
                alive.add(folder.name)
            else:
                os.close(descriptor)
    return frozenset(alive)


def _remove_tree(path: Path) -> None:
    """By rm(1): an agent can make folders deeper than Python recurses, and longer than PATH_MAX."""
    done = subprocess.run(["rm", "-rf", "--", path], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["rm failed"]
        raise EnvironmentUnfitError(
            f"a run's folder cannot be removed: {reason[0]}", place=str(path), hint="remove it by hand"
        )


def _take(folder: Path) -> int | None:
    """The descriptor that holds the folder's lock, or None when someone else has it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
