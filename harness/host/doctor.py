"""Is this host fit for a measured run? One check per need, each with what to do about it.

Every check asks for the feature itself (a file, a probe), not for a version, and together they take
well under 100 ms. The engine's own checks are in `harness.engine.daemon.checks`.
"""

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from harness.errors import EnvironmentUnfitError
from harness.host import cgroup, kernel
from harness.host.state import State

_LEAST_FREE = 1 << 30  # bytes: an image, its build and some archives
# capabilities(7): bit numbers of those that BPF, namespaces, cgroups, mounts and priorities need
_CAPABILITIES = {
    "CAP_KILL": 5,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_NICE": 23,
}
_INSTALL = "run it through ./enter, which installs what is missing (as root, on Debian and Ubuntu)"


@frozen
class Check:
    """One need of a measured run; `remedy` says what to do when it is not `ok`."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def checks(state: State) -> list[Check]:
    """All checks of the machine, in the order in which they should be mended."""
    return [
        _architecture(),
        _privileges(),
        _cgroup_v2(),
        _cgroup_switches(),
        _present("btf", kernel.BTF, "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y"),
        _ring_buffer(),
        _lockdown(),
        _present(
            "tracefs",
            kernel.TRACEFS / "events" / "raw_syscalls",
            "mount -t tracefs tracefs /sys/kernel/tracing",
        ),
        _bcc(),
        _headers(),
        _programs(),
        _disk(state),
    ]


def require_fit(state: State, more: Callable[[State], list[Check]] | None = None) -> None:
    """Raise EnvironmentUnfitError naming every failed check; `more` adds the engine's."""
    found = checks(state) + (more(state) if more else [])
    problems = tuple((f"{c.name}: {c.detail}", c.remedy) for c in found if not c.ok)
    if problems:
        raise EnvironmentUnfitError("this host is not fit for a measured run", problems=problems)


def _architecture() -> Check:
    machine = platform.machine()
    return Check(
        "architecture",
        machine == "x86_64",
        machine,
        "use an x86_64 host: the capture reads system-call arguments from its registers",
    )


def _privileges() -> Check:
    effective = 0
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if os.geteuid() != 0:
        missing.insert(0, "uid 0")
    return Check(
        "privileges",
        not missing,
        f"missing: {', '.join(missing)}" if missing else "root",
        "run as root; in a container, with these as --cap-add (docs/guide/container.md)",
    )


def _cgroup_v2() -> Check:
    try:
        root = cgroup.find_root()
        parent = cgroup.choose_parent(root)
    except EnvironmentUnfitError as error:
        return Check("cgroup-v2", ok=False, detail=error.message, remedy=error.hint)
    return Check("cgroup-v2", ok=True, detail=f"{'hybrid' if root.hybrid else 'pure'}, below {parent}")


def _cgroup_switches() -> Check:
    # the root cgroup has no such files, so an empty cgroup is made for the question
    name = "cgroup-freeze"
    try:
        probe = cgroup.choose_parent(cgroup.find_root()) / f"{cgroup.FAMILY}-doctor-{os.getpid()}"
        probe.mkdir()
    except (EnvironmentUnfitError, OSError) as error:
        return Check(name, ok=False, detail=f"cannot be tried: {error}", remedy="run as root")
    try:
        freeze, kill = (probe / "cgroup.freeze").exists(), (probe / "cgroup.kill").exists()
    finally:
        probe.rmdir()
    detail = "cgroup.freeze" + (", cgroup.kill" if kill else " (kills one by one)")
    return Check(name, freeze, detail if freeze else "no cgroup.freeze", "boot Linux 5.15 or newer")


def _present(name: str, path: Path, remedy: str) -> Check:
    found = os.access(path, os.R_OK)
    return Check(name, found, str(path) if found else f"{path} is not readable", remedy)


def _ring_buffer() -> Check:
    reason = kernel.ring_buffer()
    return Check(
        "bpf-ring-buffer", not reason, reason or platform.release(), "run as root on Linux 5.15 or newer"
    )


def _lockdown() -> Check:
    mode = kernel.lockdown()
    return Check(
        "lockdown",
        mode != "confidentiality",
        mode,
        "boot without lockdown=confidentiality: BPF may read nothing",
    )


def _bcc() -> Check:
    # located, not imported: importing takes 150 ms, and only the capture needs it
    spec = importlib.util.find_spec("bcc")
    origin = spec.origin if spec else None
    # the package of that name in the Python index has no libbcc binding
    ok = origin is not None and (Path(origin).parent / "libbcc.py").exists()
    return Check("bcc", ok, str(origin) if ok else "bcc's Python binding is not importable", _INSTALL)


def _headers() -> Check:
    found = kernel.headers()
    return Check("kernel-headers", found is not None, str(found or "none found"), _INSTALL)


def _programs() -> Check:
    wanted = ["unshare"] + ([] if os.environ.get("DOCKER_HOST") else ["dockerd", "containerd"])
    missing = [name for name in wanted if shutil.which(name) is None]
    if not os.environ.get("DOCKER_HOST") and not (shutil.which("runc") or shutil.which("crun")):
        missing.append("runc")
    return Check(
        "programs", not missing, f"missing: {', '.join(missing)}" if missing else "all there", _INSTALL
    )


def _disk(state: State) -> Check:
    there = next(p for p in (state.root, *state.root.parents) if os.access(p, os.F_OK))
    free = shutil.disk_usage(there).free
    return Check(
        "disk-space",
        free >= _LEAST_FREE,
        f"{free >> 20} MiB free at {there}",
        "free at least 1 GiB, or set ASSAY_RUNNER_STATE to another disk",
    )
