"""fixture.toml: what is wrong, where, and what to do about it."""

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.evidence.image import NO_IMAGE, RunImage
from harness.plan import FIXTURES, plan_fixture
from harness.spec import load_fixture
from harness.work_folder import survey

GOOD = """
schema = "assay.runner.fixture.v1"
name = "mine"
description = "mine"
image = "mine"
witnesses = ["kernel", "policy"]
[subject]
command = ["/bin/agent"]
[tools]
server = ["/bin/server"]
"""
POLICY = 'schema = "assay.runner.policy.v1"\n[[rule]]\nid = "all"\neffect = "allow"\ntools = ["*"]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "inputs").mkdir(parents=True)
    (folder / "inputs" / "a.txt").write_text("a")
    (folder / "policy.toml").write_text(POLICY)
    (folder / "fixture.toml").write_text(GOOD)
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        plan_fixture(load_fixture(folder), NO_IMAGE, run_id=None)
    assert caught.value.exit_code == 2
    assert caught.value.place
    return str(caught.value)


def test_a_good_fixture_becomes_a_plan(folder: Path) -> None:
    plan = plan_fixture(load_fixture(folder), RunImage("i", "sha256:0", ("/usr",)), run_id="r1")
    assert plan.spec.run_id == "r1"
    assert plan.proxy_command[-2:] == ("--", "/bin/server")
    assert "ASSAY_RUNNER_MCP_COMMAND" in plan.spec.env
    assert "ASSAY_RUNNER_SDK_SOCKET" not in plan.spec.env
    context = plan.context()
    assert list(context.inputs) == ["a.txt"]
    assert context.policy_sha256 is not None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('schema = "assay.runner.fixture.v1"', 'schema = "v9"', "schema 'v9' is not known"),
        ('name = "mine"', 'name = "other"', "is not the folder's name"),
        ('"policy"]', '"mind-reader"]', "witnesses ['mind-reader'] are not known"),
        ('command = ["/bin/agent"]', "command = []", "subject.command is empty"),
        (
            'command = ["/bin/agent"]',
            'command = ["/bin/agent"]\ndeadline_s = 0',
            "deadline_s must be positive",
        ),
        ('server = ["/bin/server"]', "server = []", "tools.server is empty"),
        ('server = ["/bin/server"]', 'server = ["/s"]\nworkspace = "w"', "must be 'ro' or 'rw'"),
        ('server = ["/bin/server"]', 'server = ["/s"]\npolicy = "no.toml"', "no policy file"),
        ('[tools]\nserver = ["/bin/server"]', "", "needs a [tools] table"),
        ('image = "mine"', 'image = "mine"\ninputs = "nowhere"', "no inputs folder"),
        ('image = "mine"', 'image = "mine"\ncolour = "red"', "colour"),
        ('image = "mine"', 'image = "mine"\nnetwork = "internet"', "network 'internet' is not known"),
        ('"policy"]', '"sdk"]', "does not say where the SDK's tool call ids come from"),
        ('"policy"]', '"sdk"]\nid_source = "minted"', "id_source 'minted' does not say"),
        ('image = "mine"', "image = 7", "/image"),
        ('image = "mine"', "image = ", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, old: str, new: str, message: str) -> None:
    spec = folder / "fixture.toml"
    assert old in GOOD
    spec.write_text(GOOD.replace(old, new))
    assert message in refused(folder)


def test_a_malformed_policy_ends_before_anything_starts(folder: Path) -> None:
    (folder / "policy.toml").write_text(POLICY.replace("allow", "perhaps"))
    assert "policy.toml" in refused(folder)
    (folder / "policy.toml").unlink()
    assert "no policy file" in refused(folder)


def test_no_input_leads_out_of_its_folder(folder: Path) -> None:
    (folder / "inputs" / "link").symlink_to("/etc/passwd")
    assert "leads to '/etc/passwd'" in refused(folder)


def test_every_fixture_of_the_house_can_be_planned() -> None:
    found = sorted(path.parent for path in FIXTURES.glob("*/fixture.toml"))
    assert len(found) >= 4
    for folder in found:
        fixture = load_fixture(folder)
        plan_fixture(fixture, NO_IMAGE, run_id=None)
        assert survey(fixture.inputs).files


GLOBS = ("/tmp/agent/log-*.txt", "/tmp/a/*", "/a/.x/..y/*.*", "/workspaces/*", "/proc/meminfo",
         "/sys/devices/system/cpu/online")  # fmt: skip
NO_GLOBS = (
    "log/*", "/a/../b/*", "/a/./*", "//a/*", "/a//*", "/a/*/", "/a/*/b", "/a/**/b", "/a/b", "/*", "",
    "/workspace/*", "/workspace/a/*", "/proc", "/proc/", "/proc/../etc/passwd", "/sys/a/..", "/procs/x",
)  # fmt: skip


def with_volatile(glob: str) -> str:
    return GOOD.replace("[subject]", f'volatile = ["{glob}"]\n[subject]')


@pytest.mark.parametrize("glob", GLOBS)
def test_volatile_names_stand_in_a_folder_outside_the_workspace(folder: Path, glob: str) -> None:
    (folder / "fixture.toml").write_text(with_volatile(glob))
    plan = plan_fixture(load_fixture(folder), NO_IMAGE, run_id=None)
    assert plan.context().volatile == (glob,)


@pytest.mark.parametrize("glob", NO_GLOBS)
def test_other_names_may_not_be_volatile(folder: Path, glob: str) -> None:
    (folder / "fixture.toml").write_text(with_volatile(glob))
    assert f"volatile ['{glob}'] must name a folder" in refused(folder)
