"""A candidate is measured by its name and is no part of "all": one key of fixture.toml decides."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import image_commands
from harness.cli import main
from harness.engine.image_lock import ImageLock, read_lock
from harness.engine.images import BuiltImage
from harness.errors import InputError
from harness.gates.catalog import (
    all_fixtures,
    all_gates,
    all_images,
    all_runtimes,
    find_fixture,
    gate_name,
)
from harness.gates.lanes import classify
from harness.gates.probe import ways
from harness.plan import FIXTURES

CANDIDATES = ["crewai"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two runtimes, of which `new` is a candidate."""
    for name in ("known", "new"):
        folder = shutil.copytree(FIXTURES / "pydantic-ai", tmp_path / name)
        for file in (folder / "fixture.toml", folder / "image.toml"):
            file.write_text(file.read_text().replace("pydantic-ai", name))
    spec = tmp_path / "new" / "fixture.toml"
    spec.write_text(spec.read_text().replace('image = "new"', 'image = "new"\ncandidate = true'))
    return tmp_path


def test_a_candidate_is_no_part_of_all(root: Path) -> None:
    assert [one.name for one in all_fixtures(root)] == ["known", "new"]
    assert [gate_name(one) for one in all_gates(root)] == ["known-kernel-policy", "known-multi-tool"]
    assert [one.name for one in all_runtimes(root)] == ["known"]
    assert all_images(root, candidates=False) == [root / "known"]
    assert all_images(root, candidates=True) == [root / "known", root / "new"]


def test_without_the_key_it_is_one_of_all(root: Path) -> None:
    spec = root / "new" / "fixture.toml"
    spec.write_text(spec.read_text().replace("candidate = true", "candidate = false"))
    assert [one.name for one in all_runtimes(root)] == ["known", "new"]
    assert len(all_gates(root)) == 4
    assert len(all_images(root, candidates=False)) == 2


@pytest.mark.parametrize("name", ["new", "new-kernel-policy", "new:multi-tool", "new-multi-tool"])
def test_a_candidate_is_found_by_name(root: Path, name: str) -> None:
    found = find_fixture(name, root)
    assert (found.folder, found.file.candidate) == (root / "new", True)


def test_a_candidate_can_be_probed(root: Path) -> None:
    assert list(ways(find_fixture("new", root))) == list(ways(find_fixture("known", root)))


@pytest.mark.parametrize("name", ["new", "new:multi-tool"])
def test_a_broken_neighbour_stands_in_no_ones_way(root: Path, name: str) -> None:
    """It does for whoever asks for a gate, whose name may stand in any fixture."""
    (root / "known" / "fixture.toml").write_text("name = ")
    assert find_fixture(name, root).name == name
    for broken in ("known", "new-kernel-policy", "no-such"):
        with pytest.raises(InputError, match="not valid TOML") as refused:
            find_fixture(broken, root)
        assert refused.value.place.startswith(str(root / "known" / "fixture.toml"))


@pytest.mark.parametrize("name", ["../new", "./new", "a/../new", "."])
def test_a_name_leads_out_of_no_folder(root: Path, name: str) -> None:
    with pytest.raises(InputError, match="no fixture or gate named"):
        find_fixture(name, root / "known")


def test_an_unknown_scenario_gets_the_known_ones(root: Path) -> None:
    with pytest.raises(InputError, match=r"known: new.*, new:multi-tool.*; or give"):
        find_fixture("new:other", root)


def test_a_list_of_names_says_which_are_candidates(root: Path) -> None:
    with pytest.raises(InputError) as refused:
        find_fixture("no-such", root)
    assert "known: known, new (candidate); or" in str(refused.value)


def test_the_candidates_of_the_house() -> None:
    assert [one.name for one in all_fixtures() if one.file.candidate] == CANDIDATES
    assert not {one.file.name for one in (*all_gates(), *all_runtimes())} & {*CANDIDATES}
    for name in CANDIDATES:
        assert ways(find_fixture(name))
        assert find_fixture(f"{name}-kernel-policy").file.candidate


def test_nox_has_a_session_for_each_gate_and_for_no_candidate() -> None:
    command = [sys.executable, "-m", "nox", "--list"]
    done = subprocess.run(command, cwd=FIXTURES.parent, capture_output=True, text=True, check=True)
    sessions = re.findall(r"^[-*] (gate_\w+)", done.stdout, re.MULTILINE)
    gates = {f"gate_{gate_name(one).replace('-', '_')}" for one in all_gates()}
    assert set(sessions) == gates | {"gate_all"}


def test_a_change_of_a_candidate_needs_no_gate() -> None:
    (verdict,) = classify(["runner-fixtures/crewai/agent.py"]).verdicts
    assert (verdict.gates, verdict.why) == ((), "a candidate's, and its gates are no part of all")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of the images that a command goes to work on; the work itself takes minutes and root."""
    names: list[str] = []

    def work(folders: list[Path]) -> list[BuiltImage]:
        names.extend(folder.name for folder in folders)
        return []

    def refresh(folder: Path, **_: Any) -> tuple[ImageLock | None, ImageLock | None]:
        work([folder])
        return read_lock(folder), read_lock(folder)

    monkeypatch.setenv("ASSAY_RUNNER_STATE", str(tmp_path))
    monkeypatch.setattr(image_commands, "ensure_engine", lambda _: io.BytesIO())
    monkeypatch.setattr(image_commands, "build_locked", lambda _, folders, **__: work(folders))
    monkeypatch.setattr(image_commands, "verify_images", lambda folders, **_: work(folders))
    monkeypatch.setattr(image_commands, "refresh_lock", refresh)
    return names


@pytest.mark.parametrize(
    ("action", "candidates"), [(["build"], False), (["verify", "--all"], False), (["lock", "--all"], True)]
)
def test_all_images_are_without_candidates_except_to_lock_them(
    action: list[str], candidates: bool, taken: list[str]
) -> None:
    assert main(["-q", "image", *action]) == 0
    assert taken == [folder.name for folder in all_images(candidates=candidates)]
    assert ("crewai" in taken) is candidates


@pytest.mark.parametrize("action", ["build", "verify", "lock"])
def test_an_image_that_is_named_may_be_a_candidates(action: str, taken: list[str]) -> None:
    assert main(["-q", "image", action, "crewai"]) == 0
    assert taken == ["crewai"]


def test_a_list_of_images_says_which_are_candidates(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASSAY_RUNNER_STATE", str(tmp_path))
    assert main(["image", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows if row["candidate"]] == CANDIDATES
    assert main(["image", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("  candidate")] == CANDIDATES
