"""What the files of one gate prove: recomputed from them alone, for the maker and the verifier alike.

Three different runs whose archives all hold and are clean, equal compared bytes, and a log and a result
that say so. Whatever is missing or contradicts it is a reason, and the worst reason is the status.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from harness.bundle.problem import Problem
from harness.bundle.reader import Archive, read_archive
from harness.bundle.verify import verify
from harness.contracts import manifest
from harness.contracts.canonical import load_json, sha256_of
from harness.contracts.companion import ACCOUNTING, RUNSPEC
from harness.contracts.compared import compared
from harness.contracts.converter import ContractError, parse
from harness.contracts.gate_summary import GateResultSummary, GateSummary
from harness.contracts.proof_pack import (
    GATE_LOG,
    GATE_SOURCE,
    GATES,
    RUNS,
    SELECTED,
    SUMMARY,
    ArchiveProof,
    GateProof,
    GateSource,
    GateStatus,
)

_RUN = re.compile(r"run-([1-9][0-9]{0,3})/")
_ACCEPTED = re.compile(r"PASS: runner-spike (?P<label>.+) acceptance( \(.+\))?")
_DETERMINED = re.compile(r"PASS: runner-spike (?P<label>.+) [a-z0-9]+-run determinism")
_WORST = (GateStatus.MISSING, GateStatus.FAILED, GateStatus.SKIPPED, GateStatus.INCOMPLETE)
_EXCERPT = 40  # bytes shown of each side
_CLEAN = {"kernel_layer": "complete", "ringbuf_drops": 0, "cgroup_correlation": "clean"}


@frozen
class Reason:
    """Why a gate is not passed, and what it is instead."""

    status: GateStatus
    problem: Problem


@frozen
class Judged:
    proof: GateProof
    reasons: tuple[Reason, ...]


@frozen
class _Run:
    """One archive of the pack; `archive` is None when it does not verify."""

    number: int
    path: str
    data: bytes
    archive: Archive | None
    problems: tuple[Problem, ...]

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    def documents(self, member: str) -> dict[str, Any]:
        """A member of a verified archive; empty when it is not there."""
        assert self.archive is not None
        data = self.archive.members.get(member)
        return load_json(data, member) if data is not None else {}


def judge(gate: str, payload: Mapping[str, bytes]) -> Judged:
    """The gate as the payload bears it out; `payload` by path in the pack."""
    base = f"{GATES}{gate}/"
    files = {path: data for path, data in payload.items() if path.startswith(base)}
    runs = _runs(gate, base, files)
    good = [run for run in runs if run.archive is not None]
    result = _result(gate, payload)
    log = files.get(base + GATE_LOG, b"").decode("utf-8", "replace").splitlines()
    different = len({sha256_of(run.data) for run in good})
    normalized, differing = _compared(good)
    reasons = [
        *_absent(base, files, result),
        *_run_reasons(base, runs, different),
        *(Reason(GateStatus.FAILED, problem) for problem in differing),
        *_identity_reasons(good, result),
        *(reason for run in good for reason in _selected_reasons(run, files)),
        *_log_reasons(base + GATE_LOG, log, len(runs)),
    ]
    if not files:
        reasons = [Reason(GateStatus.MISSING, Problem("ProofGateMissing", base, "", "files of it", "none"))]
    held = {reason.status for reason in reasons}
    proof = GateProof(
        gate=gate,
        fixture=result.fixture if result else None,
        status=next((status for status in _WORST if status in held), GateStatus.PASSED),
        runs=different,
        archives=tuple(map(_archive_proof, runs)),
        selected_json=tuple(sorted(path for path in files if path.rpartition("/")[2] in SELECTED)),
        normalized_evidence=normalized,
        pass_lines=tuple(line for line in log if line.startswith("PASS: ")),
        gate_log=base + GATE_LOG if base + GATE_LOG in files else None,
        notes=tuple(f"{r.problem.code} {r.problem.where}: {r.problem.text}" for r in reasons) or None,
    )
    return Judged(proof, tuple(reasons))


def summary_of(payload: Mapping[str, bytes]) -> GateSummary | None:
    """The session's own summary, if it is one."""
    try:
        return parse(GateSummary, load_json(payload.get(SUMMARY, b""), SUMMARY))
    except ContractError:
        return None


def source_of(gate: str, payload: Mapping[str, bytes]) -> GateSource | None:
    """What the gate says it ran from, if it says so."""
    place = f"{GATES}{gate}/{GATE_SOURCE}"
    try:
        return parse(GateSource, load_json(payload.get(place, b""), place))
    except ContractError:
        return None


def selected_of(archive: Archive) -> dict[str, bytes]:
    """File name -> bytes of the JSON that lies beside an archive in the pack."""
    return {name: archive.members[name] for name in SELECTED}


def _runs(gate: str, base: str, files: Mapping[str, bytes]) -> list[_Run]:
    found = []
    for path, data in files.items():
        match = _RUN.match(path, len(base))
        if match and path == f"{base}{match[0]}runner-{gate}.tar.gz":
            found.append(_read(int(match[1]), path, data))
    return sorted(found, key=lambda run: run.number)


def _read(number: int, path: str, data: bytes) -> _Run:
    with tempfile.TemporaryDirectory(prefix="assay-proof-") as folder:
        place = Path(folder) / "archive.tar.gz"
        place.write_bytes(data)
        found = verify(place)
        problems = tuple(_of_pack(problem, str(place), path) for problem in found.problems)
        return _Run(number, path, data, read_archive(place) if found.ok else None, problems)


def _of_pack(problem: Problem, looked_at: str, path: str) -> Problem:
    """A pack names its own files, never the place where one was looked at."""
    place = problem.place.replace(looked_at, "").removeprefix(": ")
    member = f"{path}: {problem.member}" if problem.member else path
    return evolve(problem, member=member, place=place, actual=problem.actual.replace(looked_at, path))


def _archive_proof(run: _Run) -> ArchiveProof:
    return ArchiveProof(
        run=run.number,
        path=run.path,
        bytes=len(run.data),
        sha256=sha256_of(run.data),
        run_id=run.archive.run_id if run.archive else None,
        identity=run.archive.identity if run.archive else None,
    )


def _result(gate: str, payload: Mapping[str, bytes]) -> GateResultSummary | None:
    summary = summary_of(payload)
    return next((one for one in summary.gates if one.gate == gate), None) if summary else None


def _absent(base: str, files: Mapping[str, bytes], result: GateResultSummary | None) -> Iterator[Reason]:
    for name in (GATE_LOG, GATE_SOURCE):
        if base + name not in files:
            problem = Problem("ContractMissingFile", base + name, "", "this file", "none")
            yield Reason(GateStatus.INCOMPLETE, problem)
    if result is None:
        problem = Problem("ProofResultMissing", SUMMARY, "/gates", f"a result for {base}", "none")
        yield Reason(GateStatus.INCOMPLETE, problem)
        return
    for number, run in enumerate(result.runs):
        for text in run.failures:
            problem = Problem(
                "ProofRunFailed", SUMMARY, f"{result.gate} /runs/{number}", "no failure", repr(text)
            )
            yield Reason(GateStatus.FAILED, problem)
    if not result.passed or result.divergences:
        problem = Problem("ProofRunFailed", SUMMARY, f"{result.gate} /passed", "true", str(result.passed))
        yield Reason(GateStatus.FAILED, problem)


def _run_reasons(base: str, runs: list[_Run], different: int) -> Iterator[Reason]:
    for run in runs:
        for problem in run.problems:
            yield Reason(GateStatus.FAILED, problem)
    seen: dict[bytes, str] = {}
    for run in runs:
        first = seen.setdefault(run.data, run.path)
        if first != run.path:
            problem = Problem("ProofRunRepeated", run.path, "", "an archive of its own", f"that of {first}")
            yield Reason(GateStatus.INCOMPLETE, problem)
    numbers = [run.number for run in runs]
    if numbers != list(range(1, len(numbers) + 1)):
        problem = Problem("ProofRunMissing", base, "run numbers", f"1 to {len(numbers)}", str(numbers))
        yield Reason(GateStatus.INCOMPLETE, problem)
    if different < RUNS:
        problem = Problem("ProofRunMissing", base, "runs", f"{RUNS} or more", str(different))
        yield Reason(GateStatus.INCOMPLETE, problem)


def _compared(runs: list[_Run]) -> tuple[dict[str, str], list[Problem]]:
    """Digest of each member that is the same in every run, and the first byte where one is not."""
    same, problems = {}, []
    held = [run.archive.members for run in runs if run.archive is not None]
    for member in compared(*held):
        versions = [(run.path, run.archive.members.get(member)) for run in runs if run.archive is not None]
        for path, data in versions:
            first = versions[0][1]
            if data is None or first is None:
                problems.append(Problem("ContractMissingFile", path, member, "this member", "none"))
            elif data != first:
                at = next((i for i, (a, b) in enumerate(zip(first, data, strict=False)) if a != b), -1)
                at = at if at >= 0 else min(len(first), len(data))
                left, right = (repr(text[at : at + _EXCERPT])[1:] for text in (first, data))
                problems.append(Problem("ProofRunDiffers", path, f"{member} at byte {at}", left, right))
        datas = {data for _, data in versions}
        if len(versions) >= RUNS and len(datas) == 1 and (data := datas.pop()) is not None:
            same[member] = sha256_of(data)
    return same, problems


def _identity_reasons(runs: list[_Run], result: GateResultSummary | None) -> Iterator[Reason]:
    """Each archive is of this gate's fixture, image and run id, and is clean."""
    for run in runs:
        runspec, health = run.documents(RUNSPEC), run.documents(manifest.HEALTH)
        wanted = {"run_id": runs[0].documents(RUNSPEC).get("run_id")}
        if result is not None:
            wanted |= {"fixture": result.fixture, "image_id": result.image_id}
        for key, value in wanted.items():
            if runspec.get(key) != value:
                place = f"{RUNSPEC} at /{key}"
                problem = Problem("ProofWrongRun", run.path, place, repr(value), repr(runspec.get(key)))
                yield Reason(GateStatus.FAILED, problem)
        facts = [(manifest.HEALTH, key, value, health.get(key)) for key, value in _CLEAN.items()]
        facts.append((ACCOUNTING, "clean", True, run.documents(ACCOUNTING).get("clean")))
        for member, key, clean, actual in facts:
            if actual != clean:
                place = f"{member} at /{key}"
                problem = Problem("ProofEvidenceUnclean", run.path, place, repr(clean), repr(actual))
                yield Reason(GateStatus.FAILED, problem)


def _selected_reasons(run: _Run, files: Mapping[str, bytes]) -> Iterator[Reason]:
    assert run.archive is not None
    for name, data in selected_of(run.archive).items():
        path = f"{run.folder}/{name}"
        beside = files.get(path)
        if beside != data:
            actual = "none" if beside is None else sha256_of(beside)
            problem = Problem("ProofSelectedJson", path, "", sha256_of(data), actual)
            yield Reason(GateStatus.FAILED, problem)


def _log_reasons(place: str, log: list[str], runs: int) -> Iterator[Reason]:
    for number, line in enumerate(log, start=1):
        for word, status in (("FAIL: ", GateStatus.FAILED), ("SKIP: ", GateStatus.SKIPPED)):
            if line.startswith(word):
                yield Reason(status, Problem("ProofPassLine", place, f"line {number}", "PASS: …", repr(line)))
    accepted = [line for line in log if _ACCEPTED.fullmatch(line)]
    determined = [line for line in log if _DETERMINED.fullmatch(line)]
    labels = {m["label"] for line in log if (m := _ACCEPTED.fullmatch(line) or _DETERMINED.fullmatch(line))}
    for what, wanted, actual in (
        ("acceptance lines", runs, len(accepted)),
        ("determinism lines", 1, len(determined)),
        ("labels", 1, len(labels)),
    ):
        if actual != wanted:
            problem = Problem("ProofPassLine", place, what, str(wanted), str(actual))
            yield Reason(GateStatus.INCOMPLETE, problem)
