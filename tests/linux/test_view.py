"""What an agent sees of the host, and what its looks leave behind: real containers."""

import json
from pathlib import Path

import pytest
from attrs import evolve

from harness.bench import Bench
from harness.bundle.verify import check
from harness.contracts.compared import COMPARED
from harness.engine.view import MASKED
from harness.evidence.model import Role
from harness.run import Measured, measure
from tests.faults.agents import agent

pytestmark = pytest.mark.linux

BOOKS = "companion/accounting.json"
SAYS = """
import json, os
def tried(what):
    try:
        return what()
    except OSError as error:
        return error.strerror
def content(path):
    return os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(100).decode("latin-1")
masked = json.load(open("/workspace/masked"))
said = {
    "sys": os.listdir("/sys"),
    "made": tried(lambda: os.mkdir("/sys/x")),
    "written": tried(lambda: open("/proc/sys/vm/overcommit_memory", "w")),
    "masked": {path: tried(lambda: content(path)) for path in masked},
    "needed": [len(content(path)) > 0 for path in ("/proc/meminfo", "/proc/cpuinfo", "/proc/self/cgroup")],
}
print(json.dumps(said))
"""
# Sizes itself by what it is told is there, as a runtime does by what its cgroup says.
LOOKS = """
for path in open("/workspace/where").read().split():
    try:
        open(path).read()
    except OSError:
        pass
"""
HIDES = """
import os
os.makedirs("/workspace/sys/fs/cgroup")
open("/workspace/sys/fs/cgroup/memory.max", "w").write("a")
os.symlink("/proc", "/workspace/link")
os.chdir("/workspace/sys")
open("/workspace/secret", "w").write("b")
def tried(path, mode="r"):
    try:
        open(path, mode).read()
    except OSError:
        pass
tried("/workspace/sys/fs/cgroup/memory.max")
tried("/workspace/link/meminfo")
tried("/workspace/link/none")
tried("/proc/self/cwd/../secret")
tried("/proc/self/cwd/../cgroup")
tried("/sys/fs/cgroup/../../../workspace/none")
tried("/sys/fs/cgroup/cgroup.procs", "w")
tried("/proc/self/oom_score_adj", "r+")
"""


def inputs(folder: Path, name: str, text: str) -> Path:
    folder.mkdir()
    (folder / name).write_text(text)
    return folder


def members(measured: Measured, path: Path) -> dict[str, bytes]:
    measured.verdict()
    measured.write(path)
    return dict(check(path).members)


def test_the_host_is_not_in_view(bench: Bench, tmp_path: Path) -> None:
    plan = agent(bench, SAYS, inputs=inputs(tmp_path / "in", "masked", json.dumps(MASKED)))
    measured = measure(bench, plan)
    measured.verdict()
    said = json.loads(measured.output[Role.SUBJECT].stdout)
    assert said["sys"] == []
    assert (said["made"], said["written"]) == ("Read-only file system",) * 2
    nothing: tuple[object, ...] = ("", [], "No such file or directory")
    assert {path: what for path, what in said["masked"].items() if what not in nothing} == {}
    assert [path for path in MASKED if Path(path).exists()], "there is something to hide on this host"
    assert said["needed"] == [True] * 3


def test_hosts_that_differ_give_the_same_bytes(bench: Bench, tmp_path: Path) -> None:
    """One run looks where a pure host's cgroups are, one where a hybrid host's are, and looks more often."""
    where = {
        "pure": "/proc/meminfo /proc/self/cgroup /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.high",
        "hybrid": "/proc/meminfo /proc/meminfo /proc/version_signature /proc/self/mountinfo"
        " /sys/fs/cgroup/memory/docker/0/memory.limit_in_bytes /sys/devices/system/cpu/cpu7/online",
    }
    plan = agent(bench, LOOKS)
    found = {}
    for host, text in where.items():
        measured = measure(bench, evolve(plan, inputs=inputs(tmp_path / host, "where", text)))
        found[host] = members(measured, tmp_path / f"{host}.tar.gz")
    pure, hybrid = found["pure"], found["hybrid"]
    assert [name for name in COMPARED if pure[name] != hybrid[name]] == []
    looks = {host: json.loads(archive[BOOKS])["host_view"] for host, archive in found.items()}
    assert looks["pure"]["/sys/fs/cgroup/*"] == 2
    assert looks["hybrid"]["/proc/meminfo"] == looks["pure"]["/proc/meminfo"] + 1
    assert looks["hybrid"]["/sys/devices/system/cpu/*"] == 1


def test_nothing_hides_among_the_looks(bench: Bench, tmp_path: Path) -> None:
    archive = members(measure(bench, agent(bench, HIDES)), tmp_path / "run.tar.gz")
    lines = [json.loads(line) for line in archive["companion/kernel.ndjson"].splitlines()]
    opens = {(line["path"], line["outcome"], line["access"]) for line in lines if line.get("access")}
    assert {
        ("/workspace/sys/fs/cgroup/memory.max", "ok", "read"),
        ("/workspace/secret", "ok", "read"),
        ("/workspace/link/none", "ENOENT", "read"),
        ("/proc/self/cgroup", "ENOENT", "read"),  # by its name; there was no such file beside the folder
        ("/workspace/none", "ENOENT", "read"),
        ("/sys/fs/cgroup/cgroup.procs", "ENOENT", "write"),
        ("/proc/self/oom_score_adj", "ok", "read_write"),
    } <= opens
    looks = json.loads(archive[BOOKS])["host_view"]
    assert looks["/proc/meminfo"] == 1  # through the link: it is the kernel's file
    assert "/sys/fs/cgroup/*" not in looks
    assert "/proc/self/oom_score_adj" not in looks
