"""What is removed of a run's slice in version 1 hierarchies, on made-up ones."""

from pathlib import Path, PurePosixPath

from harness.host import cgroup_v1


def test_a_runs_folders_go_from_each_hierarchy_and_nothing_else(tmp_path: Path) -> None:
    mounts = [tmp_path / name for name in ("cpu", "a b", "partly", "two")]
    for mount in mounts:
        for role in ("subject", "tools"):
            (mount / "assay-runner" / "run_1" / role).mkdir(parents=True)
    (tmp_path / "two" / "assay-runner" / "run_2").mkdir()  # another run is there
    lines = []
    for number, mount in enumerate(mounts):
        shown, escaped = "/docker" if mount.name == "partly" else "/", str(mount).replace(" ", "\\040")
        lines.append(f"{number} 23 0:29 {shown} {escaped} rw shared:3 - cgroup cgroup rw,cpu\n")
    lines.append(f"9 23 0:30 / {tmp_path}/none rw - cgroup cgroup rw,pids\n")
    (tmp_path / "mountinfo").write_text("".join(lines))
    cgroup_v1.remove(PurePosixPath("/assay-runner/run_1"), tmp_path / "mountinfo")
    left = {
        mount.name: sorted(path.name for path in mount.rglob("*")) for mount in mounts if any(mount.iterdir())
    }
    assert left == {
        "partly": ["assay-runner", "run_1", "subject", "tools"],  # the mount shows only a part of it
        "two": ["assay-runner", "run_2"],
    }
