"""The candidate table on the real engine and kernel: a runtime that passes, and one that makes up ids."""

import json
import re
import shutil
from pathlib import Path

import docker
import pytest
from jsonschema import Draft202012Validator

from harness.bundle.verify import verify
from harness.cli import main
from harness.gates.candidate import RUNS
from harness.host.state import State
from harness.plan import FIXTURES

pytestmark = pytest.mark.linux

SCHEMA = FIXTURES.parent / "schemas" / "assay.runner.probe.v1.schema.json"


def test_a_runtime_is_measured_row_by_row(
    state: State,
    engine: docker.DockerClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ASSAY_RUNNER_STATE", str(state.root))
    code = main(["probe", "vercel-ai", "--json", "-o", str(tmp_path)])
    (report,) = json.loads(capsys.readouterr().out)
    assert [row["requirement"] for row in report["rows"] if not row["passed"]] == []
    assert (code, report["passed"], report["image_locked"]) == (0, True, True)
    assert (report["sdk_name"], report["id_source"]) == ("ai", "local_model")
    written = json.loads((tmp_path / "vercel-ai" / "probe.json").read_bytes())
    Draft202012Validator(json.loads(SCHEMA.read_bytes())).validate(written)
    assert written == report
    assert tuple(report["runs"]) == RUNS
    assert all(verify(tmp_path / "vercel-ai" / archive).ok for archive in report["runs"].values())
    (identity,) = (row["findings"] for row in report["rows"] if row["requirement"] == "stable identity")
    said = [finding["text"] for finding in identity]
    assert "no id: the model gave null; denied missing_tool_call_id" in said
    assert "two identical calls at once: tc_runner_probe_001 and tc_runner_probe_002" in said


def test_an_id_that_the_sdk_made_up_and_that_is_sent_fails_with_both_values(
    state: State,
    engine: docker.DockerClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(FIXTURES / "pydantic-ai", tmp_path / "pydantic-ai"))
    agent = folder / "agent.py"
    check = 'script.checked(context.tool_call_id or "", args["path"])'
    assert check in agent.read_text()
    agent.write_text(agent.read_text().replace(check, "context.tool_call_id"))
    monkeypatch.setenv("ASSAY_RUNNER_STATE", str(state.root))
    assert main(["probe", str(folder), "--image-unlocked", "-o", str(tmp_path / "out")]) == 1
    said, failed = capsys.readouterr()
    made_up = r'FAIL no id: the model gave null, the policy layer has \["pyd_ai_[0-9a-f]+"\]: made up'
    assert re.search(made_up, said), said
    assert "FAIL no id: /workspace/policy-input.txt was touched by tools" in said
    assert "may not be a fixture: pydantic-ai" in failed
    assert said.splitlines()[-1].endswith("FAIL")
    assert "  FAIL locked dependencies" in said  # the image is not the one of its lock
