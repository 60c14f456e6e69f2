"""Every agent runtime behind the same contract: its gates, a policy that denies all, calls without an id."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.bench import Bench
from harness.bundle.reader import read_archive
from harness.cli import main
from harness.engine.locked_images import image_for_run
from harness.errors import EvidenceError
from harness.evidence.model import Role
from harness.gates.acceptance import failures
from harness.gates.catalog import all_runtimes, find_fixture
from harness.plan import FIXTURES, Plan, plan_fixture, plan_image
from harness.run import Measured, measure
from harness.spec import Fixture

pytestmark = pytest.mark.linux

RUNTIMES = [one.name for one in all_runtimes()]
TARGET = "/workspace/policy-input.txt"
SECRET = "nobody may read this"
ID_KEY = "dev.assay.runner/tool_call_id"
DENY_ALL = 'schema = "assay.runner.policy.v1"\ndefault = "deny"\n'


def copied(name: str, root: Path) -> Path:
    """A copy of a fixture that a test may change."""
    return Path(shutil.copytree(FIXTURES / name, root / name))


def planned(bench: Bench, fixture: Fixture) -> Plan:
    folder = fixture.folder.parent / fixture.file.image
    image = image_for_run(bench.client, folder, state=bench.state, progress=print, unlocked=True)
    return plan_fixture(fixture, image, run_id=fixture.file.gate.run_id if fixture.file.gate else None)


def run(bench: Bench, fixture: Fixture, archive: Path) -> Measured:
    measured = measure(bench, planned(bench, fixture))
    measured.write(archive)
    return measured


def member(archive: Path, name: str) -> Any:
    data = read_archive(archive).members[name]
    return json.loads(data) if name.endswith(".json") else [json.loads(line) for line in data.splitlines()]


def test_there_are_runtimes() -> None:
    ours = {"openai-agents", "openai-agents-python", "gemini-google-genai", "anthropic", "pydantic-ai"}
    assert ours <= set(RUNTIMES)


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_gate_is_passed(bench: Bench, tmp_path: Path, name: str) -> None:
    fixture, archive = find_fixture(name), tmp_path / "a.tar.gz"
    measured = run(bench, fixture, archive)
    measured.verdict()
    assert failures(archive, fixture) == []
    assert main(["diff", str(archive), str(archive)]) == 0
    if fixture.file.id_source == "local_model":  # which repeats what its tool gave it
        assert (FIXTURES / name / "inputs/policy-input.txt").read_text() in measured.output[Role.SUBJECT].text


@pytest.mark.parametrize("name", RUNTIMES)
def test_several_calls_are_told_apart(bench: Bench, tmp_path: Path, name: str) -> None:
    fixture, archive = find_fixture(f"{name}:multi-tool"), tmp_path / "a.tar.gz"
    measured = run(bench, fixture, archive)
    measured.verdict()
    assert failures(archive, fixture) == []
    assert main(["diff", str(archive), str(archive), "--allow-partial"]) == 0  # of v0: several calls
    assert fixture.file.gate is not None
    attribution = member(archive, "companion/attribution.json")
    assert attribution["ambiguous"] == []
    first, a, b, denied, missing = fixture.file.gate.tool_call_ids
    judged = {call["tool_call_id"]: (call["decision"], call["paths"]) for call in attribution["calls"]}
    files = ("policy-input.txt", "a.txt", "b.txt", "denied/secret.txt", "missing.txt")
    assert judged == {
        one: ("deny" if one == denied else "allow", [f"/workspace/{file}"])
        for one, file in zip(fixture.file.gate.tool_call_ids, files, strict=True)
    }
    exact = {
        call["tool_call_id"]: {x["path"] for x in call["evidence"] if x["match"] == "exact"}
        for call in attribution["calls"]
    }
    assert exact[first] == {TARGET}
    assert exact[a] == {"/workspace/a.txt"}
    assert exact[b] == {"/workspace/b.txt"}
    assert exact[missing] <= {"/workspace/missing.txt"}
    (call,) = (call for call in attribution["calls"] if call["tool_call_id"] == denied)
    assert call["evidence"] == []
    answer = measured.output[Role.SUBJECT].text
    assert SECRET not in answer
    if fixture.file.id_source == "local_model":
        assert "first of two" in answer
        assert "second of two" in answer


@pytest.mark.parametrize("name", RUNTIMES)
def test_what_is_denied_does_not_happen(bench: Bench, tmp_path: Path, name: str) -> None:
    folder, archive = copied(name, tmp_path), tmp_path / "a.tar.gz"
    (folder / "policy.toml").write_text(DENY_ALL)
    fixture = find_fixture(str(folder))
    measured = run(bench, fixture, archive)
    assert fixture.file.gate is not None
    assert not measured.observation.timed_out
    last = member(archive, "layers/sdk.ndjson")[-1]["event_type"]
    ended = (measured.observation.subject.exit_code, last)
    assert ended == (0, "run_finished"), measured.output[Role.SUBJECT].text
    decisions = [(x["tool_call_id"], x["decision"]) for x in member(archive, "layers/policy.ndjson")]
    assert decisions == [(one, "deny") for one in fixture.file.gate.tool_call_ids]
    assert member(archive, "capability-surface.json")["policy_decisions"] == ["deny:read_file"]
    for seen in (b"companion/kernel.ndjson", b"layers/kernel.ndjson", b"capability-surface.json"):
        assert TARGET.encode() not in read_archive(archive).members[seen.decode()]


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_call_without_an_id_is_denied_and_not_clean(bench: Bench, tmp_path: Path, name: str) -> None:
    folder, archive = copied(name, tmp_path), tmp_path / "a.tar.gz"
    for source in (*folder.glob("*.py"), *folder.glob("*.mjs")):
        source.write_text(source.read_text().replace(ID_KEY, "dev.assay.runner/nothing"))
    # A runtime that sends an id of its own accord, under its own key, is not believed here.
    policy = folder / "policy.toml"
    policy.write_text(f'accepted_id_keys = ["{ID_KEY}"]\n{policy.read_text()}')
    measured = run(bench, find_fixture(str(folder)), archive)
    with pytest.raises(EvidenceError) as unclean:  # what `run` exits with
        measured.verdict()
    assert unclean.value.exit_code == 3
    assert member(archive, "layers/policy.ndjson") == []  # v0 has no line for a call without an id
    report = member(archive, "correlation-report.json")
    assert report["status"] == "partial"
    assert report["bindings"] == []
    assert member(archive, "companion/accounting.json")["idless_calls"] >= 1
    assert TARGET.encode() not in read_archive(archive).members["companion/kernel.ndjson"]


def test_many_threads_do_not_change_what_is_read(bench: Bench) -> None:
    """A ninth malloc arena makes glibc read the list of CPUs: whether threads need one is a race."""
    code = (
        "import threading;gate=threading.Barrier(24);"
        "work=lambda:(gate.wait(),bytearray(1<<16),gate.wait());"
        "threads=[threading.Thread(target=work) for _ in range(24)];"
        "[t.start() for t in threads];[t.join() for t in threads]"
    )
    folder = FIXTURES / "kernel-only"
    image = image_for_run(bench.client, folder, state=bench.state, progress=print, unlocked=True)
    plan = plan_image(
        ("/usr/bin/python3.11", "-I", "-S", "-c", code),
        image,
        run_id=None,
        inputs=None,
        deadline_s=30,
    )
    measured = measure(bench, plan)
    measured.verdict()
    assert b"/cpu/online" not in measured.assembled.companion["companion/kernel.ndjson"]
