"""Ours: everything that one archive's evidence allows to be said, and what it does not, and why."""

from enum import StrEnum

from attrs import frozen

from harness.contracts.converter import constant, nullable
from harness.contracts.coverage import CoverageDescriptor, Dimension
from harness.contracts.fidelity import Decision, FidelityVerdict
from harness.contracts.rules import Digest, RunId

SCHEMA = "assay.runner.claims.v1"
DOES_NOT_VERIFY = "archive_does_not_verify"


class ClaimClass(StrEnum):
    """`reported` and `per_binding` have no dimension."""

    REPORTED = "reported"
    POSITIVE = "positive_existence"
    EXHAUSTIVE = "exhaustive_set"
    NEGATIVE = "bounded_negative"
    PER_BINDING = "per_binding"


@frozen(kw_only=True)
class Claim:
    """`rules` are stable names; the decision is the strictest of theirs."""

    dimension: Dimension | None = nullable()
    kind: ClaimClass
    decision: Decision
    rules: tuple[str, ...]
    reason: str


@frozen(kw_only=True)
class ClaimsReport:
    """`problems` are those of verification; with any of them every claim is blocked."""

    schema: str = constant(SCHEMA)
    archive: str
    run_id: RunId
    manifest_digest: Digest
    verified: bool
    problems: tuple[str, ...]
    fidelity: FidelityVerdict
    coverage: tuple[CoverageDescriptor, ...]
    claims: tuple[Claim, ...]
