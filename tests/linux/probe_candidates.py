"""What docs/runtimes.md says of each candidate, found again: its image alone takes minutes to build, so this
is no part of the tests; `nox -s probe_candidates` runs it.
"""

import json
import re
from pathlib import Path

import docker
import pytest

from harness.cli import main
from harness.gates.catalog import all_fixtures
from harness.host.state import State
from harness.plan import FIXTURES

pytestmark = [pytest.mark.linux, pytest.mark.timeout(3600)]

PAGE = FIXTURES.parent / "docs" / "runtimes.md"


def told_of(name: str) -> dict[str, bool]:
    """Requirement -> met, as the probe's output on the page has it."""
    (block,) = re.findall(
        rf"^```\n{name}: .*?^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return {row: word == "PASS" for word, row in re.findall(r"^  (PASS|FAIL) (.+)$", block, re.MULTILINE)}


@pytest.mark.parametrize("name", [one.name for one in all_fixtures() if one.file.candidate])
def test_a_candidate_is_what_the_page_says(
    name: str,
    engine: docker.DockerClient,
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ASSAY_RUNNER_STATE", str(state.root))
    assert main(["probe", name, "--json", "-o", str(tmp_path)]) == 1
    (report,) = json.loads(capsys.readouterr().out)
    assert report["image_locked"]
    assert {row["requirement"]: row["passed"] for row in report["rows"]} == told_of(name)
