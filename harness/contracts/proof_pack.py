"""The proof pack of a gate session, and where its gates say they ran from (contracts §7.4).

A pack proves that gates were run, on what, and what came of them; never that an agent is safe. It is
no part of the normalised evidence and no input of a comparison. Keys are written sorted.
"""

import json
from collections.abc import Mapping
from enum import StrEnum

from attrs import frozen

from harness.contracts.converter import Natural, constant, nullable, omittable, unstructure
from harness.contracts.rules import Digest, RunId

SCHEMA = "assay.runner.delegated_proof_pack.v1"
GATE_SOURCE_SCHEMA = "assay.runner.gate_source.v1"
EBPF_SCHEMA = "assay.runner.ebpf_provenance.v1"

UPLOAD = "assay-runner-proof-upload"  # the folder's name, unless another is asked for
MANIFEST = "manifest.json"
CHECKSUMS = "subject-checksums.txt"
PAYLOAD = "payload/"
GATES = "payload/gates/"
SUMMARY = "payload/gates/summary.json"
EBPF = "payload/build/assay-ebpf.provenance.json"
GATE_LOG = "gate.log"
GATE_SOURCE = "source.json"
DECISION_LOG = "decision-log.ndjson"
# Of each run, beside its archive and byte for byte as in it.
SELECTED = ("manifest.json", "observation-health.json", "capability-surface.json", "correlation-report.json")
ALL_GATES = "all"
RUNS = 3
SOFT_CAP_BYTES = 52428800
RETENTION_DAYS = 365


class Role(StrEnum):
    EBPF_PROVENANCE = "ebpf_build_provenance"
    ARCHIVE = "runner_archive"
    GATE_LOG = "gate_log"
    GATE_JSON = "gate_json"
    PAYLOAD = "payload"


class GateStatus(StrEnum):
    """missing: nothing of it is there; incomplete: less than three whole runs; skipped: never a pass."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    INCOMPLETE = "incomplete"
    MISSING = "missing"


@frozen(kw_only=True)
class PathTree:
    """What git has at one path: the object id, or why it names nothing that ran."""

    oid: str | None = nullable()
    error: str | None = nullable()


@frozen(kw_only=True)
class Source:
    """The commit and the dispatched workflow; null where the gates did not run in one."""

    repository: str | None = nullable()
    head_sha: str | None = nullable()
    ref: str | None = nullable()
    workflow_name: str | None = nullable()
    workflow_path: str | None = nullable()
    workflow_sha: str | None = nullable()
    run_id: str | None = nullable()
    run_attempt: str | None = nullable()
    run_url: str | None = nullable()


@frozen(kw_only=True)
class Workflow:
    """How the session was started: the event's name and the host's label, null outside of a workflow."""

    event: str | None = nullable()
    runner: str | None = nullable()


@frozen(kw_only=True)
class GateSource:
    """source.json beside a gate's log: what the gate ran from, read before its first run.

    ebpf         digest of each source of the kernel program, which is compiled anew in each run
    finished_at  RFC 3339, UTC
    """

    schema: str = constant(GATE_SOURCE_SCHEMA)
    source: Source
    workflow: Workflow
    path_trees: Mapping[str, PathTree]
    ebpf: Mapping[str, Digest]
    finished_at: str


@frozen(kw_only=True)
class EbpfProvenance:
    schema: str = constant(EBPF_SCHEMA)
    compiled: str = constant("on_the_host_in_each_run")
    sources: Mapping[str, Digest]


@frozen(kw_only=True)
class Subject:
    path: str
    bytes: Natural
    sha256: Digest
    role: Role


@frozen(kw_only=True)
class Subjects:
    schema: str = constant(SCHEMA)
    subjects: tuple[Subject, ...]


@frozen(kw_only=True)
class Inputs:
    """`gates`: "all", or the names that were asked for, joined by commas."""

    gates: str
    build_ebpf: bool = constant(True)


@frozen(kw_only=True)
class ContentProvenance:
    path_trees: Mapping[str, PathTree]
    source: str = constant("git")


@frozen(kw_only=True)
class VerificationModes:
    historical: str = constant("proof_pack_sufficient_for_recorded_run")
    current_state: str = constant("fresh_delegated_dispatch_required")


@frozen(kw_only=True)
class ExpectedSize:
    soft_cap_bytes: Natural = constant(SOFT_CAP_BYTES)
    action: str = constant("warn")


@frozen(kw_only=True)
class EvidenceBoundary:
    separate_from_normalized_runner_evidence: bool = constant(True)
    not_a_runner_emitted_artifact: bool = constant(True)


@frozen(kw_only=True)
class BuildProvenance:
    ebpf: EbpfProvenance


@frozen(kw_only=True)
class ArchiveProof:
    """One run; `identity` is the digest of its manifest.json, null when the archive does not verify."""

    run: Natural
    path: str
    bytes: Natural
    sha256: Digest
    run_id: RunId | None = nullable()
    identity: Digest | None = nullable()


@frozen(kw_only=True)
class GateProof:
    """One gate. `runs` counts different archives that verify; `normalized_evidence` gives the digest
    of each compared member, where it is the same in every run."""

    gate: str
    fixture: str | None = nullable()
    status: GateStatus
    runs: Natural
    archives: tuple[ArchiveProof, ...]
    selected_json: tuple[str, ...]
    normalized_evidence: Mapping[str, Digest]
    pass_lines: tuple[str, ...]
    gate_log: str | None = nullable()
    notes: tuple[str, ...] | None = omittable()


@frozen(kw_only=True)
class ProofPack:
    """manifest.json. `created_at`: when the last of the gates was finished, so that the same gates
    give the same bytes; `pack_size_bytes`: of every file of the pack, this one included."""

    schema: str = constant(SCHEMA)
    kind: str = constant("delegated_runner_proof_pack")
    claim_ceiling: str = constant("delegated_gate_execution_only_not_runtime_safety")
    proof_pack: Subjects
    created_at: str
    source: Source
    inputs: Inputs
    content_provenance: ContentProvenance
    workflow: Workflow
    verification_modes: VerificationModes
    retention_days: Natural = constant(RETENTION_DAYS)
    expected_size_policy: ExpectedSize
    evidence_boundary: EvidenceBoundary
    build_provenance: BuildProvenance
    gates: tuple[GateProof, ...]
    payload_files: tuple[str, ...]
    pack_size_bytes: Natural


def pack_bytes(model: ProofPack | GateSource | EbpfProvenance) -> bytes:
    """Indent 2, keys sorted, one newline at the end (contracts §7.4)."""
    return (json.dumps(unstructure(model), indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
