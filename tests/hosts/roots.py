"""Disks to boot from: a distribution by mmdebstrap, with all that ./enter installs; and the product's caches.

Package sources and proxies are this host's own: its certificates, pip's settings and folders are put in place
while a root is prepared, in a mount namespace that ends with the process.
"""

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

from attrs import frozen

from harness.errors import EnvironmentUnfitError
from tests.hosts import store
from tests.hosts.systems import System

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
_BASE = (
    "systemd-sysv", "udev", "kmod", "iproute2", "apparmor", "initramfs-tools", "zstd", "ca-certificates",
    "procps",
)  # fmt: skip
_DISK = "8G"  # sparse
# a mirror that stands still is good enough here; what it holds is signed all the same
_OLD_ARCHIVE = 'Acquire::Check-Valid-Until "false";\n'
_KEYRING = (
    "apt-get install --no-install-recommends ubuntu-keyring (Debian has it from 13 on), or leave out its row"
)
_CACHED = ("layers", "npm", "sha256", "wheels")
_ENTER = ("requirements/dev.lock", "requirements/system.txt")

# $1: the root, $2: the tree, $3: where the kernel is put, then the arguments of prepare.sh
_CHROOT = """set -eu
root=$1 tree=$2 made=$3
shift 3
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mkdir -p "$root/src" "$root/made"
mount --bind "$tree" "$root/src"
mount --bind "$made" "$root/made"
rm -f "$root/etc/resolv.conf"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
for path in /etc/pip.conf /root/.config/pip /opt /etc/ssl/certs/ca-certificates.crt; do # as they are here
  [ -e "$path" ] || continue
  if [ -d "$path" ]; then mkdir -p "$root$path"; else mkdir -p "$root${path%/*}"; : >>"$root$path"; fi
  mount --bind "$path" "$root$path"
done
exec chroot "$root" /bin/sh /src/tests/hosts/prepare.sh "$@"
"""


@frozen
class Disk:
    """What a machine boots: a kernel, its initrd, and the disk with its root."""

    kernel: Path
    initrd: Path
    image: Path
    release: str

    @property
    def made_in_s(self) -> int | None:
        """Seconds that making it took, its base not counted; None where that is not known."""
        told = self.image.with_name(store.SECONDS)
        return int(told.read_text(encoding="ascii")) if told.exists() else None


def root_disk(system: System) -> Disk:
    """The system's disk; made in some minutes if it is not kept."""
    if system.keyring and not Path(system.keyring).exists():
        raise EnvironmentUnfitError(f"{system.title} cannot be had: no {system.keyring}", hint=_KEYRING)
    parts = (system.suite, str(system.backports), system.kernel, *_BASE, _CHROOT, _DISK, HERE / "prepare.sh")
    key = store.digest(*parts, *(ROOT / name for name in _ENTER))
    place = store.kept(f"root-{system.name}", key, lambda aside: _make_root(system, aside))
    release = (place / "release").read_text(encoding="ascii").strip()
    return Disk(place / "vmlinuz", place / "initrd", place / "root.img", release)


def _make_base(system: System, aside: Path) -> None:
    with (aside / "log").open("wb") as log:
        options = ("--variant=minbase", f"--include={','.join(_BASE)}", f"--aptopt={_OLD_ARCHIVE.strip()}")
        _run(log, "mmdebstrap", *options, *system.options, system.suite, str(aside / "root.tar"))


def _make_root(system: System, aside: Path) -> None:
    root = aside / "root"
    root.mkdir()
    key = store.digest(*_BASE, *system.options)
    base = store.kept(f"base-{system.suite}", key, partial(_make_base, system))
    with (aside / "log").open("wb") as log:
        _run(log, "tar", "-C", str(root), "--numeric-owner", "-xf", str(base / "root.tar"))
        (root / "etc/apt/apt.conf.d/90archive").write_text(_OLD_ARCHIVE, encoding="ascii")
        (root / "etc/dpkg/dpkg.cfg.d/90quick").write_text("force-unsafe-io\n", encoding="ascii")
        kernel_suite = f"{system.suite}-backports" if system.backports else system.suite
        arguments = (
            "-c",
            _CHROOT,
            "sh",
            str(root),
            str(ROOT),
            str(aside),
            system.suite,
            kernel_suite,
            system.kernel,
        )
        _run(log, *ALONE, "/bin/sh", *arguments)
        _run(log, "mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), str(aside / "root.img"), _DISK)
    shutil.rmtree(root)


# A mount and a process namespace: whatever ends this process ends all that is in them, and the mounts.
ALONE = (
    "setpriv", "--pdeathsig", "KILL",
    "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
)  # fmt: skip


def cache_disk() -> Path:
    """The state folder's layers and downloads as a disk, made anew when there are others."""
    cache = store.folder().parent
    names = sorted(
        str(path.relative_to(cache))
        for name in _CACHED
        for path in (cache / name).rglob("*")
        if path.is_file()
    )
    key = store.digest("\n".join(names), _DISK)
    return store.kept("cache", key, lambda aside: _make_cache(cache, names, aside)) / "cache.img"


def _make_cache(cache: Path, names: list[str], aside: Path) -> None:
    copy = aside / "cache"
    for name in names:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(cache / name)
        except FileNotFoundError:
            continue  # somebody else's, who has removed it since
    with (aside / "log").open("wb") as log:
        _run(
            log, "mke2fs", "-q", "-t", "ext4", "-L", "cache", "-d", str(copy), str(aside / "cache.img"), _DISK
        )
    shutil.rmtree(copy)


def _run(log: object, *command: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)  # type: ignore[call-overload]
