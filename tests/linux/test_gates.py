"""The main job: every gate on the real engine and kernel, and gates that must not pass."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from harness.bench import Bench
from harness.bundle.proof_pack import verify_pack
from harness.bundle.reader import read_archive
from harness.compare.capability import capability_diff, same_surface
from harness.compare.side import load_side
from harness.contracts.capability_diff import IDEMPOTENT_NOTE, DiffStatus
from harness.contracts.proof_pack import GateStatus
from harness.engine.locked_images import refresh_lock
from harness.errors import EvidenceError, RunNameTakenError
from harness.gates.catalog import all_gates, find_fixture, gate_name
from harness.gates.proof_pack import pack_gates, write_pack
from harness.gates.runner import run_gates
from harness.host.cgroup import Slice
from harness.host.state import State
from harness.plan import FIXTURES

pytestmark = pytest.mark.linux

ANTHROPIC_2_10_0 = "sha256:1b91b2b4aa2bab44db8712e8a9053454bcff6daa3e6f5f11d85dc38b37d0a2a3"
SPINE = ("kernel-only", "kernel-policy", "openai-agents-kernel-policy", "openai-agents-hidden-write")


@pytest.fixture
def fixtures(tmp_path: Path) -> Path:
    """A copy of the fixture folders that a test may change."""
    return Path(shutil.copytree(FIXTURES, tmp_path / "runner-fixtures"))


def test_every_gate_passes_three_times_with_equal_bytes(bench: Bench, tmp_path: Path) -> None:
    said: list[str] = []
    # test_runtimes.py runs the other runtimes' gates
    results = run_gates(bench, [find_fixture(name) for name in SPINE], runs=3, out=tmp_path, say=said.append)
    assert [line for line in said if not line.startswith("PASS: runner-spike ")] == []
    assert all(result.passed for result in results)
    assert [gate_name(fixture) for fixture in all_gates()][:4] == list(SPINE)
    assert said.count("PASS: runner-spike OpenAI Agents kernel+policy acceptance (matched_safe_read)") == 3
    summary = json.loads((tmp_path / "summary.json").read_bytes())
    assert summary["passed"] is True
    for result in results:
        for number in (1, 2, 3):
            run = tmp_path / result.gate / f"run-{number}"
            assert (run / f"runner-{result.gate}.tar.gz").is_file()
        one, other = (
            load_side(tmp_path / result.gate / run / f"runner-{result.gate}.tar.gz")
            for run in ("run-1", "run-2")
        )
        for head in (one, other):
            diff = capability_diff(one, head)
            assert same_surface(diff.surface)
            assert diff.binding_ids.same
            assert (IDEMPOTENT_NOTE in diff.notes) is (diff.status is DiffStatus.CLEAN)
    log = tmp_path / "openai-agents-kernel-policy" / "run-1" / "decision-log.ndjson"
    (event,) = [json.loads(line) for line in log.read_bytes().splitlines()]
    assert event["type"] == "assay.tool.decision"
    assert event["data"]["tool_call_id"] == "tc_runner_policy_001"
    write_pack(pack_gates(tmp_path), tmp_path / "pack.tar")
    proven = verify_pack(tmp_path / "pack.tar")
    assert proven.problems == ()
    assert proven.gates == tuple((name, GateStatus.PASSED) for name in SPINE)


def test_a_gate_waits_for_the_other_of_its_name_on_this_host(state: State, tmp_path: Path) -> None:
    """Run ids of gates are fixed, so that two jobs of one host want the same slice, whatever their state."""
    gate = find_fixture("kernel-only").file.gate
    assert gate is not None
    told: list[str] = []
    waiting = f"waiting for another run named {gate.run_id} on this host, 600 s at most"

    def tell(line: str) -> None:
        told.append(line)
        if line == waiting:
            other.remove()

    with Bench(state, tell) as bench:
        other = Slice.create(gate.run_id, driver=bench.engine["cgroup_driver"])
        (result,) = run_gates(bench, [find_fixture("kernel-only")], runs=1, out=tmp_path, say=print)
        assert result.passed
        assert told.count(waiting) == 1

        other = Slice.create(gate.run_id, driver=bench.engine["cgroup_driver"])
        with pytest.raises(RunNameTakenError, match="still there"):
            bench.claim(gate.run_id, timeout_s=0.1)
        os.close(other.descriptor)  # as when its maker is killed
        folder, slice_ = bench.claim(gate.run_id)
        assert told.count(waiting) == 1
        slice_.remove()
        folder.remove()


def test_only_the_kernel_layer_tells_the_hidden_write(bench: Bench, tmp_path: Path) -> None:
    names = ("openai-agents", "openai-agents-hidden-write")
    run_gates(bench, [find_fixture(name) for name in names], runs=1, out=tmp_path, say=print)
    safe, hidden = (
        read_archive(tmp_path / gate_name(fixture) / "run-1" / f"runner-{gate_name(fixture)}.tar.gz").members
        for fixture in map(find_fixture, names)
    )
    safe_id, hidden_id = (find_fixture(name).file.gate for name in names)
    assert safe_id is not None
    assert hidden_id is not None
    for member in ("layers/sdk.ndjson", "layers/policy.ndjson"):
        renamed = hidden[member].replace(hidden_id.run_id.encode(), safe_id.run_id.encode())
        assert renamed == safe[member]
    lines = [json.loads(line) for line in hidden["companion/kernel.ndjson"].splitlines()]
    wrote = [(x["role"], x["process"]) for x in lines if x["path"] == "/workspace/hidden-write-output.txt"]
    assert wrote == [("subject", "subject.0")]
    assert b"hidden-write-output" not in safe["companion/kernel.ndjson"]


def test_another_sdk_version_than_expected_fails_and_is_named(
    bench: Bench, fixtures: Path, tmp_path: Path
) -> None:
    spec = fixtures / "openai-agents" / "fixture.toml"
    spec.write_text(spec.read_text().replace('version = "0.20.0"', 'version = "0.19.0"'))
    said: list[str] = []
    (result,) = run_gates(
        bench, [find_fixture("openai-agents", fixtures)], runs=1, out=tmp_path / "out", say=said.append
    )
    assert not result.passed
    assert said[0].startswith("FAIL: ")
    assert 'sdk sdk_version: expected ["0.19.0"], found ["0.20.0"]' in said[1]


def test_another_sdk_in_the_image_fails_and_is_named(bench: Bench, fixtures: Path, tmp_path: Path) -> None:
    """The package lock moves on, the expectations do not: first the image's lock says so, then the gate."""
    folder, said = fixtures / "anthropic", list[str]()
    lock = folder / "requirements.lock"
    pinned = re.compile(r"^anthropic==.*(\n    --hash=.*)*", re.MULTILINE)
    text, replaced = pinned.subn(f"anthropic==2.10.0 --hash={ANTHROPIC_2_10_0}", lock.read_text())
    assert replaced == 1
    lock.write_text(text)
    fixture, out = find_fixture("anthropic", fixtures), tmp_path / "out"
    with pytest.raises(EvidenceError, match=r"requirements\.lock changed"):
        run_gates(bench, [fixture], runs=1, out=out, say=said.append)
    _, new = refresh_lock(folder, state=bench.state, progress=print)
    assert new.runtime["anthropic"] == "2.10.0"
    (result,) = run_gates(bench, [fixture], runs=1, out=out, say=said.append)
    assert not result.passed
    assert said[0].startswith("FAIL: ")
    assert '  sdk sdk_version: expected ["2.11.0"], found ["2.10.0"]' in said


def test_a_run_that_differs_fails_with_the_first_pointer(
    bench: Bench, fixtures: Path, tmp_path: Path
) -> None:
    agent = fixtures / "kernel-only" / "agent.py"
    agent.write_text(
        "import time\nopen(f'/workspace/{time.time_ns()}.txt', 'w').close()\n" + agent.read_text()
    )
    said: list[str] = []
    changed = [find_fixture("kernel-only", fixtures)]
    (result,) = run_gates(bench, changed, runs=2, out=tmp_path / "out", say=said.append, image_unlocked=True)
    assert not result.passed
    assert any(line.startswith("  surface filesystem_paths: expected ") for line in said)
    assert "FAIL: runner-spike kernel-only two-run determinism" in said
    assert any("differ in capability-surface.json at /filesystem_paths/0" in line for line in said)


def test_a_gate_that_is_not_met_is_exit_1(
    state: State, fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.cli import main

    spec = fixtures / "kernel-only" / "fixture.toml"
    spec.write_text(spec.read_text().replace("/usr/bin/env", "/usr/bin/other"))
    monkeypatch.setenv("ASSAY_RUNNER_STATE", str(state.root))
    arguments = ["gate", str(fixtures / "kernel-only"), "--runs", "1", "-o", str(tmp_path / "out")]
    assert main(arguments) == 1
