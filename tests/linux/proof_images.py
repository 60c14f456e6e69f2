"""The proof behind docs/guide/images.md: every image, twice from nothing, in two places that have little in
common, then saved and loaded. Too long for every change; `nox -s image_proof` runs it.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import docker
import pytest

from harness.cli import main
from harness.engine.image_lock import ImageLock, read_lock
from harness.engine.packages import tool_environment
from harness.engine.recipe import IMAGES
from harness.gates.catalog import all_images
from harness.host.state import State
from tests.linux.saved_images import saved_and_loaded

pytestmark = [pytest.mark.linux, pytest.mark.timeout(3600)]

REPOSITORY = IMAGES.parent
FIXTURES = REPOSITORY / "runner-fixtures"


def every_lock() -> list[ImageLock]:
    locks = [read_lock(folder) for folder in all_images(FIXTURES, candidates=False)]
    assert all(locks)
    return [lock for lock in locks if lock]


@pytest.mark.parametrize(
    ("place", "umask", "environment"),
    [
        ("one", 0o022, {"TZ": "UTC", "LC_ALL": "C"}),
        (
            "another folder, déjà/vu",
            0o077,
            {"TZ": "Asia/Tokyo", "LC_ALL": "de_DE.UTF-8", "PYTHONHASHSEED": "7"},
        ),
    ],
    ids=["plain", "odd"],
)
def test_every_image_is_the_locked_one_wherever_it_is_built_from_nothing(
    place: str, umask: int, environment: dict[str, str], tmp_path: Path
) -> None:
    """A copy of the repository, an empty home and an empty state, all below `place`."""
    there = tmp_path / place
    copy, home = there / "repository", there / "home"
    before = os.umask(umask)
    try:
        for part in ("bpf", "harness", "images", "runner-fixtures"):
            shutil.copytree(
                REPOSITORY / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"),
                copy_function=shutil.copyfile,
            )  # fmt: skip
        home.mkdir()
    finally:
        os.umask(before)
    expected = [f"verified {lock.name} {lock.id}" for lock in every_lock()]
    own = {"PYTHONPATH": str(copy), "ASSAY_RUNNER_STATE": str(there / "state")}
    begun, cpu = time.monotonic(), os.times()
    done = subprocess.run(
        [sys.executable, "-m", "harness", "image", "verify", "--all"],
        cwd=copy,
        env=tool_environment(os.environ, home) | environment | own,
        umask=umask,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    took, spent = time.monotonic() - begun, os.times()
    processor = sum(spent[2:4]) - sum(cpu[2:4])
    print(
        f"\n{done.stdout}umask {umask:04o} {environment}: {took:.0f} s, {processor:.0f} s of processor time"
    )
    assert done.returncode == 0
    assert done.stdout.splitlines() == expected
    assert list((there / "state").glob("verify-*")) == []
    shutil.rmtree(there)


@pytest.mark.parametrize("lock", every_lock(), ids=lambda lock: lock.name)
def test_every_image_is_the_locked_one_also_after_it_was_saved_and_loaded(
    lock: ImageLock,
    engine: docker.DockerClient,
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("ASSAY_RUNNER_STATE", str(state.root))
    assert main(["-q", "image", "build", lock.name]) == 0
    size = engine.images.get(lock.id).attrs["Size"]
    assert saved_and_loaded(engine, lock.id, tmp_path / "saved.tar") == lock.id
    print(f"loaded {lock.name} {lock.id}, {size / 1e6:.1f} MB of files")
