"""Engines that are refused, by what they say of themselves: one fact changed in one that fits."""

import os
from pathlib import Path
from typing import Any

import pytest

from harness.engine import fitness
from harness.host.cgroup import CgroupRoot

FITS: dict[str, Any] = {
    "DefaultRuntime": "runc",
    "Runtimes": {"runc": {"path": "runc"}, "crun": {"path": "/usr/bin/crun"}, "mine": {"path": "/opt/runsc"}},
    "KernelVersion": os.uname().release,
    "SecurityOptions": ["name=seccomp,profile=default"],
    "CgroupDriver": "cgroupfs",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The engine's root folder, without systemd; its cgroup2 has no controllers."""
    (tmp_path / "cgroup.controllers").write_text("\n")
    monkeypatch.setattr("harness.host.cgroup.find_root", lambda: CgroupRoot(tmp_path))
    return tmp_path


def booted(root: Path, conf: str = "") -> None:
    (root / "run/systemd/system").mkdir(parents=True)
    (root / "etc/containers").mkdir(parents=True)
    (root / "etc/containers/containers.conf").write_text(conf)


@pytest.mark.parametrize("podman", [False, True])
@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_what_fits(root: Path, podman: bool, runtime: str) -> None:
    (root / "cgroup.controllers").write_text("cpu io pids\n")
    assert fitness.refusal(FITS | {"DefaultRuntime": runtime}, podman=podman, root=root) is None


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        ({"DefaultRuntime": "runsc"}, "runtime is runsc"),
        ({"DefaultRuntime": "mine"}, "runsc"),
        ({"DefaultRuntime": "kata"}, "runtime is kata"),
        ({"KernelVersion": "1.2.3-vm"}, "1.2.3-vm"),
        ({"SecurityOptions": ["name=seccomp", "name=rootless"]}, "rootless"),
        ({"DefaultRuntime": "crun"}, "controller io"),
        ({"CgroupDriver": "systemd"}, "systemd, which does not run here"),
    ],
)
def test_what_does_not(root: Path, fact: dict[str, Any], reason: str) -> None:
    said = fitness.refusal(FITS | fact, podman=False, root=root)
    assert said is not None
    assert reason in said[0]
    assert said[1]


def test_podman_needs_no_controllers(root: Path) -> None:
    assert fitness.refusal(FITS | {"DefaultRuntime": "crun"}, podman=True, root=root) is None


@pytest.mark.parametrize(
    ("conf", "more", "fits"),
    [
        ("", "", False),
        ('[containers]\ncgroups = "no-conmon"\n', "", True),
        ('[containers]\ncgroups = "no-conmon"\n', '[containers]\ncgroups = "enabled"\n', False),
        ("", '[containers]\ncgroups = "no-conmon"\n', True),
        ("no toml", "", False),
    ],
)
def test_podman_under_systemd_keeps_conmon_out_of_the_slice(
    root: Path, conf: str, more: str, fits: bool
) -> None:
    booted(root, conf)
    (root / "etc/containers/containers.conf.d").mkdir()
    (root / "etc/containers/containers.conf.d/10.conf").write_text(more)
    said = fitness.refusal(FITS | {"CgroupDriver": "systemd"}, podman=True, root=root)
    assert (said is None) == fits
    assert said is None or "conmon" in said[0]


def test_docker_under_systemd_fits(root: Path) -> None:
    booted(root)
    assert fitness.refusal(FITS | {"CgroupDriver": "systemd"}, podman=False, root=root) is None
