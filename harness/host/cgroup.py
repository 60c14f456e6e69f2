"""The run's own cgroup v2 slice: one child per role, found again and removed after any death.

The parent follows contracts §3.4 (nearest ancestor of type `domain` whose name ends in neither
`.scope` nor `.service`), with two additions: the true root, which has no cgroup.type, is allowed; and
one that has processes in it is not, where there are controllers (they would keep the engine from
switching those on for its containers: "no internal processes").
Kernel side: Documentation/admin-guide/cgroup-v2.rst (cgroup.events, cgroup.freeze, cgroup.kill).
A slice is alive while its maker holds an flock on the run's directory, whatever state folder it uses.
"""

import errno
import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from attrs import field, frozen

from harness.errors import EnvironmentUnfitError, RunNameTakenError
from harness.evidence.model import Role
from harness.host import cgroup_v1, systemd

FAMILY = "assay-runner"
SYSTEMD_FAMILY = "assay-runner.slice"
ROLES = tuple(Role)


@frozen
class CgroupRoot:
    """Where cgroup2 is mounted; `hybrid` when version 1 hierarchies stand at /sys/fs/cgroup."""

    mount: Path

    @property
    def hybrid(self) -> bool:
        return self.mount != Path("/sys/fs/cgroup")


def find_root(mountinfo: Path = Path("/proc/self/mountinfo")) -> CgroupRoot:
    """The cgroup2 mount, /sys/fs/cgroup before any other; EnvironmentUnfitError if there is none."""
    mounts = []
    for line in mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")  # proc(5): optional fields end with " - "
        if after.split(" ", 1)[0] == "cgroup2":
            mounts.append(Path(before.split(" ")[4].replace("\\040", " ")))
    if not mounts:
        raise EnvironmentUnfitError("cgroup v2 is not mounted", hint="mount -t cgroup2 none /sys/fs/cgroup")
    return CgroupRoot(min(mounts, key=lambda m: (m != Path("/sys/fs/cgroup"), len(m.parts), str(m))))


def choose_parent(root: CgroupRoot, membership: Path = Path("/proc/self/cgroup")) -> Path:
    """The cgroup under which runs get their slices, by the rule above."""
    own = next(
        (line[3:] for line in membership.read_text(encoding="utf-8").splitlines() if line.startswith("0::")),
        None,
    )
    if own is None:
        raise EnvironmentUnfitError("this process is in no cgroup v2", hint="boot without cgroup_no_v2")
    here = root.mount / own.strip("/")
    while here != root.mount:
        try:
            kind = (here / "cgroup.type").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            raise EnvironmentUnfitError(
                f"{here} has no cgroup.type", hint="is cgroup v2 mounted here?"
            ) from None
        if kind == "domain" and not here.name.endswith((".scope", ".service")) and not _occupied(here):
            return here
        here = here.parent
    return root.mount


def _occupied(path: Path) -> bool:
    """Whether processes are in the cgroup itself and it has controllers to hand down."""
    files = (path / "cgroup.controllers", path / "cgroup.procs")
    return all(file.read_text(encoding="ascii").strip() for file in files)


@frozen
class Slice:
    """…/assay-runner/<run_id>/{subject,tools,harness}; `path` is the run's directory on this host.

    With a systemd engine the names are slices, nested by their dashes: assay.slice/
    assay-runner.slice/assay-runner-<run>.slice/assay-runner-<run>-subject.slice. We make the folders;
    systemd makes units of them when the engine starts a container there.
    """

    root: CgroupRoot
    run_id: str
    path: Path
    descriptor: int = field(repr=False)  # holds the flock; a forked child shares it until it execs

    @classmethod
    def create(cls, run_id: str, *, driver: str = "cgroupfs", root: CgroupRoot | None = None) -> "Slice":
        """Make and hold the slice; `driver` is the engine's CgroupDriver. RunNameTakenError if it exists."""
        root = root or find_root()
        family = systemd_family(root) if driver == "systemd" else choose_parent(root) / FAMILY
        path = family / (systemd_slice(run_id) if driver == "systemd" else run_id)
        try:
            with _family_locked(family, make=True):
                path.mkdir()
                descriptor = _take(path)
                made = cls(root, run_id, path, descriptor if descriptor is not None else -1)
                for role in ROLES:
                    made.role_path(role).mkdir()
        except FileExistsError:
            raise RunNameTakenError(
                f"the slice of a run named {run_id!r} is still there",
                place=str(path),
                hint="wait for that run, or choose another run id; dead runs are swept at the next start",
            ) from None
        except OSError as error:
            raise EnvironmentUnfitError(
                f"the slice {path} cannot be made: {error}", hint="run as root"
            ) from None
        return made

    def role_path(self, role: Role | None) -> Path:
        """The role's cgroup as a path of this host; None: the whole slice."""
        if role is None:
            return self.path
        systemd = self.path.name.endswith(".slice")
        return self.path / (f"{self.path.name.removesuffix('.slice')}-{role}.slice" if systemd else str(role))

    def cgroup_parent(self, role: Role) -> str:
        """What the engine wants: the path from the cgroup2 root, or the slice's name for systemd.

        The path is from the root because the embedded engine sees the same hierarchy elsewhere.
        """
        path = self.role_path(role)
        if self.path.name.endswith(".slice"):
            return path.name
        return f"/{path.relative_to(self.root.mount)}"

    def cgroup_id(self, role: Role | None = None) -> int:
        """The directory's inode number, which is what bpf_get_current_cgroup_id gives."""
        return self.role_path(role).stat().st_ino

    def place(self, pid: int, role: Role = Role.HARNESS) -> None:
        """Move a process in. Only a leaf takes processes once the engine has used the others."""
        (self.role_path(role) / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def pids(self, role: Role | None = None) -> list[int]:
        """Host pids of all processes below, ascending."""
        found: set[int] = set()
        for folder, _, _ in os.walk(self.role_path(role)):
            try:
                text = (Path(folder) / "cgroup.procs").read_text(encoding="ascii")
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENODEV):  # it went away meanwhile
                    raise
                continue
            found.update(int(line) for line in text.split())
        return sorted(found)

    def wait_empty(self, role: Role | None = None, *, timeout_s: float) -> bool:
        """True as soon as no process is left below, False at the timeout."""
        return _wait_event(self.role_path(role), "populated 0", timeout_s)

    def freeze(self, role: Role | None = None, *, timeout_s: float = 5.0) -> bool:
        """Stop every process below; True when the kernel says that all are stopped."""
        (self.role_path(role) / "cgroup.freeze").write_text("1", encoding="ascii")
        return _wait_event(self.role_path(role), "frozen 1", timeout_s)

    def thaw(self, role: Role | None = None) -> None:
        """Let them go on, in cgroups below as well (each has its own switch)."""
        for folder, _, _ in os.walk(self.role_path(role)):
            try:
                (Path(folder) / "cgroup.freeze").write_text("0", encoding="ascii")
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENODEV):
                    raise

    def kill(self, role: Role | None = None) -> int:
        """SIGKILL every process below, frozen ones too; gives how many were there."""
        victims = self.pids(role)
        switch = self.role_path(role) / "cgroup.kill"
        if switch.exists():
            switch.write_text("1", encoding="ascii")
        else:
            self._kill_one_by_one(role)
        return len(victims)

    def _kill_one_by_one(self, role: Role | None) -> None:
        # kernels before 5.14: stopped processes cannot fork away from the list
        self.freeze(role)
        for pid in self.pids(role):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.thaw(role)

    def remove(self, *, timeout_s: float = 5.0) -> None:
        """Remove the slice, deepest first, and the family's directory if this was the last one.

        EnvironmentUnfitError if something is still in it at the timeout: kill and wait first.
        """
        deadline = time.monotonic() + timeout_s
        if self.path.name.endswith(".slice"):
            systemd.stop([*(self.role_path(role).name for role in ROLES), self.path.name])
        try:
            while not self._remove_once():
                if time.monotonic() > deadline:
                    raise EnvironmentUnfitError(
                        f"the slice {self.path} cannot be removed: processes {self.pids()} are in it",
                        hint="it is removed at the next start",
                    )
                time.sleep(0.02)
        finally:
            os.close(self.descriptor)
        cgroup_v1.remove(PurePosixPath("/") / self.path.relative_to(self.root.mount))
        _remove_family(self.path.parent)

    def _remove_once(self) -> bool:
        for folder, _, _ in os.walk(self.path, topdown=False):
            try:
                Path(folder).rmdir()
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                return False
        return True


def systemd_slice(run_id: str) -> str:
    """Unit name of the run's slice; a dash in a run id would nest it, so it is escaped (systemd.unit)."""
    return f"{FAMILY}-{run_id.replace('-', chr(92) + 'x2d')}.slice"


def systemd_family(root: CgroupRoot) -> Path:
    """Where systemd puts assay-runner.slice: every dash of a slice's name is a level (systemd.slice)."""
    return root.mount / "assay.slice" / SYSTEMD_FAMILY


def claim_dead_slices(root: CgroupRoot) -> list[Slice]:
    """Slices whose maker is gone, wherever they are, each now held by the caller."""
    claimed = []
    for folder, names, _ in os.walk(root.mount):
        family = Path(folder)
        if family.name not in (FAMILY, SYSTEMD_FAMILY):
            continue
        names_here, names[:] = sorted(names), []  # nothing of ours is nested below a slice
        try:
            with _family_locked(family, make=False):
                for name in names_here:
                    descriptor = _take(family / name)
                    if descriptor is not None:
                        run_id = name.removeprefix(f"{FAMILY}-").removesuffix(".slice").replace("\\x2d", "-")
                        claimed.append(Slice(root, run_id, family / name, descriptor))
        except FileNotFoundError:
            continue
        if not names_here:
            _remove_family(family)
    return claimed


@contextmanager
def _family_locked(family: Path, *, make: bool) -> Iterator[None]:
    """Hold the family's directory, so that making, claiming and removing do not meet.

    What is held is the directory that stands at the path now: one removed while we waited is let
    go, or whoever holds its successor would lose it. FileNotFoundError if there is none to hold.
    """
    while True:
        try:
            if make:
                family.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(family, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, FileExistsError):  # pathlib's exist_ok looks twice, so both come
            if make and not family.is_file():
                continue
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_at(descriptor, family):
                continue
            yield
            return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _remove_family(family: Path) -> None:
    try:
        with _family_locked(family, make=False):
            if family.name == SYSTEMD_FAMILY:
                _stop_empty(family)
                _stop_empty(family.parent)  # of systemd's making, by the family's name
            else:
                family.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EBUSY):  # others still use it
            raise


def _stop_empty(folder: Path) -> None:
    """Stop the slice unit that nothing is in, and remove its folder where systemd has not."""
    if any(entry.is_dir() for entry in os.scandir(folder)):
        raise OSError(errno.ENOTEMPTY, "others use it")
    systemd.stop([folder.name])
    try:
        folder.rmdir()
    except FileNotFoundError:
        pass  # it was a unit


def _take(path: Path) -> int | None:
    """The descriptor that holds the directory's lock, or None when someone else has it or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _wait_event(path: Path, line: str, timeout_s: float) -> bool:
    """Wait until `line` stands in path/cgroup.events; a cgroup that is gone has nothing in it."""
    deadline = time.monotonic() + timeout_s
    try:
        descriptor = os.open(path / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLPRI)
        while True:
            os.lseek(descriptor, 0, os.SEEK_SET)
            if line in os.read(descriptor, 4096).decode("ascii").splitlines():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poller.poll(left * 1000)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return True
    finally:
        os.close(descriptor)
