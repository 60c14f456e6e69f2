"""Boots a system without a network, gives it a job, and brings back what the job left.

The job is a folder with a program `run`. It comes to the guest as a tar archive on a disk; its folder `out`
goes back on another. Disks are written to copies that go with qemu, and qemu goes with this process.
"""

import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from harness.errors import EnvironmentUnfitError, InputError
from tests.hosts import store
from tests.hosts.roots import Disk, cache_disk, root_disk
from tests.hosts.systems import CGROUPS, System

QEMU = "qemu-system-x86_64"
NEEDED = {QEMU: "qemu-system-x86", "mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"}
GUEST = Path(__file__).with_name("guest.sh")
# what nobody asks for in a guest, and takes its time at boot
_MASKED = (
    "docker-registry.service",
    "getty-static.service",
    "systemd-update-utmp.service",
    "e2scrub_reap.service",
)
_MEMORY_MB = 4096
_OUT_BYTES = 2 << 30  # sparse
_KVM_BOOT_S = 60.0
_SILENT_S = 240.0  # nothing from the console or the heart: it hangs
_IDLE_S = 300.0  # it beats, but has done nothing and said nothing for so long
_BUSY = 0.05  # of its CPUs' time


@frozen
class Machine:
    """What is booted, and how many CPUs it has."""

    system: System
    cgroups: str = "pure"
    cpus: int = 1


@frozen
class Done:
    """How a job ended: its exit code (None: the machine hung or broke down), and what it left in `out`."""

    code: int | None
    out: Path
    said: str
    release: str
    accelerator: str
    boot_s: float
    job_s: float
    trouble: str = ""


@frozen
class Accelerator:
    """`kvm` or `tcg`, and why."""

    name: str
    reason: str


def missing() -> list[str]:
    """Debian packages that this needs and this host lacks."""
    return [package for program, package in NEEDED.items() if shutil.which(program) is None]


def require() -> None:
    """EnvironmentUnfitError if this host cannot make or boot machines."""
    if os.geteuid() != 0:
        raise EnvironmentUnfitError("only root can make the machines' disks", hint="run it as root")
    if packages := missing():
        raise EnvironmentUnfitError(
            f"missing: {', '.join(packages)}",
            hint=f"apt-get install --no-install-recommends {' '.join(packages)}",
        )


def accelerator(disk: Disk) -> Accelerator:
    """KVM if a machine comes up with it within a minute, else emulation; asked once a boot of this host."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Accelerator("tcg", "no /dev/kvm")
    host = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    version = subprocess.run([QEMU, "--version"], capture_output=True, check=True).stdout

    def attempt(aside: Path) -> None:
        with store.scratch("kvm") as folder:
            (aside / "said").write_text(_try_kvm(disk, folder), encoding="utf-8")

    said = store.kept("kvm", store.digest(host, version), attempt) / "said"
    trouble = said.read_text(encoding="utf-8")
    return (
        Accelerator("tcg", f"/dev/kvm is there, but {trouble}") if trouble else Accelerator("kvm", "it boots")
    )


def _try_kvm(disk: Disk, folder: Path) -> str:
    """What went wrong, empty if the guest's own service answered."""
    for name in ("job", "out"):
        (folder / name).write_bytes(bytes(1 << 20))
    machine = Machine(System("kvm", "", "", cpu="host"))
    command = _command(machine, disk, folder, "kvm")
    try:
        with _running(command, folder) as qemu:
            deadline = time.monotonic() + _KVM_BOOT_S
            while time.monotonic() < deadline:
                if _read(folder / "log").startswith("GUEST"):
                    return ""
                if qemu.poll() is not None:
                    return f"qemu ended: {_read(folder / 'qemu').strip()[-300:]}"
                time.sleep(0.2)
    finally:
        console = _read(folder / "console")
    last = console.strip().splitlines()[-1:] or ["nothing at all"]
    return (
        f"a machine with it was not up after {_KVM_BOOT_S:.0f} s (its console's last line: {last[0][:120]})"
    )


def run_job(
    machine: Machine,
    job: Path,
    out: Path,
    *,
    tree: Path,
    say: Callable[[str], None] = print,
    limit_s: float = 3600.0,
) -> Done:
    """Boot, run the folder `job` with `tree` as its `src`, fill `out`; what the guest does raises nothing."""
    disk = root_disk(machine.system)
    chosen = accelerator(disk)
    if machine.system.one_cpu and machine.cpus > 1 and chosen.name != "kvm":
        raise InputError(f"{machine.system.name} has one emulated CPU", hint="leave out --cpus")
    cache = cache_disk()
    with store.scratch("machine") as folder:
        _pack(job, tree, folder / "job")
        with (folder / "out").open("wb") as blank:
            blank.truncate(_OUT_BYTES)
        begun = time.monotonic()
        watch = _Watch(folder, say)
        with _running(_command(machine, disk, folder, chosen.name, cache), folder) as qemu:
            trouble = watch.until_over(qemu, begun + limit_s)
        ended = time.monotonic()
        said = _read(folder / "log")
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "console", out / "console.log")
        (out / "job.log").write_text(said, encoding="utf-8")
        code = None
        if not trouble:
            code, trouble = _fetch(folder / "out", out)
        up = watch.up_at or ended
        return Done(
            code, out, said, disk.release, chosen.name, round(up - begun, 1), round(ended - up, 1), trouble
        )


def _pack(job: Path, tree: Path, target: Path) -> None:
    """The job with the tree as git knows it: what is tracked, and what is new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=tree, capture_output=True, check=True
    ).stdout
    with tarfile.open(target, "w") as tar:
        tar.add(job, ".")
        tar.add(GUEST, "guest", filter=_as_program)
        for name in sorted(filter(None, os.fsdecode(listed).split("\0"))):
            if (tree / name).is_symlink() or (tree / name).exists():
                tar.add(tree / name, f"src/{name}", filter=_as_root)


def _as_program(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mode = 0o755
    return _as_root(member)


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _fetch(image: Path, out: Path) -> tuple[int | None, str]:
    unpacked = subprocess.run(
        ["tar", "-C", out, "--strip-components=1", "--no-same-owner", "-xf", image],
        capture_output=True,
        check=False,
    )
    code = out / "code"
    if unpacked.returncode != 0 or not code.exists():
        return None, "the machine stopped before its job was over"
    return int(code.read_text(encoding="ascii")), ""


def _command(machine: Machine, disk: Disk, folder: Path, how: str, cache: Path | None = None) -> list[str]:
    system = machine.system
    accel = "kvm" if how == "kvm" else f"tcg,thread={'single' if machine.cpus == 1 else 'multi'}"
    cpu = "host" if how == "kvm" else system.cpu
    masked = " ".join(f"systemd.mask={unit}" for unit in _MASKED)
    append = f"root=LABEL=root rw console=ttyS0 panic=-1 {masked} {CGROUPS[machine.cgroups]}".strip()
    disks = [(disk.image, "root", "snapshot=on,cache=unsafe"), (folder / "job", "job", "readonly=on")]
    disks.append((folder / "out", "out", "cache=unsafe"))
    if cache is not None:
        disks.append((cache, "cache", "snapshot=on,cache=unsafe"))
    command = [
        QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none",
        "-accel", accel, "-cpu", cpu, "-m", str(_MEMORY_MB), "-smp", str(machine.cpus),
        "-kernel", str(disk.kernel), "-initrd", str(disk.initrd), "-append", append,
        "-serial", f"file:{folder}/console", "-device", "virtio-serial-pci", "-device", "virtio-rng-pci",
    ]  # fmt: skip
    for name in ("log", "beat"):
        command += ["-chardev", f"file,id={name},path={folder}/{name}"]
        command += ["-device", f"virtserialport,chardev={name},name={name}"]
    for path, name, options in disks:
        command += ["-drive", f"file={path},format=raw,if=none,id={name},{options}"]
        command += ["-device", f"virtio-blk-pci,drive={name},serial={name}"]
    return command


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Qemu, which ends with the body, and by the kernel's hand when this process is killed."""
    with (folder / "qemu").open("wb") as errors:
        qemu = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            env={**os.environ, "TMPDIR": str(folder)},  # for the disks' copies
        )
        try:
            yield qemu
        finally:
            qemu.kill()
            qemu.wait()


def _read(path: Path, offset: int = 0) -> str:
    try:
        with path.open("rb") as opened:
            opened.seek(offset)
            return opened.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


class _Watch:
    """Follows a machine by its console, its job's output and its heart (busy and idle ticks, each 5 s)."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.up_at: float | None = None
        self._folder = folder
        self._say = say
        self._sizes = dict.fromkeys(("console", "log", "beat"), 0)
        self._line = ""
        self._beats: list[tuple[int, int]] = []

    def until_over(self, qemu: subprocess.Popen[bytes], deadline: float) -> str:
        """Wait until qemu ends; what is wrong if it has to be ended."""
        alive = moved = time.monotonic()
        while qemu.poll() is None:
            time.sleep(0.2)
            now = time.monotonic()
            grown = self._look()
            if grown:
                alive = now
            if "log" in grown or "console" in grown or self._busy():
                moved = now
            if now - alive > _SILENT_S:
                return f"the machine said nothing for {_SILENT_S:.0f} s: it hangs"
            if now - moved > _IDLE_S:
                return f"the job did nothing for {_IDLE_S:.0f} s"
            if now > deadline:
                return "the job took longer than it may"
        self._look()
        if qemu.returncode != 0:
            return f"qemu ended with {qemu.returncode}: {_read(self._folder / 'qemu').strip()[-300:]}"
        if self.up_at is None:
            return f"it did not come up: {_read(self._folder / 'console').strip()[-300:]}"
        return ""

    def _look(self) -> set[str]:
        grown = set()
        for name, before in self._sizes.items():
            more = _read(self._folder / name, before)
            if not more:
                continue
            grown.add(name)
            self._sizes[name] += len(more.encode("utf-8", "replace"))
            if name == "log":
                self._hear(more)
            elif name == "beat":
                self._beats += [
                    (int(busy), int(idle))
                    for busy, _, idle in (line.partition(" ") for line in more.split("\n"))
                    if idle
                ]
        return grown

    def _hear(self, more: str) -> None:
        if self.up_at is None:
            self.up_at = time.monotonic()
        *lines, self._line = (self._line + more).split("\n")
        for line in lines:
            self._say(line.rstrip("\r"))

    def _busy(self) -> bool:
        if len(self._beats) < 2:
            return False
        (busy, idle), (busy_now, idle_now) = self._beats[-2:]
        self._beats = self._beats[-1:]
        return busy_now - busy > _BUSY * (busy_now - busy + idle_now - idle)
