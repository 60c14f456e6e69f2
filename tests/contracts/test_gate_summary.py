"""What the gates write is what their schema says."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.converter import parse, unstructure
from harness.contracts.gate_summary import GateSummary
from harness.gates.matrix import GateFacts
from harness.gates.runner import GateResult, RunResult, summary_of
from harness.present.gates import as_matrix

ROOT = Path(__file__).parents[2]


def result(tmp_path: Path, fixture: str, *, passed: bool, **facts: Any) -> GateResult:
    failures = () if passed else ("no",)
    archive = tmp_path / "g" / "run-1" / "a.tar.gz"
    run = RunResult(archive=archive, failures=failures, seconds=1.5, phases={"run": 2.0})
    return GateResult(
        gate="g",
        fixture=fixture,
        image_id="sha256:" + "0" * 64,
        image_locked=True,
        runs=(run, run),
        divergences=("run 1 and run 2 differ",) if not passed else (),
        id_source="local_model" if facts else "",
        facts=GateFacts(**facts),
    )


def test_a_summary_as_written_is_valid(tmp_path: Path) -> None:
    written = unstructure(summary_of([result(tmp_path, "f", passed=False)], tmp_path))
    document = load_json(to_bytes(written), "summary")
    schema = json.loads((ROOT / "schemas" / "assay.runner.gate_summary.v1.schema.json").read_bytes())
    Draft202012Validator(schema).validate(document)
    assert parse(GateSummary, document).gates[0].runs[1].archive == "g/run-1/a.tar.gz"


def test_all_gates_of_a_runtime_are_one_line(tmp_path: Path) -> None:
    results = [
        result(tmp_path, "kernel-only", passed=True),
        result(tmp_path, "sdk", passed=True, sdk_version="1.2", tool_call_ids=("a",), paths=("/x", "/y")),
        result(
            tmp_path, "sdk:more", passed=False, sdk_version="1.2", tool_call_ids=("b", "c"), paths=("/x",)
        ),
    ]
    assert as_matrix(summary_of(results, tmp_path)).splitlines() == [
        "runtime      SDK version  id source    calls  paths  wall time  verdict",
        "kernel-only  -            -                0      0      3.0 s  pass",
        "sdk          1.2          local_model      3      2      6.0 s  FAIL",
    ]
