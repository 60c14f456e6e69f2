"""A gate session as its folder has it: two gates, three runs each, archives that hold."""

from pathlib import Path
from typing import Any

from attrs import evolve

from harness.bundle.writer import write_archive
from harness.contracts import companion, manifest
from harness.contracts.canonical import load_json, load_ndjson, ndjson, sha256_of, to_bytes
from harness.contracts.companion import RunSpecDocV1
from harness.contracts.converter import parse, unstructure
from harness.contracts.gate_summary import GateResultSummary, GateSummary, RunSummary
from harness.contracts.proof_pack import (
    CHECKSUMS,
    GATE_SOURCE,
    MANIFEST,
    GateSource,
    PathTree,
    ProofPack,
    Source,
    Workflow,
    pack_bytes,
)
from harness.contracts.run_event import RunFinished
from tests.unit.bundle.conftest import RUN_ID, companion_members, derive, document, v0_members

Files = dict[str, bytes]
SAFE, HIDDEN = "openai-agents-kernel-policy", "openai-agents-hidden-write"
FIXTURE = {SAFE: "openai-agents", HIDDEN: "openai-agents-hidden-write"}
IMAGE = "sha256:" + "1" * 64
COMMIT, TREE, OTHER_TREE = "a" * 40, "b" * 40, "c" * 40
TREES = {"bpf/capture.c": TREE, "harness/run.py": OTHER_TREE}


def source(**changes: Any) -> GateSource:
    whole = GateSource(
        source=Source(head_sha=COMMIT, ref="refs/heads/main"),
        workflow=Workflow(event="workflow_dispatch"),
        path_trees={path: PathTree(oid=oid) for path, oid in TREES.items()},
        ebpf={"bpf/capture.c": sha256_of(b"c")},
        finished_at="2026-01-02T03:04:05Z",
    )
    return evolve(whole, **changes)


def run_archive(place: Path, gate: str, number: int, *, less: bytes = b"") -> None:
    """One run; what varies between runs is what the contract lets vary."""
    extra = companion_members()
    runspec = parse(RunSpecDocV1, load_json(extra[companion.RUNSPEC], "runspec"))
    extra[companion.RUNSPEC] = document(evolve(runspec, fixture=FIXTURE[gate], image="image", image_id=IMAGE))
    elapsed = number + (100 if gate == HIDDEN else 0)
    v0 = v0_members()
    if less:  # a run in which nobody read this file
        members = {**v0, **extra}
        lines = members[companion.KERNEL].splitlines(keepends=True)
        members[companion.KERNEL] = b"".join(line for line in lines if less not in line)
        derive(members)
        extra = {name: members[name] for name in extra}
    finished = RunFinished(run_id=RUN_ID, exit_code=0, success=True, window_elapsed_ms=elapsed)
    started = load_ndjson(v0[manifest.EVENTS], "events")[0]
    v0[manifest.EVENTS] = ndjson([started, unstructure(finished)])
    place.parent.mkdir(parents=True, exist_ok=True)
    write_archive(place, v0, extra, RUN_ID)


def session(folder: Path, gates: tuple[str, ...] = (SAFE, HIDDEN), runs: int = 3) -> Path:
    for gate in gates:
        for number in range(1, runs + 1):
            place = folder / gate / f"run-{number}" / f"runner-{gate}.tar.gz"
            run_archive(place, gate, number)
            (place.parent / "decision-log.ndjson").write_bytes(b"{}\n")
        (folder / gate / "gate.log").write_text(log(gate, runs))
        (folder / gate / GATE_SOURCE).write_bytes(pack_bytes(source()))
    write_summary(folder, gates, runs)
    return folder


def log(gate: str, runs: int = 3) -> str:
    label = "PASS: runner-spike OpenAI Agents kernel+policy"
    scenario = "hidden_write" if gate == HIDDEN else "matched_safe_read"
    return f"{label} acceptance ({scenario})\n" * runs + f"{label} three-run determinism\n"


def write_summary(folder: Path, gates: tuple[str, ...], runs: int = 3, **changes: Any) -> None:
    results = tuple(
        evolve(
            GateResultSummary(
                gate=gate,
                fixture=FIXTURE[gate],
                tool_call_ids=(),
                paths=(),
                image_id=IMAGE,
                image_locked=True,
                passed=True,
                runs=tuple(
                    RunSummary(
                        archive=f"{gate}/run-{number}/runner-{gate}.tar.gz",
                        passed=True,
                        failures=(),
                        seconds=1.0,
                        phases_ms={},
                    )
                    for number in range(1, runs + 1)
                ),
                divergences=(),
                median_phases_ms={},
            ),
            **changes,
        )
        for gate in gates
    )
    summary = GateSummary(passed=all(one.passed for one in results), gates=results, runtimes=())
    (folder / "summary.json").write_bytes(to_bytes(unstructure(summary)) + b"\n")


def redo(files: Files) -> Files:
    """What a thorough forger does: every digest, size and list made to fit the files as they now are."""
    payload = {path: files[path] for path in sorted(files) if path.startswith("payload/")}
    claimed = load_json(files[MANIFEST], MANIFEST)
    roles = {one["path"]: one["role"] for one in claimed["proof_pack"]["subjects"]}
    claimed["proof_pack"]["subjects"] = [
        {"path": path, "bytes": len(data), "sha256": sha256_of(data), "role": roles.get(path, "payload")}
        for path, data in payload.items()
    ]
    claimed["payload_files"] = list(payload)
    for gate in claimed["gates"]:
        for one in gate["archives"]:
            if (data := payload.get(one["path"])) is not None:
                one |= {"bytes": len(data), "sha256": sha256_of(data)}
    return with_manifest(payload, claimed)


def with_manifest(payload: Files, claimed: dict[str, Any]) -> Files:
    """Write a manifest as a pack has it, with its own size and its line of checksums."""
    rest = sum(map(len, payload.values())) + sum(67 + len(path) for path in (MANIFEST, *payload))
    while True:
        manifest_bytes = pack_bytes(parse(ProofPack, claimed))
        if claimed["pack_size_bytes"] == rest + len(manifest_bytes):
            break
        claimed["pack_size_bytes"] = rest + len(manifest_bytes)
    lines = [(MANIFEST, manifest_bytes), *payload.items()]
    sums = "".join(f"{sha256_of(data)[7:]}  {path}\n" for path, data in lines).encode()
    return {MANIFEST: manifest_bytes, CHECKSUMS: sums, **payload}
