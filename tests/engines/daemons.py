"""Engines of distributions' packages, started on this kernel without installing them.

A root folder is what mmdebstrap unpacks of a suite's packages; it is kept, and never written to. The daemon
runs in it over an overlay, in a mount namespace and a cgroup of its own; /tmp, where the tests' state folders
are, is the host's.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from harness.host.cgroup import find_root
from tests.engines.rows import PODMAN, Row
from tests.hosts import store

_PACKAGES = {
    "docker": ("docker.io", "containerd", "runc", "crun"),
    "docker below systemd": ("docker.io", "containerd", "runc", "systemd"),
    "podman below systemd": ("podman", "conmon", "runc", "systemd"),
    "podman": ("podman", "conmon", "crun", "runc", "uidmap"),
}
# unpacked, not installed: no scripts run; an old mirror is as good here as a new one
_OPTIONS = ("--variant=extract", "--aptopt=Acquire::Check-Valid-Until false")
_START_S, _STOP_S = 60.0, 20.0

# $1 the kept root, $2 the engine's folder, $3 its cgroup, $4 "hybrid" or "pure", $5 uid, $6 _CHANGE_ROOT;
# then the command
_ENTER = """set -e
lower=$1 own=$2 cgroup=$3 hierarchies=$4 user=$5 change_root=$6
shift 6
echo $$ >"$cgroup/cgroup.procs"
mount -t tmpfs tmpfs "$own/over"
mkdir "$own/over/up" "$own/over/work" "$own/over/root"
root=$own/over/root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$own/over/up,workdir=$own/over/work" "$root"
for name in bin sbin lib lib64; do [ -e "$root/$name" ] || ln -s "usr/$name" "$root/$name"; done
mkdir -p "$root/etc/containers" "$root/var/tmp" "$root/run"
chmod 1777 "$root/var/tmp"
cp -r "$own/etc/." "$root/etc"
for name in proc sys dev tmp; do
  mkdir -p "$root/$name"
  mount --rbind --make-rslave "/$name" "$root/$name"
done
if [ "$hierarchies" = pure ] && [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ]; then
  umount -Rl "$root/sys/fs/cgroup"
  mount -t cgroup2 none "$root/sys/fs/cgroup"
fi
mount -t tmpfs tmpfs "$root/run"
cd /
mkdir -p -m 700 "$root/run/user/$user"
chown "$user" "$root/run/user/$user" "$own"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$own" XDG_RUNTIME_DIR="/run/user/$user" \\
  python3 -c "$change_root" "$root" "$user" "$@"
"""
# By pivot_root(2): who is in a mere chroot gets no user namespace. Python, because the root has few programs.
_CHANGE_ROOT = """import ctypes, os, sys
root, user, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(root)
if libc.syscall(155, b".", b".") or libc.umount2(b".", 2):
    raise OSError(ctypes.get_errno(), "pivot_root or umount2")
os.setgroups([])
os.setgid(user)
os.setuid(user)
os.execv(command[0], command)
"""


def root_folder(suite: str, product: str) -> Path:
    """The suite's packages of this product, unpacked; made in some seconds if it is not kept."""
    key = store.digest(suite, *_PACKAGES[product], *_OPTIONS)
    return (
        store.kept(f"engine-{product.replace(' ', '-')}-{suite}", key, partial(_unpack, suite, product))
        / "root"
    )


def _unpack(suite: str, product: str, aside: Path) -> None:
    (aside / "root").mkdir()
    command = [
        "mmdebstrap",
        *_OPTIONS,
        f"--include={','.join(_PACKAGES[product])}",
        suite,
        str(aside / "root.tar"),
    ]
    with (aside / "log").open("wb") as log:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
    assert done.returncode == 0, (aside / "log").read_text(errors="replace")[-2000:]
    unpack = ["tar", "-C", f"{aside}/root", "--numeric-owner", "-xf", f"{aside}/root.tar"]
    subprocess.run(unpack, check=True)
    (aside / "root.tar").unlink()


@contextmanager
def running(row: Row) -> Iterator[str]:
    """The URL of the row's engine while it runs; nothing of it is left afterwards."""
    root = root_folder(row.suite, row.product)
    own = Path(tempfile.mkdtemp(prefix="assay-engine-", dir="/tmp"))
    own.chmod(0o755)
    group = find_root().mount / own.name
    group.mkdir()
    try:
        (own / "over").mkdir()
        write_settings(row, own / "etc")
        places = (
            str(root),
            str(own),
            str(group),
            "hybrid" if row.hybrid else "pure",
            str(row.user),
            _CHANGE_ROOT,
        )
        enter = ["/bin/sh", "-c", _ENTER, "sh", *places, *command(row, own)]
        with (own / "log").open("wb") as log:
            daemon = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "slave", "--", *enter],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait(daemon, own)
            yield f"unix://{own}/engine.sock"
        finally:
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
    finally:
        end(group)
        shutil.rmtree(own)


def write_settings(row: Row, etc: Path) -> None:
    """What the daemon finds in /etc."""
    (etc / "containers").mkdir(parents=True)
    (etc / "containers" / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    (etc / "containers" / "containers.conf").write_text(
        '[containers]\ncgroups = "no-conmon"\n[engine]\nevents_logger = "file"\n'
    )
    (etc / "daemon.json").write_text(
        f'{{"features":{{"containerd-snapshotter":{"true" if row.containerd else "false"}}}}}'
    )
    (etc / "passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
    (etc / "group").write_text("root:x:0:\nuser:x:1000:\n")


def command(row: Row, own: Path) -> list[str]:
    """The daemon's command line."""
    socket_url = f"unix://{own}/engine.sock"
    if row.product == PODMAN:
        return [
            "/usr/bin/podman", "--root", f"{own}/data", "--runroot", f"{own}/run",
            "--cgroup-manager", row.driver, "--runtime", row.runtime,
            "--storage-driver", "vfs" if row.user else "overlay", "--log-level", "error",
            "system", "service", "--time", "0", socket_url,
        ]  # fmt: skip
    return [
        "/usr/sbin/dockerd", "--config-file=/etc/daemon.json", f"--data-root={own}/data",
        f"--exec-root={own}/run",
        f"--pidfile={own}/pid", f"--host={socket_url}", "--group=0", "--bridge=none", "--iptables=false",
        "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false",
        "--shutdown-timeout=5", f"--exec-opt=native.cgroupdriver={row.driver}",
        *(["--add-runtime=crun=/usr/bin/crun", "--default-runtime=crun"] if row.runtime == "crun" else []),
    ]  # fmt: skip


def wait(daemon: "subprocess.Popen[bytes]", own: Path) -> None:
    """Until the engine in this folder listens; AssertionError with the end of its log if it does not."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and daemon.poll() is None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(own / "engine.sock"))
            except OSError:
                time.sleep(0.05)
                continue
            return
    raise AssertionError(f"the engine did not start: {(own / 'log').read_text(errors='replace')[-2000:]}")


def end(group: Path) -> None:
    """What the daemon started ends with it, and the cgroup goes."""
    (group / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + _STOP_S
    while "populated 1" in (group / "cgroup.events").read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    for folder, _, _ in os.walk(group, topdown=False):
        Path(folder).rmdir()
