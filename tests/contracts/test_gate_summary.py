"""What the gates write is what their schema says."""

import json
from pathlib import Path

from jsonschema import Draft202012Validator

from harness.contracts.canonical import load_json
from harness.contracts.converter import parse
from harness.contracts.gate_summary import GateSummary
from harness.gates.runner import GateResult, RunResult, _write_summary

ROOT = Path(__file__).parents[2]


def test_a_summary_as_written_is_valid(tmp_path: Path) -> None:
    run = RunResult(
        archive=tmp_path / "g" / "run-1" / "a.tar.gz", failures=("no",), seconds=1.5, phases={"run": 2.0}
    )
    result = GateResult(
        gate="g",
        fixture="f",
        image_id="sha256:" + "0" * 64,
        image_locked=True,
        runs=(run, run),
        divergences=("run 1 and run 2 differ",),
    )
    path = tmp_path / "summary.json"
    _write_summary(path, [result])
    document = load_json(path.read_bytes(), "summary")
    schema = json.loads((ROOT / "schemas" / "assay.runner.gate_summary.v1.schema.json").read_bytes())
    Draft202012Validator(schema).validate(document)
    assert parse(GateSummary, document).gates[0].runs[1].archive == "g/run-1/a.tar.gz"
