"""Run gates: image, N runs, acceptance of each archive, byte determinism over all of them."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from attrs import Factory, evolve, frozen

from harness.bench import Bench
from harness.contracts.canonical import to_bytes
from harness.contracts.converter import unstructure
from harness.contracts.gate_summary import GateResultSummary, GateSummary, RunSummary
from harness.engine.locked_images import image_for_run
from harness.errors import AssayError, InputError
from harness.evidence.image import RunImage
from harness.gates.acceptance import failures
from harness.gates.catalog import gate_name
from harness.gates.determinism import divergences
from harness.gates.matrix import GateFacts, by_runtime, facts_of
from harness.gates.source import read_source, write_record
from harness.plan import plan_fixture
from harness.run import Measured, measure
from harness.spec import Fixture

Say = Callable[[str], None]
SUMMARY = "summary.json"
_WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}


@frozen
class RunResult:
    """One run of a gate; `failures` are empty when it was accepted."""

    archive: Path
    failures: tuple[str, ...]
    seconds: float
    phases: dict[str, float]


@frozen
class GateResult:
    """One gate; `divergences` are empty when all compared members had equal bytes. `facts` are of run 1."""

    gate: str
    fixture: str
    image_id: str
    image_locked: bool
    runs: tuple[RunResult, ...]
    divergences: tuple[str, ...]
    id_source: str = ""
    facts: GateFacts = Factory(GateFacts)

    @property
    def passed(self) -> bool:
        return bool(self.runs) and not self.divergences and not any(run.failures for run in self.runs)


def run_gates(
    bench: Bench,
    fixtures: Iterable[Fixture],
    *,
    runs: int,
    out: Path,
    say: Say,
    image_unlocked: bool = False,
) -> list[GateResult]:
    """Run each gate `runs` times into out/<gate>/run-<n>/ and write out/summary.json.

    Beside the runs lie gate.log, the lines that were said, and source.json, what the gate ran from.

    `say` gets the result lines of contracts §7.2. EvidenceError, and nothing is run, for an image that
    is not the one of its lock, unless `image_unlocked`.
    """
    if runs < 1:
        raise InputError("a gate needs at least one run", place="--runs", hint="give 3")
    gates = [(fixture, gate_name(fixture)) for fixture in fixtures]
    folders = [fixture.folder.parent / fixture.file.image for fixture, _ in gates]
    images = {
        folder: image_for_run(
            bench.client, folder, state=bench.state, progress=bench.progress, unlocked=image_unlocked
        )
        for folder in dict.fromkeys(folders)
    }
    results = []
    source = read_source()
    for (fixture, name), folder in zip(gates, folders, strict=True):
        log: list[str] = []
        result = _run_gate(bench, fixture, images[folder], runs, out / name, _both(say, log.append))
        write_record(out / name, source, log)
        results.append(result)
        (out / SUMMARY).write_bytes(to_bytes(unstructure(summary_of(results, out))) + b"\n")
    return results


def _run_gate(
    bench: Bench, fixture: Fixture, image: RunImage, runs: int, folder: Path, say: Say
) -> GateResult:
    gate = fixture.file.gate
    assert gate is not None, "catalog gives only fixtures with a gate"
    plan = plan_fixture(fixture, image, run_id=gate.run_id)
    if folder.exists():
        shutil.rmtree(folder)
    scenario = f" ({gate.scenario})" if gate.scenario else ""
    results: list[RunResult] = []
    for number in range(1, runs + 1):
        place = folder / f"run-{number}"
        place.mkdir(parents=True)
        archive = place / f"runner-{gate.name}.tar.gz"
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"assay-inputs-{number}-") as copy:
            # Varied on purpose: where the inputs lie, their order on disk, the host name.
            inputs = _copy_reversed(fixture.inputs, Path(copy) / f"inputs-{number}")
            measured = measure(bench, evolve(plan, inputs=inputs), hostname=f"assay-{number}")
            measured = measured.write(archive)
        if plan.tools is not None:
            (place / "decision-log.ndjson").write_bytes(measured.decision_log)
        wrong = (*_verdict(measured), *failures(archive, fixture))
        seconds = round(time.monotonic() - begun, 3)
        results.append(RunResult(archive, wrong, seconds, measured.phases))
        _say_result(say, f"{gate.label} acceptance{scenario}", wrong)
    different = divergences([run.archive for run in results]) if runs > 1 else []
    if runs > 1:
        _say_result(say, f"{gate.label} {_WORDS.get(runs, str(runs))}-run determinism", different)
    return GateResult(
        gate=gate.name,
        fixture=fixture.name,
        image_id=image.id,
        image_locked=image.locked,
        runs=tuple(results),
        divergences=tuple(different),
        id_source=fixture.file.id_source,
        facts=facts_of(results[0].archive),
    )


def _both(say: Say, also: Say) -> Say:
    def say_both(line: str) -> None:
        also(line)
        say(line)

    return say_both


def _verdict(measured: Measured) -> tuple[str, ...]:
    try:
        measured.verdict()
    except AssayError as error:
        return (str(error),)
    return ()


def _say_result(say: Say, label: str, wrong: Iterable[str]) -> None:
    lines = list(wrong)
    say(f"{'FAIL' if lines else 'PASS'}: runner-spike {label}")
    for line in lines:
        say(f"  {line}")


def _copy_reversed(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in sorted(source.rglob("*"), reverse=True):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return target


def summary_of(results: Sequence[GateResult], out: Path) -> GateSummary:
    """What summary.json says; archives are named relative to `out`."""
    gates = tuple(
        GateResultSummary(
            gate=result.gate,
            fixture=result.fixture,
            id_source=result.id_source or None,
            sdk_version=result.facts.sdk_version,
            tool_call_ids=result.facts.tool_call_ids,
            paths=result.facts.paths,
            image_id=result.image_id,
            image_locked=result.image_locked,
            passed=result.passed,
            runs=tuple(
                RunSummary(
                    archive=str(run.archive.relative_to(out)),
                    passed=not run.failures,
                    failures=run.failures,
                    seconds=run.seconds,
                    phases_ms=run.phases,
                )
                for run in result.runs
            ),
            divergences=result.divergences,
            median_phases_ms=median_phases([run.phases for run in result.runs]),
        )
        for result in results
    )
    passed = all(result.passed for result in results)
    return GateSummary(passed=passed, runtimes=by_runtime(gates), gates=gates)


def median_phases(runs: list[dict[str, float]]) -> dict[str, float]:
    """Median milliseconds of each phase over runs that went through the same phases."""
    return {
        phase: round(statistics.median(run[phase] for run in runs if phase in run), 1) for phase in runs[0]
    }
