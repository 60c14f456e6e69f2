"""`pip install .` in a plain virtual environment: archives are read there, and measuring says what it needs.

Another user, no network interface, no checkout, and of Python packages only what the wheel itself asks for.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from attrs import frozen
from packaging.requirements import Requirement

from tests.unit.bundle.keys import new_pair

pytestmark = pytest.mark.linux

REPOSITORY = Path(__file__).parents[2]
ARCHIVES = REPOSITORY / "tests" / "golden" / "diff"
NOBODY = 65534
# Commands that need no machine, with their exit code on archives of real runs; all others are right wing.
LEFT = {
    "verify": (["verify", "s5.tar.gz", "hidden-write.tar.gz", "gemini.tar.gz", "--json"], 0),
    "diff": (["diff", "s5.tar.gz", "hidden-write.tar.gz", "--format", "json"], 1),
    "drift": (["drift", "s5.tar.gz", "gemini.tar.gz", "--format", "json"], 0),
    "claims": (["claims", "hidden-write.tar.gz", "--format", "json"], 0),
    "report": (["report", "hidden-write.tar.gz", "-o", "report.html"], 0),
    "baseline accept": (["baseline", "accept", "s5.tar.gz"], 0),
    "check": (["check", "hidden-write.tar.gz", "--baseline", "baselines/openai-agents.json"], 1),
    "attest": (["attest", "s5.tar.gz", "--key", "key.pem"], 0),
    "oci push": (["oci", "push", "s5.tar.gz", "layout"], 0),
    "oci fetch": (["oci", "fetch", "layout", "-o", "fetched.tar.gz"], 0),
    "proof-pack verify": (["proof-pack", "verify", "no-such-pack"], 2),
}
FOLDERS = ["baselines", "layout", "venv"]  # that these commands make, beside the environment
CHECKOUT = ("lanes", "proof-pack make")  # which ask a checkout what gates there are, and need no package
# Every command of the tree, each with the least that its parser takes.
_TREE = """
import argparse, json
from harness.cli import _parser

def leaves(parser, words=()):
    given = list(words)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from leaves(below, (*words, name))
            return
        if action.required and action.nargs != 0:
            given += [*action.option_strings[:1], str((action.choices or ["x"])[0])]
    yield " ".join(words), given

print(json.dumps(dict(leaves(_parser()))))
"""


@frozen
class Installed:
    """A user's own folder with an environment that has the wheel, and archives beside it."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return _as_nobody(self.folder, *command)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.python.with_name("assay-runner"), *arguments)


def _as_nobody(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return subprocess.run(
        ["unshare", "--net", *user, *command],
        cwd=folder,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by pip from a copy of what git has, with the pinned setuptools and no index."""
    clone = tmp_path_factory.mktemp("wheel") / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z", "harness", "pyproject.toml", "README.md"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, clone / name)
    build = ["--no-index", "--no-build-isolation", "--no-deps", "--wheel-dir", str(clone.parent)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", *build, str(clone)],
        env={"PATH": os.environ["PATH"], "HOME": str(clone.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [made] = clone.parent.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Installed]:
    with tempfile.TemporaryDirectory(prefix="assay-", dir="/tmp") as name:
        folder = Path(name)
        pair = new_pair(folder, "key")
        for path in (*ARCHIVES.glob("*.tar.gz"), wheel):
            shutil.copy2(path, folder)
        for path in (folder, pair.private):
            os.chown(path, NOBODY, NOBODY)
        made = Installed(folder)
        system = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
        assert made.run(system, "-m", "venv", "venv").returncode == 0
        install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--no-deps"]
        done = made.run(made.python, *install, wheel.name)
        assert (done.returncode, done.stderr) == (0, "")
        _copy_requirements(Requirement("assay-runner"), made, set())
        done = made.run(made.python, "-m", "pip", "check")
        assert done.returncode == 0, done.stdout
        yield made


def _copy_requirements(wanted: Requirement, made: Installed, seen: set[str]) -> None:
    """What the wheel asks for without an extra, and what that asks for, from the pinned environment."""
    [site] = (made.folder / "venv" / "lib").glob("python3*/site-packages")
    if wanted.name == "assay-runner":
        [found] = metadata.distributions(name=wanted.name, path=[str(site)])
    else:
        found = metadata.distribution(wanted.name)
        for file in found.files or ():
            if ".." not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), site / file)
    seen.add(wanted.name)
    for text in found.requires or ():
        needed = Requirement(text)
        if needed.name not in seen and (not needed.marker or needed.marker.evaluate({"extra": ""})):
            _copy_requirements(needed, made, seen)


def test_the_machine_cannot_be_imported(installed: Installed) -> None:
    for name in ("docker", "pyroute2", "bcc"):
        done = installed.run(installed.python, "-c", f"import {name}")
        assert f"No module named '{name}'" in done.stderr


def test_archives_are_read_compared_and_shown(installed: Installed) -> None:
    said = {}
    for name, (arguments, code) in LEFT.items():
        done = installed.command(*arguments)
        assert (name, done.returncode) == (name, code), done.stdout + done.stderr
        said[name] = done.stdout
    assert [one["ok"] for one in json.loads(said["verify"])] == [True] * 3
    assert said["diff"].encode() == (ARCHIVES / "s5-hidden-write.json").read_bytes()
    assert json.loads(said["drift"])["summary"]["dimensions_checked"] == 7
    assert json.loads(said["claims"])["verified"] is True
    assert "/workspace/hidden-write-output.txt" in said["check"]
    assert (installed.folder / "fetched.tar.gz").read_bytes() == (ARCHIVES / "s5.tar.gz").read_bytes()
    assert installed.command("verify", "s5.tar.gz", "--key", "key.pub").returncode == 0
    page = (installed.folder / "report.html").read_text(encoding="utf-8")
    assert "/workspace/hidden-write-output.txt" in page


def test_a_changed_archive_is_exit_4_there_too(installed: Installed) -> None:
    data = bytearray((ARCHIVES / "s5.tar.gz").read_bytes())
    data[len(data) // 2] ^= 1
    (installed.folder / "changed.tar.gz").write_bytes(data)
    assert installed.command("verify", "changed.tar.gz").returncode == 4


def test_every_other_command_says_what_it_needs(installed: Installed) -> None:
    told = installed.run(installed.python, "-c", _TREE)
    commands = json.loads(told.stdout)
    assert LEFT.keys() <= commands.keys()
    for name in commands.keys() - LEFT.keys():
        done = installed.command(*commands[name])
        assert (name, done.returncode) == (name, 5), done.stderr
        first, *problems = done.stderr.splitlines()
        assert first.startswith(f"assay-runner: {name.split()[0]}: this installation reads")
        wanted = ["no bpf, images, runner-fixtures beside the package"]
        if name not in CHECKOUT:
            wanted.append("no Python package docker, pyroute2")
        assert [problem.partition(": ")[0].strip() for problem in problems] == wanted
        assert all("./enter" in problem for problem in problems)
        assert done.stdout == ""
    assert sorted(path.name for path in installed.folder.iterdir() if path.is_dir()) == FOLDERS


def test_what_the_wheel_asks_for_is_what_the_pinned_environment_has() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = {*project["dependencies"], *project["optional-dependencies"]["host"]}
    lines = (REPOSITORY / "requirements" / "runtime.in").read_text().splitlines()
    assert asked == {line for line in lines if not line.startswith("#")}
