"""The workflow of the delegated lane: who may start it, where it runs, and what it leaves."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli import _parser
from harness.contracts.proof_pack import RETENTION_DAYS, UPLOAD

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".github" / "workflows" / "delegated-gates.yml"
LABEL = "assay-bpf-runner"


@pytest.fixture(scope="module")
def workflow() -> Any:
    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    document["on"] = document.pop(True)  # YAML 1.1 reads a bare `on` as true
    return document


def commands(job: Any) -> list[str]:
    """Every command line of the job that calls the program."""
    lines = (line.strip() for step in job["steps"] for line in step.get("run", "").splitlines())
    return [line for line in lines if "./enter" in line]


def test_only_a_person_starts_it(workflow: Any) -> None:
    """contracts §7.1; no trigger may hand the measuring host to a pull request, a push or a clock."""
    assert list(workflow["on"]) == ["workflow_dispatch"]
    assert list(workflow["on"]["workflow_dispatch"]["inputs"]) == ["gates"]
    assert workflow["on"]["workflow_dispatch"]["inputs"]["gates"]["default"] == "all"


def test_it_may_read_the_repository_and_nothing_else(workflow: Any) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())
    for job in workflow["jobs"].values():
        (checkout,) = [step for step in job["steps"] if "checkout" in step.get("uses", "")]
        assert checkout["with"]["persist-credentials"] is False
    assert "secrets." not in FILE.read_text(encoding="utf-8")


def test_one_run_at_a_time_on_the_host(workflow: Any) -> None:
    assert workflow["concurrency"] == {"group": "assay-bpf-runner-host", "cancel-in-progress": False}


def test_preparing_shares_no_machine_with_measuring(workflow: Any) -> None:
    prepare, gates = workflow["jobs"]["prepare"], workflow["jobs"]["gates"]
    assert set(workflow["jobs"]) == {"prepare", "gates"}
    assert LABEL in gates["runs-on"]
    assert LABEL not in prepare["runs-on"]
    assert "self-hosted" not in prepare["runs-on"]
    assert gates["needs"] == "prepare"
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    assert any("nox -s lint" in line for line in commands(prepare))
    assert any("image verify --all" in line for line in commands(prepare))
    assert not any(" gate " in line for line in commands(prepare))


def test_the_pack_is_made_verified_and_kept(workflow: Any) -> None:
    steps = workflow["jobs"]["gates"]["steps"]
    names = [step.get("name", "") for step in steps]
    order = [names.index(f"Gates: {name}") for name in ("run", "proof pack", "verify the proof pack")]
    assert order == sorted(order)
    upload = next(step for step in steps if "upload-artifact" in step.get("uses", ""))
    assert upload["with"]["path"] == UPLOAD
    assert upload["with"]["retention-days"] == RETENTION_DAYS
    assert upload["with"]["if-no-files-found"] == "error"
    for name in ("Gates: proof pack", "Gates: upload the proof pack", "Gates: stop the engine"):
        (step,) = [one for one in steps if one.get("name") == name]
        assert step["if"] == "${{ always() }}"  # a failed gate is told of too
    (run,) = [line for line in commands(workflow["jobs"]["gates"]) if " gate " in line]
    assert "--runs 3" in run


def test_inputs_reach_the_shell_as_values_only(workflow: Any) -> None:
    """An expression inside `run` would be pasted into the script before the shell reads it."""
    for job in workflow["jobs"].values():
        assert all("${{" not in step.get("run", "") for step in job["steps"])
    assert workflow["jobs"]["gates"]["env"] == {"GATES": "${{ inputs.gates }}"}


def test_every_command_it_calls_is_one(workflow: Any) -> None:
    sessions = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    called = [line for job in workflow["jobs"].values() for line in commands(job)]
    assert len(called) > 5
    for line in called:
        words = shlex.split(line.partition("./enter ")[2].replace('"$@"', "--all"))
        if words[0] == "nox":
            assert f"def {words[2]}(" in sessions, line
        else:
            assert words[0] == "assay-runner", line
            _parser().parse_args(words[1:])  # ends the test for what the program would refuse


def test_actions_are_named_by_version_and_no_host_is_written_out(workflow: Any) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert "://" not in text
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@(v[0-9]+|[0-9a-f]{40})", one) for one in used)
