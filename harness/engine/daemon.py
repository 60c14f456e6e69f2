"""The embedded engine: a private dockerd of this state folder, started when needed and reused.

It has its own socket, data, exec and pid files, no bridge and no packet filter rules, and lives in a
mount namespace of its own in which cgroup2 stands at /sys/fs/cgroup whatever the host does. Never
two: starting and stopping hold a lock, and a running one is found by its command line in /proc.
DOCKER_HOST overrides it with an engine of this very machine and kernel.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import docker
from attrs import frozen
from docker.errors import DockerException

from harness.engine import beside
from harness.engine.answers import said as cut
from harness.engine.fitness import refusal
from harness.engine.handles import is_containerd_store
from harness.engine.podman import is_podman
from harness.errors import EnvironmentUnfitError
from harness.host.doctor import Check
from harness.host.state import State

OVERRIDE = "DOCKER_HOST"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_S = 300  # of one request: a slow or loaded host takes its time to start a container
_SOCKET_LIMIT = 107  # bytes of sun_path without its end, unix(7)
_LONGEST_IN_EXEC_ROOT = "/containerd/containerd-debug.sock"
_DRIVERS = ("overlay2", "vfs")
_LOG = logging.getLogger(__name__)

# $@ is dockerd with its arguments; "slave": mounts of the host arrive here, ours do not leave
_ENTER = """set -e
cd /
if [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ]; then
  umount -R /sys/fs/cgroup 2>/dev/null || umount -Rl /sys/fs/cgroup
  mount -t cgroup2 none /sys/fs/cgroup
fi
exec "$@"
"""


@frozen
class EnginePaths:
    """The engine's files. `run` is short enough for sockets, so it may be outside the state folder."""

    data: Path
    run: Path
    log: Path

    @property
    def socket(self) -> Path:
        return self.run / "docker.sock"

    @property
    def exec_root(self) -> Path:
        return self.run / "exec"

    @property
    def pidfile(self) -> Path:
        return self.run / "docker.pid"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"


@frozen
class EngineStatus:
    """Whether the private engine runs: `pid` is dockerd's, None when it does not."""

    pid: int | None
    answering: bool
    socket: Path
    log: Path


def engine_paths(state: State) -> EnginePaths:
    """Where this state folder's engine keeps its files."""
    run = state.engine
    if len(os.fsencode(run / "exec")) + len(_LONGEST_IN_EXEC_ROOT) > _SOCKET_LIMIT:
        name = hashlib.sha256(os.fsencode(state.root)).hexdigest()[:12]
        run = Path("/run") / f"assay-runner-{name}"
        _LOG.info("%s is too long for a socket: the engine's sockets are in %s", state.engine, run)
    return EnginePaths(data=state.engine / "data", run=run, log=state.engine / "dockerd.log")


def ensure_engine(state: State) -> docker.DockerClient:
    """A client of a fit engine, which is started if it is not running; the caller closes it.

    EnvironmentUnfitError: it does not start (with its last log lines), or it is an engine whose
    containers this host cannot observe.
    """
    override = os.environ.get(OVERRIDE)
    if override:
        client = _connect_override(override)
    else:
        state.prepare()
        paths = engine_paths(state)
        with state.locked("engine"):
            if not (_find(paths, "dockerd") and _answers(paths)):
                _start(state, paths)
        client = docker.DockerClient(base_url=paths.url, version="auto", timeout=_ANSWER_TIMEOUT_S)
    client.api.trust_env = False  # a local socket has no proxy, and asking the environment takes time
    try:
        _refuse_unfit(client, _root_of(_socket_of(state)))
    except BaseException:
        client.close()
        raise
    return client


def stop_engine(state: State) -> bool:
    """Stop the private engine and all that belongs to it; True if there was anything to stop."""
    paths = engine_paths(state)
    if not state.engine.is_dir():
        return False
    with state.locked("engine"):
        found = _find(paths)
        _end(paths)
        _clear(paths)
        if paths.run != state.engine:
            shutil.rmtree(paths.run, ignore_errors=True)
    return bool(found)


def engine_status(state: State) -> EngineStatus:
    """Look, without starting anything."""
    paths = engine_paths(state)
    pids = _find(paths, "dockerd")
    return EngineStatus(pids[0] if pids else None, bool(pids) and _answers(paths), paths.socket, paths.log)


def describe(client: docker.DockerClient) -> dict[str, str]:
    """Facts of the engine for an archive."""
    info = client.info()
    return {
        "engine": f"{'podman ' if is_podman(client) else ''}{info['ServerVersion']}",
        "runtime": str(info["DefaultRuntime"]),
        "storage_driver": str(info["Driver"]),
        "image_store": "containerd" if is_containerd_store(info) else "graph driver",
        "cgroup_driver": str(info["CgroupDriver"]),
        "cgroup_version": str(info.get("CgroupVersion", "1")),
    }


def checks(state: State) -> list[Check]:
    """The engine's lines of the doctor. One that is not running is fine: it is started when needed."""
    if not os.environ.get(OVERRIDE) and not engine_status(state).answering:
        return [Check("engine", ok=True, detail="embedded, not running; it is started when needed")]
    try:
        client = ensure_engine(state)
    except EnvironmentUnfitError as error:
        return [Check("engine", ok=False, detail=error.message, remedy=error.hint)]
    with contextlib.closing(client):
        facts = describe(client)
    return [
        Check("engine", ok=True, detail=" ".join(f"{k}={v}" for k, v in facts.items())),
        beside.check(_socket_of(state), state),
    ]


def _socket_of(state: State) -> Path:
    override = os.environ.get(OVERRIDE, "").removeprefix("unix://")
    return Path(override) if override else engine_paths(state).socket


def _connect_override(override: str) -> docker.DockerClient:
    if not override.startswith("unix://"):
        raise EnvironmentUnfitError(
            f"{OVERRIDE}={override} may be another machine",
            hint="name a unix:// socket of this host, or unset it",
        )
    said = _not_listening(Path(override.removeprefix("unix://")))
    if not said:
        try:
            return docker.DockerClient(base_url=override, version="auto", timeout=_ANSWER_TIMEOUT_S)
        except DockerException as error:
            said = cut(error)
    raise EnvironmentUnfitError(
        f"the engine at {override} does not answer: {said}", hint=f"start it, or unset {OVERRIDE}"
    )


def _refuse_unfit(client: docker.DockerClient, root: Path = Path("/")) -> None:
    found = refusal(client.info(), podman=is_podman(client), root=root)
    if found is not None:
        raise EnvironmentUnfitError(found[0], hint=found[1])


def _root_of(socket_path: Path) -> Path:
    """What the engine sees as its root folder; ours where its process cannot be seen."""
    pid = beside.listener(socket_path)
    return Path(f"/proc/{pid}/root") if pid else Path("/")


def _start(state: State, paths: EnginePaths) -> None:
    missing = [name for name in ("dockerd", "unshare") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        raise EnvironmentUnfitError(
            f"the engine cannot be started: {', '.join(missing) + ' missing' if missing else 'not root'}",
            hint="run ./enter as root, which installs what is missing",
        )
    _end(paths)  # whatever a killed engine left behind
    chosen = state.engine / "storage-driver"
    drivers = [chosen.read_text(encoding="ascii")] if chosen.exists() else list(_DRIVERS)
    for driver in drivers:
        _clear(paths)
        if _try_start(paths, driver):
            chosen.write_text(driver, encoding="ascii")
            return
        _end(paths)
    raise EnvironmentUnfitError(
        "the embedded engine did not start",
        place=str(paths.log),
        hint="; ".join(_log_tail(paths.log)) or "its log is empty",
    )


def _try_start(paths: EnginePaths, driver: str) -> bool:
    """Start dockerd with this storage driver; True when it answers, False when it ended or hangs."""
    paths.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = paths.run / "daemon.json"
    # not the host's /etc/docker/daemon.json; and the store that keeps layers unpacked, whatever the default
    config.write_text('{"features":{"containerd-snapshotter":false}}\n', encoding="ascii")
    dockerd = [
        "dockerd", f"--config-file={config}", f"--data-root={paths.data}", f"--exec-root={paths.exec_root}",
        f"--pidfile={paths.pidfile}", f"--host={paths.url}", f"--storage-driver={driver}", "--group=root",
        "--exec-opt=native.cgroupdriver=cgroupfs", "--bridge=none", "--iptables=false", "--ip6tables=false",
        "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false", "--shutdown-timeout=5",
    ]  # fmt: skip
    command = ["unshare", "--mount", "--propagation", "slave", "--", "/bin/sh", "-c", _ENTER, "sh", *dockerd]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent"}
    with paths.log.open("wb") as log, Path(os.devnull).open("rb") as null:
        pid = os.posix_spawnp(
            command[0],
            command,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, null.fileno(), 0)]
            + [(os.POSIX_SPAWN_DUP2, log.fileno(), target) for target in (1, 2)],
            setsid=True,
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE],
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
        if _answers(paths):
            return True
        time.sleep(0.05)
    return False


def _not_listening(path: Path) -> str:
    """Why nobody can be talked to there, empty if someone listens; the SDK leaks a socket in that case."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            return str(error)
    return ""


def _answers(paths: EnginePaths) -> bool:
    if _not_listening(paths.socket):
        return False
    try:
        client = docker.APIClient(base_url=paths.url, version="auto", timeout=10)
    except DockerException:
        return False
    client.close()
    return True


def _find(paths: EnginePaths, *names: str) -> list[int]:
    """Pids of this engine's processes: ours by name and by a path of ours on the command line."""
    marks = (os.fsencode(paths.data), os.fsencode(paths.exec_root))
    wanted = names or ("dockerd", "containerd")
    return sorted(
        pid
        for pid, arguments in _command_lines()
        if os.path.basename(arguments[0]).decode("utf-8", "replace").startswith(wanted)  # noqa: PTH119 - bytes
        and any(mark in argument for argument in arguments[1:] for mark in marks)
    )


def _command_lines() -> Iterator[tuple[int, list[bytes]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended
            if line:  # a zombie has none
                yield int(entry.name), line.rstrip(b"\0").split(b"\0")


def _end(paths: EnginePaths) -> None:
    """End this engine's processes: dockerd first, which ends the others; then whatever is left."""
    for names, number, patience in (
        (("dockerd",), signal.SIGTERM, STOP_TIMEOUT_S),
        ((), signal.SIGTERM, 5.0),
        ((), signal.SIGKILL, 5.0),
    ):
        pids = _find(paths, *names)
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + patience
        while (left := _find(paths, *names)) and time.monotonic() < deadline:
            time.sleep(0.02)
        _reap(set(pids) - set(left))
    if _find(paths):
        raise EnvironmentUnfitError(
            f"processes of the engine do not end: {_find(paths)}", hint="look at them with ps"
        )


def _reap(ended: set[int]) -> None:
    """Take the exit status of those that are our own children; dockerd is, if we started it."""
    for pid in ended:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass


def _clear(paths: EnginePaths) -> None:
    """Remove what belongs to a running engine only; a stale pid would keep dockerd from starting."""
    for path in (paths.socket, paths.pidfile):
        path.unlink(missing_ok=True)
    for path in paths.exec_root.glob("containerd/*.pid"):
        path.unlink(missing_ok=True)


def _log_tail(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    except OSError:
        return []
