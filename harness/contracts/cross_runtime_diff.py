"""The cross-runtime diff A1 + B3 + C1: two runtimes' surfaces side by side (contracts §6.2).

v0 is for the two runtimes it names. v1 has the same shape and takes any runtime's name.
"""

from enum import StrEnum
from typing import Annotated

from attrs import frozen

from harness.contracts.capability_diff import DiffStatus, SurfaceDiff, Unbound
from harness.contracts.converter import NonEmpty, Rule, constant
from harness.contracts.rules import RuleError, RunId

SCHEMA_V0 = "assay.runner.cross_runtime_diff.v0"
SCHEMA_V1 = "assay.runner.cross_runtime_diff.v1"
S5 = "s5_openai_agents"
GEMINI = "gemini_google_genai"
V0_RUNTIMES = (S5, GEMINI)

OUT_OF_SCOPE = "out_of_scope_cross_runtime_v0"
NON_CLAIMS = (
    "cross_runtime_no_acceptability_judgment",
    "cross_runtime_no_declared_capability_input",
    "cross_runtime_no_derived_binding_identity",
    "cross_runtime_no_filename_semantic_equivalence",
    "cross_runtime_no_sdk_capability_equivalence",
)
CrossRuntimeNonClaims = Annotated[
    tuple[str, ...], Rule("must be the fixed non-claims, in order", lambda value: value == NON_CLAIMS)
]

# The codes are the contract; the sentences after them are ours.
NOTES = (
    "cross_runtime_diff_binding_ids_out_of_scope: each runtime makes its own call ids: they are not compared",
    "cross_runtime_diff_sdk_metadata_side_band: SDK names and versions are provenance, no capability",
    "cross_runtime_diff_work_dir_prefix_canonicalized: each side's declared work folder stands as <work>/",
)
FAILED_NOTE = "cross_runtime_diff_failed"  # ours: a note of this code gives one reason


class CrossRuntimeSchema(StrEnum):
    V0 = SCHEMA_V0
    V1 = SCHEMA_V1


@frozen(kw_only=True)
class CrossRuntimePreconditions:
    base_health_clean: bool
    head_health_clean: bool
    base_correlation_clean: bool
    head_correlation_clean: bool
    stable_tool_call_ids_required: bool = constant(True)
    stable_tool_call_ids_present: bool
    runtimes_distinct: bool = constant(True)


@frozen(kw_only=True)
class CrossRuntimeScope:
    projection: str = constant("surface_set")
    uses_raw_telemetry: bool = constant(False)
    uses_proof_pack: bool = constant(False)
    per_binding_capability_values: bool = constant(False)
    cross_runtime: bool = constant(True)


@frozen(kw_only=True)
class Canonicalization:
    filesystem_paths: str = constant("work_dir_prefix_only")
    network_endpoints: str = constant("none")
    process_execs: str = constant("none")
    mcp_tools: str = constant("none")
    policy_decisions: str = constant("none")


@frozen(kw_only=True)
class NotCompared:
    comparison: str = constant(OUT_OF_SCOPE)


@frozen(kw_only=True)
class SdkVersion:
    """What the runtime said about itself."""

    sdk_name: NonEmpty
    sdk_version: NonEmpty


@frozen(kw_only=True)
class SdkMetadata:
    comparison: str = constant("side_band_provenance")
    base: SdkVersion
    head: SdkVersion


@frozen(kw_only=True)
class CrossRuntimeDiff:
    """`ambiguities` and `notes` as in the capability diff; the three fixed notes come first."""

    schema: CrossRuntimeSchema
    base_run_id: RunId
    head_run_id: RunId
    base_runtime: NonEmpty
    head_runtime: NonEmpty
    status: DiffStatus
    preconditions: CrossRuntimePreconditions
    scope: CrossRuntimeScope
    canonicalization: Canonicalization
    surface: SurfaceDiff
    binding_ids: NotCompared
    policy_outcomes: NotCompared
    sdk_metadata: SdkMetadata
    unbound: Unbound
    non_claims: CrossRuntimeNonClaims
    ambiguities: tuple[str, ...]
    notes: tuple[str, ...]

    def validate(self) -> None:
        """RuleError for equal runtimes, and in v0 for a runtime that it does not name."""
        if self.base_runtime == self.head_runtime:
            raise RuleError("RuntimesNotDistinct", "/head_runtime", f"both sides are {self.head_runtime}")
        if self.schema is CrossRuntimeSchema.V0:
            for key in ("base_runtime", "head_runtime"):
                if getattr(self, key) not in V0_RUNTIMES:
                    known = " and ".join(V0_RUNTIMES)
                    raise RuleError("UnknownRuntime", f"/{key}", f"v0 is for {known}")
