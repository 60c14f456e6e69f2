"""Measure a runtime for the candidate table: six runs in its image, then the verdict from their archives."""

import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

from attrs import evolve

from harness.bench import Bench
from harness.contracts.canonical import to_bytes
from harness.contracts.converter import unstructure
from harness.contracts.probe_report import ProbeReport
from harness.engine.image_lock import read_lock
from harness.engine.locked_images import image_for_run
from harness.errors import InputError
from harness.evidence.image import RunImage
from harness.evidence.model import Role
from harness.gates.candidate import IDENTICAL, MULTI, NO_ID, SINGLE, TARGET, Declared, Seen, judge, seen
from harness.gates.determinism import divergences
from harness.plan import plan_fixture
from harness.run import measure
from harness.spec import Fixture

REPORT, ARCHIVE = "probe.json", "runner-probe.tar.gz"
LOG = "decision-log.ndjson"
OUTPUT = "agent-output.txt"  # for people: why an agent refused a call is not in the archive
TASK = "probe-task.txt"
# A line is a turn of the model, a file that it names is a call (docs/guide/new-runtime.md).
IDENTICAL_TASK = f"Read {TARGET} and, at the same time, {TARGET} once more.\n"
NO_ID_TASK = f"Read the file {TARGET}.\n"
IDS = "tc_runner_probe_"


def probe(bench: Bench, fixture: Fixture, *, out: Path, image_unlocked: bool = False) -> ProbeReport:
    """Six runs below out/<fixture>/, and probe.json beside them. InputError as `ways`."""
    todo = ways(fixture)
    source = fixture.folder.parent / fixture.file.image
    image = image_for_run(
        bench.client, source, state=bench.state, progress=bench.progress, unlocked=image_unlocked
    )
    folder = out / fixture.name
    if folder.exists():
        shutil.rmtree(folder)
    # The same in all six, so that their bytes compare; another one in each probe, so that two can be at work.
    run_id = f"run_probe_{secrets.token_hex(8)}"
    runs = {}
    for name, (way, task) in todo.items():
        bench.progress(f"{fixture.name}: {name}")
        runs[name] = _run(bench, way, image, folder / name, task, run_id)
    different = divergences([folder / name / ARCHIVE for name in SINGLE])
    report = _report(fixture, image, runs, tuple(different))
    (folder / REPORT).write_bytes(to_bytes(unstructure(report)) + b"\n")
    return report


def ways(fixture: Fixture) -> dict[str, tuple[Fixture, str]]:
    """Name of the run -> the fixture as it is run, and the probe's task if it brings one; InputError for
    a fixture that cannot be asked: without SDK, policy, or a scenario `multi-tool`."""
    if not {"policy", "sdk"} <= set(fixture.file.witnesses):
        raise InputError(
            "has no SDK or no policy witness: there is no identity to look at",
            place=fixture.name,
            hint="probe a runtime: a fixture with the witnesses policy and sdk",
        )
    multi = next((one for one in fixture.scenarios if one.scenario == MULTI), None)
    if multi is None or fixture.file.gate is None:
        raise InputError(
            f"has no gate, or no scenario {MULTI!r}",
            place=fixture.name,
            hint="docs/guide/new-runtime.md says what a probe asks of a fixture",
        )
    tasks = (
        (IDENTICAL, IDENTICAL_TASK, IDS, fixture.file.probe.identical_calls),
        (NO_ID, NO_ID_TASK, "", fixture.file.probe.no_id),
    )
    found = dict.fromkeys(SINGLE, (fixture, "")) | {MULTI: (multi, "")}
    for name, task, ids, env in tasks:
        given = {"ASSAY_RUNNER_TASK": f"/workspace/{TASK}", "ASSAY_RUNNER_CALL_IDS": ids}
        subject = evolve(fixture.file.subject, env=fixture.file.subject.env | given | env)
        found[name] = (evolve(fixture, file=evolve(fixture.file, subject=subject)), task)
    return found


def _run(bench: Bench, fixture: Fixture, image: RunImage, folder: Path, task: str, run_id: str) -> Seen:
    folder.mkdir(parents=True)
    archive = folder / ARCHIVE
    with tempfile.TemporaryDirectory(prefix="assay-probe-") as scratch:
        inputs = Path(shutil.copytree(fixture.inputs, Path(scratch) / "inputs"))
        if task:
            (inputs / TASK).write_text(task, encoding="utf-8")
        plan = plan_fixture(fixture, image, run_id=run_id)
        measured = measure(bench, evolve(plan, inputs=inputs))
    measured = measured.write(archive)
    (folder / LOG).write_bytes(measured.decision_log)
    output = measured.output[Role.SUBJECT]
    (folder / OUTPUT).write_bytes(output.stdout + output.stderr)
    return seen(archive, measured.decision_log)


def _report(
    fixture: Fixture, image: RunImage, runs: dict[str, Seen], different: tuple[str, ...]
) -> ProbeReport:
    lock = read_lock(fixture.folder.parent / fixture.file.image)
    multi = next(one.gate for one in fixture.file.scenario if one.name == MULTI)
    declared = Declared(
        id_source=fixture.file.id_source,
        network=fixture.file.network,
        volatile=fixture.file.volatile,
        multi_ids=multi.tool_call_ids,
        image_id=lock.id if lock else None,
        locked=lock.runtime if lock else {},
        divergences=different,
    )
    rows = judge(runs, declared)
    first: dict[str, Any] = next(iter(runs[SINGLE[0]]["layers/sdk.ndjson"]), {})
    return ProbeReport(
        runtime=fixture.name,
        sdk_name=first.get("sdk_name"),
        sdk_version=first.get("sdk_version"),
        id_source=fixture.file.id_source,
        image_id=image.id,
        image_locked=image.locked,
        passed=all(row.passed for row in rows),
        rows=rows,
        runs={name: f"{name}/{ARCHIVE}" for name in runs},
    )
