"""The drift report v0.2: two archives, seven dimensions, who is to blame for what (contracts §6.3)."""

from enum import StrEnum
from typing import Annotated

from attrs import frozen

from harness.contracts.converter import Natural, Rule, constant, nullable
from harness.contracts.fidelity import ClaimKind, Decision
from harness.contracts.projection import TAXONOMY_SCHEMA, PathClass, Projection
from harness.contracts.rules import Digest, OrderedSet, RunId

SCHEMA = "assay.runner.runtime_drift.v0.2"
PROVENANCE_SCHEMA = "assay.runner.drift_report_provenance.v0"
ANNOTATION_SCHEMA = "assay.coverage_aware_drift.annotation.v0"

TAXONOMY_NON_CLAIMS = (
    "taxonomy_no_heuristic_classification",
    "taxonomy_unknowns_preserved",
    "taxonomy_no_policy_verdict",
)
PROVENANCE_NON_CLAIMS = (
    "provenance_no_evidence_rewrite",
    "provenance_unknowns_preserved",
    "provenance_metadata_not_policy_verdict",
    "provenance_capture_commit_distinct_from_render_commit",
)
_FIXED = "must be the fixed non-claims, in order"
TaxonomyNonClaims = Annotated[tuple[str, ...], Rule(_FIXED, lambda value: value == TAXONOMY_NON_CLAIMS)]
ProvenanceNonClaims = Annotated[tuple[str, ...], Rule(_FIXED, lambda value: value == PROVENANCE_NON_CLAIMS)]


class DriftDimension(StrEnum):
    """In the order of the rows."""

    FILESYSTEM_PATHS = "filesystem_paths_touched"
    FILE_OPERATIONS = "kernel_file_operations"
    NETWORK = "network_endpoints"
    EXECS = "process_execs"
    SDK_EVENTS = "sdk_tool_events"
    MCP_TOOLS = "mcp_tool_surface"
    ORDER = "tool_invocation_order"


class Classification(StrEnum):
    TASK = "task-induced"
    PROVIDER = "provider-induced"
    RUNTIME = "runtime-induced"
    INCONCLUSIVE = "inconclusive"


class RenderKind(StrEnum):
    LIVE_CAPTURE = "live_capture"
    RE_RENDER = "re_render"
    SYNTHETIC_FIXTURE = "synthetic_fixture"
    UNSPECIFIED = "unspecified"


@frozen(kw_only=True)
class DriftArchive:
    """`runtime_label`: source of the first SDK event, null without one."""

    path: str
    run_id: RunId
    runtime_label: str | None = nullable()
    manifest_digest: Digest
    sdk_event_count: Natural


@frozen(kw_only=True)
class Taxonomy:
    schema: str = constant(TAXONOMY_SCHEMA)
    status: str = constant("vocabulary_only")
    categories: tuple[PathClass, ...]
    non_claims: TaxonomyNonClaims


@frozen(kw_only=True)
class RenderMetadata:
    """How this report came to be; as declared, null when unknown. `rendered_at` is RFC 3339."""

    kind: RenderKind
    rendered_at: str | None = nullable()
    comparator_commit: str | None = nullable()
    source_run_url: str | None = nullable()
    raw_captures_unchanged: bool | None = nullable()


@frozen(kw_only=True)
class KernelFacts:
    """Of the host of the captures; null when unknown or not the same for both."""

    os: str | None = nullable()
    release: str | None = nullable()
    arch: str | None = nullable()


@frozen(kw_only=True)
class Workflow:
    url: str | None = nullable()
    runner_label: str | None = nullable()


@frozen(kw_only=True)
class InputArchive:
    path: str
    run_id: RunId
    manifest_digest: Digest


@frozen(kw_only=True)
class Provenance:
    """`assay_version` is of the comparing program, `assay_commit` of the capturing one as declared."""

    schema: str = constant(PROVENANCE_SCHEMA)
    assay_version: str
    assay_commit: str | None = nullable()
    render_metadata: RenderMetadata
    runner_schema_versions: OrderedSet
    kernel: KernelFacts
    ebpf_object_digest: str | None = nullable()
    workflow: Workflow
    input_archives: tuple[InputArchive, ...]
    non_claims: ProvenanceNonClaims


@frozen(kw_only=True)
class DriftRow:
    """Raw values, sorted, each once; `source` names the artifact's field; `projection` is beside them."""

    dimension: DriftDimension
    source: str
    only_in_a: OrderedSet
    only_in_b: OrderedSet
    in_both: OrderedSet
    classification: Classification
    detail: str
    projection: Projection


@frozen(kw_only=True)
class DriftSummary:
    dimensions_checked: Natural
    task_induced: Natural
    provider_induced: Natural
    runtime_induced: Natural
    inconclusive: Natural


@frozen(kw_only=True)
class DriftReport:
    schema: str = constant(SCHEMA)
    archive_a: DriftArchive
    archive_b: DriftArchive
    taxonomy: Taxonomy
    provenance: Provenance
    rows: tuple[DriftRow, ...]
    summary: DriftSummary

    def validate(self) -> None:
        """RuleError of a row's projection whose keys do not fit each other."""
        for row in self.rows:
            row.projection.validate()


@frozen(kw_only=True)
class Annotation:
    """What may be claimed about one dimension of both archives, and by which rules."""

    dimension: DriftDimension
    kind: ClaimKind
    decision: Decision
    rules: OrderedSet


@frozen(kw_only=True)
class DriftAnnotation:
    """A side-car of a drift report; every dimension with every kind of claim."""

    schema: str = constant(ANNOTATION_SCHEMA)
    archive_a: DriftArchive
    archive_b: DriftArchive
    annotations: tuple[Annotation, ...]
