"""Where the slice goes: mount, parent rule and systemd's names, on made-up hierarchies."""

from pathlib import Path

import pytest

from harness.errors import EnvironmentUnfitError
from harness.evidence.model import Role
from harness.host.cgroup import (
    CgroupRoot,
    Slice,
    choose_parent,
    find_root,
    systemd_family,
    systemd_slice,
)

PURE = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
ELSEWHERE = "50 23 0:38 / /mnt/a\\040b/cgroup2 rw - cgroup2 none rw\n"


@pytest.mark.parametrize(
    ("text", "mount", "hybrid"),
    [
        (PURE, "/sys/fs/cgroup", False),
        (HYBRID, "/sys/fs/cgroup/unified", True),
        (ELSEWHERE + HYBRID, "/mnt/a b/cgroup2", True),
        (ELSEWHERE + PURE, "/sys/fs/cgroup", False),
    ],
)
def test_find_root(tmp_path: Path, text: str, mount: str, hybrid: bool) -> None:
    (tmp_path / "mountinfo").write_text(text)
    root = find_root(tmp_path / "mountinfo")
    assert (root.mount, root.hybrid) == (Path(mount), hybrid)


def test_find_root_without_cgroup2(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(HYBRID.rpartition("41")[0])
    with pytest.raises(EnvironmentUnfitError, match="mount -t cgroup2"):
        find_root(tmp_path / "mountinfo")


def _hierarchy(
    tmp_path: Path, own: str, types: dict[str, str], controllers: str = ""
) -> tuple[CgroupRoot, Path]:
    mount = tmp_path / "cgroup"
    (mount / own.strip("/")).mkdir(parents=True)
    for name, kind in types.items():
        (mount / name / "cgroup.type").write_text(f"{kind}\n")
        (mount / name / "cgroup.procs").write_text("1\n" if mount / own.strip("/") == mount / name else "")
        (mount / name / "cgroup.controllers").write_text(controllers)
    membership = tmp_path / "self"
    membership.write_text(f"4:memory:/elsewhere\n0::{own}\n")
    return CgroupRoot(mount), membership


@pytest.mark.parametrize(
    ("own", "types", "parent"),
    [
        ("/", {}, ""),  # the true root has no cgroup.type
        ("/a", {"a": "domain"}, "a"),
        ("/a/b", {"a": "domain", "a/b": "threaded"}, "a"),
        ("/a/b", {"a": "domain", "a/b": "domain invalid"}, "a"),
        ("/a/b", {"a": "domain threaded", "a/b": "threaded"}, ""),
        ("/s.slice/x.service", {"s.slice": "domain", "s.slice/x.service": "domain"}, "s.slice"),
        ("/init.scope", {"init.scope": "domain"}, ""),
        ("/u/x.scope/y", {"u": "domain", "u/x.scope": "domain", "u/x.scope/y": "domain"}, "u/x.scope/y"),
    ],
)
def test_choose_parent(tmp_path: Path, own: str, types: dict[str, str], parent: str) -> None:
    root, membership = _hierarchy(tmp_path, own, types)
    assert choose_parent(root, membership) == root.mount / parent


@pytest.mark.parametrize(("controllers", "parent"), [("", "docker/c0"), ("cpu pids\n", "docker")])
def test_an_occupied_cgroup_is_no_parent_where_controllers_are(
    tmp_path: Path, controllers: str, parent: str
) -> None:
    """A harness in a container of the cgroupfs driver: its own cgroup has it as a process."""
    types = {"docker": "domain", "docker/c0": "domain"}
    root, membership = _hierarchy(tmp_path, "/docker/c0", types, controllers)
    assert choose_parent(root, membership) == root.mount / parent


def test_choose_parent_wants_a_type_at_every_level(tmp_path: Path) -> None:
    root, membership = _hierarchy(tmp_path, "/a/b", {"a": "domain"})
    with pytest.raises(EnvironmentUnfitError, match=r"a/b has no cgroup\.type"):
        choose_parent(root, membership)


def test_choose_parent_without_version_2(tmp_path: Path) -> None:
    (tmp_path / "self").write_text("4:memory:/x\n")
    with pytest.raises(EnvironmentUnfitError, match="in no cgroup v2"):
        choose_parent(CgroupRoot(tmp_path), tmp_path / "self")


def test_systemd_names_nest_by_their_dashes() -> None:
    """systemd.slice(5): foo-bar.slice is in foo.slice; runc makes the path from the name alone."""
    root = CgroupRoot(Path("/sys/fs/cgroup"))
    made = Slice(root, "run_1-a", systemd_family(root) / systemd_slice("run_1-a"), -1)
    name = "assay-runner-run_1\\x2da"
    assert made.cgroup_parent(Role.SUBJECT) == f"{name}-subject.slice"
    expected = f"/sys/fs/cgroup/assay.slice/assay-runner.slice/{name}.slice/{name}-subject.slice"
    assert made.role_path(Role.SUBJECT) == Path(expected)
    assert made.role_path(Role.SUBJECT) == root.mount / _expand(made.cgroup_parent(Role.SUBJECT))


def _expand(name: str) -> str:
    """The path of a slice by systemd's rule, written down independently: every prefix is a level."""
    parts = name.removesuffix(".slice").split("-")
    return "/".join("-".join(parts[: n + 1]) + ".slice" for n in range(len(parts)))


def test_cgroupfs_parent_is_relative_to_the_mount() -> None:
    root = CgroupRoot(Path("/sys/fs/cgroup/unified"))
    made = Slice(root, "r", root.mount / "a" / "assay-runner" / "r", -1)
    assert made.cgroup_parent(Role.TOOLS) == "/a/assay-runner/r/tools"


def test_create_and_remove_with_systemd_names(tmp_path: Path) -> None:
    """Only the paths: plain folders stand for cgroups, systemd itself is not involved."""
    root = CgroupRoot(tmp_path)
    made = Slice.create("r-1", driver="systemd", root=root)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == sorted(
        [
            "assay.slice",
            "assay.slice/assay-runner.slice",
            "assay.slice/assay-runner.slice/assay-runner-r\\x2d1.slice",
            *(
                f"assay.slice/assay-runner.slice/assay-runner-r\\x2d1.slice/assay-runner-r\\x2d1-{role}.slice"
                for role in ("subject", "tools", "harness")
            ),
        ]
    )
    made.remove()
    assert list(tmp_path.iterdir()) == []
