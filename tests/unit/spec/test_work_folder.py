"""The agent's folder: what is described is what is copied, and no link leads out of it."""

import os
from pathlib import Path

import pytest

from harness.contracts.replay_kit import stays_inside
from harness.errors import InputError
from harness.work_folder import WorkFolder, copy, survey


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    (made / "deep" / "empty").mkdir(parents=True)
    (made / "a.txt").write_text("one\n")
    (made / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (made / "deep" / "run.sh").chmod(0o700)
    (made / "latest").symlink_to("deep/run.sh")
    (made / "deep" / "up").symlink_to("../a.txt")
    (made / "all").symlink_to("deep/")
    return made


def test_what_is_there_is_described(folder: Path) -> None:
    found = survey(folder)
    assert list(found.files) == ["a.txt", "deep/run.sh"]
    assert found.programs == ("deep/run.sh",)
    assert found.links == {"all": "deep/", "deep/up": "../a.txt", "latest": "deep/run.sh"}
    assert found.folders == ("deep/empty",)


def test_a_copy_is_the_same_and_for_its_owner(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    target.mkdir()
    copy(folder, target, os.getuid())
    assert survey(target) == survey(folder)
    assert (target / "deep" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (target / "a.txt").stat().st_mode & 0o777 == 0o644
    (target / "deep" / "up").write_text("two\n")
    assert (folder / "a.txt").read_text() == "one\n"


def test_a_folder_of_links_alone_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "me").symlink_to("me")
    assert survey(tmp_path) == WorkFolder(links={"only/me": "me"})


@pytest.mark.parametrize(
    ("name", "target"),
    [("a", "b"), ("a", "b/c"), ("a", "./b//c/"), ("d/a", "../b"), ("d/e/a", "../../b"), ("a", "."),
     ("d/a", ".."), ("a", "..b"), ("a", "not-there")],
)  # fmt: skip
def test_links_that_stay(name: str, target: str) -> None:
    assert stays_inside(name, target)


@pytest.mark.parametrize(
    ("name", "target"),
    [("a", "/etc/passwd"), ("a", "/workspace/b"), ("a", ".."), ("a", "../b"), ("d/a", "../../b"),
     ("a", "b/.."), ("a", "b/../../c"), ("a", "./../c"), ("d/a", "./.././../c"), ("a", ""), ("a", "b\0c")],
)  # fmt: skip
def test_links_that_may_lead_out(name: str, target: str) -> None:
    assert not stays_inside(name, target)


def test_such_a_link_is_refused_by_name(folder: Path) -> None:
    (folder / "deep" / "out").symlink_to("../../secret")
    with pytest.raises(InputError, match=r"leads to '../../secret'") as caught:
        survey(folder)
    assert caught.value.place == str(folder / "deep" / "out")


def test_a_device_or_pipe_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match="only files, folders and links"):
        survey(folder)
