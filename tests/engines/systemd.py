"""An engine as a unit of a real systemd, on this kernel without a machine of its own.

systemd is process 1 of a process namespace, in a cgroup that is the root of a cgroup namespace: to it, this
is a host with cgroup v2 alone. It starts the engine's unit and nothing else. The harness joins that cgroup
namespace from outside, with the tests' own files and the host's processes.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from harness.host.cgroup import find_root
from tests.engines.daemons import command, end, root_folder, wait, write_settings
from tests.engines.rows import Row

_BOOT_S, _HALT_S = 60.0, 20.0
_UNIT = """[Unit]
DefaultDependencies=no
[Service]
Delegate=yes
KillMode=process
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
ExecStart={command}
"""
_TARGET = "[Unit]\nDefaultDependencies=no\nWants=engine.service\n"

# $1 the kept root, $2 the folder, $3 the cgroup; /sys and /proc/sys are for reading: they are the host's
_BOOT = """set -e
lower=$1 own=$2
mount -t tmpfs tmpfs "$own/over"
mkdir "$own/over/up" "$own/over/work" "$own/over/root"
root=$own/over/root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$own/over/up,workdir=$own/over/work" "$root"
for name in bin sbin lib lib64; do [ -e "$root/$name" ] || ln -s "usr/$name" "$root/$name"; done
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/run" "$root/var/tmp"
cp -r "$own/etc/." "$root/etc"
mount -t proc proc "$root/proc"
mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind --make-rslave /tmp "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/systemd"
mount --bind "$own/systemd" "$root/run/systemd"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
  : >"$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/dev/shm"
cd "$root"
mkdir -p .old
pivot_root . .old
umount -l /.old
exec /usr/lib/systemd/systemd --unit=engine.target --log-target=console --show-status=no
"""

# $1 what systemd has at /run/systemd, $2 a folder with our systemctl; then the command
_JOIN = """set -e
run=$1
PATH=$2:$PATH
shift 2
mkdir -p /run/systemd
mount --bind "$run" /run/systemd
umount -R /sys/fs/cgroup 2>/dev/null || umount -Rl /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
exec "$@"
"""


@frozen
class Booted:
    """A systemd with its engine: `url` is the engine's, `join` what a command follows to be beside it."""

    url: str
    join: tuple[str, ...]

    def units(self) -> list[str]:
        """The slices and scopes of runs that systemd knows."""
        listed = subprocess.run(
            [*self.join, "systemctl", "list-units", "--all", "--plain", "--no-legend", "--type=slice,scope"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return [line.split()[0] for line in listed.splitlines() if re.search("assay|docker-|libpod", line)]


@contextmanager
def booted(row: Row) -> Iterator[Booted]:
    """The row's engine below systemd; nothing of either is left afterwards."""
    root = root_folder(row.suite, f"{row.product} below systemd")
    own = Path(tempfile.mkdtemp(prefix="assay-engine-", dir="/tmp"))
    group = find_root().mount / own.name
    group.mkdir()
    try:
        for name in ("over", "systemd", "bin"):
            (own / name).mkdir()
        units = own / "etc/systemd/system"
        units.mkdir(parents=True)
        (units / "engine.service").write_text(_UNIT.format(command=" ".join(command(row, own))))
        (units / "engine.target").write_text(_TARGET)
        write_settings(row, own / "etc")
        (own / "etc/machine-id").write_text(f"{0xA55A:032x}\n")
        enter = f'echo $$ >"{group}/cgroup.procs"; exec "$@"'
        namespaces = [
            "unshare",
            "--cgroup",
            "--mount",
            "--propagation",
            "slave",
            "--pid",
            "--uts",
            "--ipc",
            "--fork",
        ]
        boot = [
            "env",
            "-i",
            "container=tests",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "/bin/sh",
            "-c",
            _BOOT,
            "sh",
            str(root),
            str(own),
        ]
        with (own / "log").open("wb") as log:
            outer = subprocess.Popen(
                ["/bin/sh", "-c", enter, "sh", *namespaces, *boot],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            wait(outer, own)
            (first,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
            _write_systemctl(own / "bin/systemctl", first)
            yield Booted(f"unix://{own}/engine.sock", _join(first, group, own))
        finally:
            end(group)
            outer.wait()
    finally:
        shutil.rmtree(own)


def _write_systemctl(path: Path, first: str) -> None:
    """systemd answers only who has a pid in its own process namespace."""
    path.write_text(f'#!/bin/sh\nexec nsenter --target {first} --pid --mount -- systemctl "$@"\n')
    path.chmod(0o755)


def _join(first: str, group: Path, own: Path) -> tuple[str, ...]:
    inside = f'echo $$ >"{group}/init.scope/cgroup.procs"; exec "$@"'
    return (
        "/bin/sh", "-c", inside, "sh",
        "nsenter", "--target", first, "--cgroup", "--",
        "unshare", "--mount", "--propagation", "slave", "--",
        "/bin/sh", "-c", _JOIN, "sh", f"{own}/systemd", f"{own}/bin",
    )  # fmt: skip
