"""new-fixture and the image commands, as far as no engine and no network are needed."""

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.engine.image_lock import LOCK_NAME, read_lock, runtime_of
from harness.engine.recipe import load_recipe
from harness.errors import InputError
from harness.gates.candidate import RUNS
from harness.gates.probe import ways
from harness.plan import FIXTURES
from harness.scaffold import RUNTIMES, write_fixture
from harness.spec import load_fixture


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state and a mirror with nothing in it: no image can be built here."""
    state = tmp_path / "state"
    monkeypatch.setenv("ASSAY_RUNNER_STATE", str(state))
    monkeypatch.setenv("ASSAY_DEBIAN_MIRROR", f"file:{tmp_path}/none")
    monkeypatch.chdir(tmp_path)
    return state


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_new_fixture_is_whole_and_carries_its_name(tmp_path: Path, runtime: str) -> None:
    folder = write_fixture("my-agent-2", runtime, tmp_path / "made" / "on the way")
    fixture, recipe = load_fixture(folder), load_recipe(folder)
    assert (fixture.name, recipe.file.name, recipe.file.base) == ("my-agent-2", "my-agent-2", runtime)
    assert fixture.file.gate is not None
    assert fixture.file.gate.name == "my-agent-2"
    assert set(fixture.file.witnesses) == {"kernel", "policy", "sdk"}
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path for path in files if "@NAME@" in path.read_text()] == []
    assert [path.name for path in folder.parent.iterdir()] == ["my-agent-2"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_new_fixture_can_be_probed(tmp_path: Path, runtime: str) -> None:
    fixture = load_fixture(write_fixture("my-agent", runtime, tmp_path))
    assert set(ways(fixture)) == set(RUNS)
    locked = runtime_of(load_recipe(fixture.folder))
    gates = [one.file.gate for one in (fixture, *fixture.scenarios)]
    sdks = [gate.sdk for gate in gates if gate and gate.sdk]
    assert [(sdk.name, sdk.version) for sdk in sdks] == [(runtime, locked[runtime])] * 2


@pytest.mark.parametrize("name", ["", "Demo", "a b", "../x", "a/b", "-a", "a--b", "a_b", "a:b", "x" * 61])
def test_a_name_that_no_image_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be a fixture's name"):
        write_fixture(name, "node", tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_a_refused_name_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-fixture", "My Agent", "--runtime", "node"]) == 2
    assert "single '-' between them" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_there_already_is_left_alone(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "demo"
    if kind == "folder":
        there.mkdir()
    elif kind == "file":
        there.write_text("mine")
    else:
        there.symlink_to("nowhere")
    assert main(["new-fixture", "demo", "--runtime", "python"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert not there.is_file() or there.read_text() == "mine"
    assert not there.is_dir() or list(there.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["new-fixture", "demo", "--runtime", "python", "--folder", "file"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_where_no_image_can_be_built_the_one_command_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-q", "new-fixture", "demo", "--runtime", "python"]) == 0
    said = capsys.readouterr().out
    assert f"assay-runner image lock {tmp_path / 'demo'}" in said.splitlines()[-1]
    assert not (tmp_path / "demo" / LOCK_NAME).exists()


def test_listing_builds_nothing_and_takes_ids_from_the_locks(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} >= {"kernel-only", "kernel-policy", "openai-agents"}
    for row in rows:
        lock = read_lock(FIXTURES / row["name"])
        assert lock is not None
        assert (row["id"], row["size"], row["base"]) == (lock.id, lock.size, lock.base)
        assert row["runtime"] == lock.runtime
        assert (row["lock"], row["built"], row["loaded"]) == ("locked", False, None)
    assert not state.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["image", "lock"], "name images, or give --all"),
        (["image", "verify"], "name images, or give --all"),
        (["image", "verify", "x", "--all"], "name images, or give --all"),
        (["image", "lock", "no-such-image"], "known: "),
        (["image", "build", "no-such-image"], "known: "),
    ],
)
def test_bad_usage_of_images_is_exit_2(
    arguments: list[str], message: str, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not state.exists()
