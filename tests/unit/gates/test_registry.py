"""Fixtures of other repositories: found through an entry point, or named by their folder."""

import shutil
import sys
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.gates.catalog import all_fixtures, find_fixture, registered
from harness.plan import FIXTURES

POINTS = "[assay_runner.runtimes]\nteam = {value}\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with one fixture beside its code; gives its entry_points.txt."""
    code = tmp_path / "team_runtimes"
    shutil.copytree(FIXTURES / "kernel-only", code / "team-agent")
    spec = code / "team-agent" / "fixture.toml"
    spec.write_text(spec.read_text().replace("kernel-only", "team-agent"))
    (code / "__init__.py").write_text("from pathlib import Path\nFOLDER = Path(__file__).parent\n")
    metadata = tmp_path / "team_runtimes-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: team-runtimes\nVersion: 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "team_runtimes", raising=False)
    return metadata / "entry_points.txt"


@pytest.mark.parametrize("value", ["team_runtimes", "team_runtimes:FOLDER"])
def test_a_package_brings_its_fixtures(package: Path, value: str) -> None:
    package.write_text(POINTS.format(value=value))
    assert "team-agent" in [fixture.name for fixture in all_fixtures()]
    assert "kernel-only" in [fixture.name for fixture in all_fixtures()]
    assert find_fixture("team-agent").folder.name == "team-agent"


def test_a_folder_needs_no_registration(package: Path) -> None:
    folder = package.parent.parent / "team_runtimes" / "team-agent"
    assert find_fixture(str(folder)).name == "team-agent"


def test_a_broken_entry_point_is_named(package: Path) -> None:
    package.write_text(POINTS.format(value="team_runtimes:NOTHING"))
    with pytest.raises(InputError, match="entry point team = team_runtimes:NOTHING"):
        registered()
