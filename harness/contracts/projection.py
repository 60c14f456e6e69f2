"""Declared names beside raw values in a drift row (contracts §6.3): never guessed, never instead."""

from enum import StrEnum
from typing import Annotated

from attrs import frozen

from harness.contracts.converter import Natural, Rule, constant, omittable
from harness.contracts.rules import OrderedSet, RuleError

PATH_SCHEMA = "assay.runner.path_projection.v0"
NETWORK_SCHEMA = "assay.runner.network_projection.v0"
NOT_APPLIED_SCHEMA = "assay.runner.projection_not_applied.v0"
TAXONOMY_SCHEMA = "assay.runner.runtime_noise_taxonomy.v0"
SAMPLE_LIMIT = 3
NON_CLAIMS = (
    "projection_no_raw_evidence_rewrite",
    "projection_no_semantic_workload_equivalence",
    "projection_no_policy_acceptability_verdict",
    "projection_unknowns_preserved",
    "projection_no_heuristic_noise_taxonomy",
)
ProjectionNonClaims = Annotated[
    tuple[str, ...], Rule("must be the fixed non-claims, in order", lambda value: value == NON_CLAIMS)
]


class PathClass(StrEnum):
    """The taxonomy's categories: a vocabulary, nothing is sorted into it by itself."""

    WORKLOAD_FIXTURE = "workload_fixture"
    RUNTIME_PACKAGE = "runtime_package"
    PROVIDER_SDK = "provider_sdk"
    LOADER = "loader"
    EXPERIMENT_HARNESS = "experiment_harness"
    CACHE = "cache"
    PROVIDER_API = "provider_api"
    DNS = "dns"
    TELEMETRY = "telemetry"
    PACKAGE_FETCH = "package_fetch"
    UNKNOWN = "unknown"


class ProjectionRule(StrEnum):
    PATH_ALIAS = "declared_path_alias"
    NETWORK_ALIAS = "declared_network_alias"
    NETWORK_CIDR = "declared_network_cidr_alias"


class ClaimLevel(StrEnum):
    RAW_OBSERVED = "raw_observed"
    PROJECTED_EQUIVALENT = "projected_equivalent"
    INCONCLUSIVE = "inconclusive"


class SideName(StrEnum):
    A = "a"
    B = "b"


class ProjectionSchema(StrEnum):
    PATH = PATH_SCHEMA
    NETWORK = NETWORK_SCHEMA
    NOT_APPLIED = NOT_APPLIED_SCHEMA


class ProjectionStatus(StrEnum):
    APPLIED = "applied"
    NOT_APPLIED = "not_applied"


class Relation(StrEnum):
    PATH = "declared_path"
    NETWORK = "declared_network"


@frozen(kw_only=True)
class Mapping:
    """One raw value of one side and the name that was declared for it."""

    side: SideName
    raw_value: str
    projected_value: str
    path_class: PathClass
    relation: Relation
    rule: ProjectionRule
    confidence: str = constant("declared")
    claim_level: str = constant("projected_equivalent")


@frozen(kw_only=True)
class UnmatchedSide:
    """Every raw value that no declaration hit, shared ones included; the first few as samples."""

    side: SideName
    count: Natural
    samples: tuple[str, ...]
    sample_limit: int = constant(SAMPLE_LIMIT)


@frozen(kw_only=True)
class UnmatchedSummary:
    a: UnmatchedSide
    b: UnmatchedSide


@frozen(kw_only=True)
class Projection:
    """The rows again with the declared names; not applied has the first three keys only."""

    schema: ProjectionSchema
    status: ProjectionStatus
    dimension: str
    claim_level: ClaimLevel | None = omittable()
    taxonomy_schema: str | None = omittable()
    only_in_a: OrderedSet | None = omittable()
    only_in_b: OrderedSet | None = omittable()
    in_both: OrderedSet | None = omittable()
    rules: tuple[ProjectionRule, ...] | None = omittable()
    mappings: tuple[Mapping, ...] | None = omittable()
    unmatched_summary: UnmatchedSummary | None = omittable()
    non_claims: ProjectionNonClaims | None = omittable()

    def validate(self) -> None:
        """RuleError when schema, status and the keys that are there do not fit each other."""
        applied = self.status is ProjectionStatus.APPLIED
        if applied == (self.schema is ProjectionSchema.NOT_APPLIED):
            raise RuleError("ProjectionStatusMismatch", "/schema", f"is {self.schema}, status {self.status}")
        for key in APPLIED_KEYS:
            if (getattr(self, key) is not None) != applied:
                expected = "must be there" if applied else "must be left out"
                raise RuleError("ProjectionKeys", f"/{key}", f"{expected} when {self.status}")


APPLIED_KEYS = (
    "claim_level",
    "taxonomy_schema",
    "only_in_a",
    "only_in_b",
    "in_both",
    "rules",
    "mappings",
    "unmatched_summary",
    "non_claims",
)
