"""Engines whose containers cannot be measured, told by what they say of themselves."""

import os
import tomllib
from pathlib import Path
from typing import Any

from harness.host import cgroup, systemd

RUNTIMES = ("runc", "crun")  # others run containers on a kernel that host eBPF cannot see
_CONTAINERS_CONF = ("usr/share/containers/containers.conf", "etc/containers/containers.conf")
_CONTAINERS_CONF_D = "etc/containers/containers.conf.d"  # containers.conf(5): read last, sorted by name

Refusal = tuple[str, str]


def refusal(info: dict[str, Any], *, podman: bool, root: Path) -> Refusal | None:
    """Why not, and what to do, by the engine's `info`; None for an engine that fits.

    `root` is what the engine's own process has as its root folder.
    """
    runtime = str(info["DefaultRuntime"])
    program = Path(str((info["Runtimes"].get(runtime) or {}).get("path") or runtime)).name
    if Path(runtime).name not in RUNTIMES or program not in RUNTIMES:
        return (
            f"the engine's runtime is {runtime} ({program}): its containers do not run on this kernel",
            f"use an engine whose default runtime is {' or '.join(RUNTIMES)}",
        )
    if info["KernelVersion"] != os.uname().release:
        return (
            f"the engine runs on kernel {info['KernelVersion']}, not on this one",
            "use an engine of this host, or unset DOCKER_HOST",
        )
    if any("rootless" in option for option in info.get("SecurityOptions") or []):
        return "the engine is rootless: it cannot use the run's slice", "use a rootful one"
    if info["CgroupDriver"] == "systemd":
        return _systemd_refusal(podman=podman, root=root)
    if program == "crun" and not podman and not _has_controller("io"):
        return (
            "Docker asks crun for the controller io, which cgroup v2 does not have here (hybrid)",
            "use runc, or podman, or boot with systemd.unified_cgroup_hierarchy=1",
        )
    return None


def _systemd_refusal(*, podman: bool, root: Path) -> Refusal | None:
    if not systemd.is_running(root):
        return (
            "the engine's cgroup driver is systemd, which does not run here",
            "start the engine with cgroupfs (dockerd --exec-opt native.cgroupdriver=cgroupfs)",
        )
    if podman and _conmon_cgroups(root) != "no-conmon":
        return (
            "podman's conmon would run in the run's own slice, as a process that nobody declared",
            'write cgroups = "no-conmon" below [containers] in /etc/containers/containers.conf',
        )
    return None


def _has_controller(name: str) -> bool:
    controllers = cgroup.find_root().mount / "cgroup.controllers"
    return name in controllers.read_text(encoding="ascii").split()


def _conmon_cgroups(root: Path) -> str:
    found = ""
    files = [root / name for name in _CONTAINERS_CONF] + sorted((root / _CONTAINERS_CONF_D).glob("*.conf"))
    for path in files:
        try:
            containers = tomllib.loads(path.read_text(encoding="utf-8")).get("containers", {})
        except (OSError, ValueError):
            continue  # not there, or podman itself does not start with it
        found = str(containers.get("cgroups", found))
    return found
