"""`drift` and `claims` as they are typed: what they print, and their exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from tests.unit.compare.conftest import HIDDEN, S5, Extract

DRIFT = ["drift", str(S5), str(HIDDEN)]


def test_json_is_the_report_alone(capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--format", "json", "--assay-commit", "c1", "--comparator-commit", "c2",
        "--rendered-at", "2026-01-01T00:00:00Z", "--render-kind", "live_capture", "--source-run-url", "u1",
        "--workflow-url", "u2", "--runner-label", "l", "--raw-captures-unchanged",
        "--path-alias", "/workspace/policy-input.txt=in", "--fixture-path", "/x", "--provider-host", "h",
        "--network-alias", "h:1=n", "--network-cidr", "10.0.0.0/8=n",
    ]  # fmt: skip
    assert main([*DRIFT, *options]) == 0
    out = capsys.readouterr().out
    document = json.loads(out)
    assert out == json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    assert document["schema"] == "assay.runner.runtime_drift.v0.2"
    said = document["provenance"]
    assert (said["assay_commit"], said["workflow"]) == ("c1", {"url": "u2", "runner_label": "l"})
    assert said["render_metadata"] == {
        "kind": "live_capture",
        "rendered_at": "2026-01-01T00:00:00Z",
        "comparator_commit": "c2",
        "source_run_url": "u1",
        "raw_captures_unchanged": True,
    }


def test_text_tells_each_dimension(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(DRIFT) == 0
    out = capsys.readouterr().out
    assert "runtime-induced   filesystem_paths_touched: 1 non-shared item(s)" in out
    assert "only in b: /workspace/hidden-write-output.txt" in out
    assert out.endswith("2 runtime-induced, 2 inconclusive\n")


def test_a_blocked_assertion_is_exit_1_after_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["--assert-claim", "positive:process_execs", "--assert-claim", "bounded_negative:process_execs"]
    assert main([*DRIFT, *wanted]) == 1
    told = capsys.readouterr()
    assert "7 dimensions" in told.out
    assert "bounded_negative:process_execs: the evidence does not bear this claim" in told.err
    assert main([*DRIFT, *wanted[:2]]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [*DRIFT, "--assert-claim", "nothing"],
        [*DRIFT, "--path-alias", "nothing"],
        [*DRIFT, "--coverage-annotation-out", "/no/such/folder/x.json"],
        ["drift", str(S5), "/no/such/archive"],
        ["claims", "/no/such/archive"],
    ],
)
def test_bad_usage_is_exit_2_and_prints_no_report(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert (told.out, "hint: " in told.err) == ("", True)


def test_the_annotation_is_written_beside_the_report(tmp_path: Path) -> None:
    path = tmp_path / "coverage.json"
    assert main([*DRIFT, "--coverage-annotation-out", str(path)]) == 0
    document = json.loads(path.read_bytes())
    assert document["schema"] == "assay.coverage_aware_drift.annotation.v0"
    assert len(document["annotations"]) == 21


def test_claims_are_told_for_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", str(S5)]) == 0
    assert "blocked  filesystem bounded_negative" in capsys.readouterr().out
    assert main(["claims", str(S5), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "assay.runner.claims.v1"


def test_claims_of_a_changed_archive_are_exit_4(extract: Extract, capsys: pytest.CaptureFixture[str]) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["layers/policy.ndjson"] = members["layers/policy.ndjson"].replace(b"allow", b"deny!")

    assert main(["claims", str(extract(S5, change))]) == 4
    assert "DOES NOT VERIFY" in capsys.readouterr().out


def test_an_archives_words_do_not_steer_the_terminal(
    extract: Extract, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(members: dict[str, bytes]) -> None:
        surface = members["capability-surface.json"]
        members["capability-surface.json"] = surface.replace(b"/workspace/openai", b"/\\u001b[2J/openai")

    folder = str(extract(S5, change))
    assert main(["drift", str(S5), folder]) == 0
    assert main(["claims", folder]) == 4
    assert "\x1b" not in capsys.readouterr().out


def test_comparing_imports_nothing_of_the_machine() -> None:
    code = (
        "import sys; from harness.cli import main; main(sys.argv[1:]); "
        "print([m for m in sys.modules if m.split('.')[0] in ('bcc', 'docker', 'pyroute2')])"
    )
    for arguments in (DRIFT, ["claims", str(S5)]):
        out = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={"PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert out.stdout.splitlines()[-1] == "[]"
