"""Which kinds of claim one run's health allows (contracts §2.10), as a table too (§2.12)."""

from enum import StrEnum
from types import MappingProxyType
from typing import Annotated

from attrs import frozen

from harness.contracts.converter import Rule, constant, omittable
from harness.contracts.health import SCHEMA as HEALTH_SCHEMA

SCHEMA = "assay.runner.fidelity_verdict.v0"
PARITY_SCHEMA = "assay.runner.claim_support_parity.v0"


class Decision(StrEnum):
    """From the most to the least permissive."""

    ALLOWED = "allowed"
    DEGRADED = "degraded"
    BLOCKED = "blocked"


def strictest(*decisions: Decision) -> Decision:
    return max(decisions, key=tuple(Decision).index)


class Verdict(StrEnum):
    CLEAN = "clean"
    CLIPPED = "clipped"
    CORRELATION_PARTIAL = "correlation_partial"
    NOT_APPLICABLE = "not_applicable"
    FAILED = "failed"


class ClaimKind(StrEnum):
    POSITIVE = "positive_existence"
    EXHAUSTIVE = "exhaustive_set"
    NEGATIVE = "bounded_negative"


class FidelityRule(StrEnum):
    """Why; in the order in which they are looked at."""

    SCHEMA_MUST_MATCH = "observation_health_schema_must_match_source_schema"
    RUN_ID_REQUIRED = "run_id_required_for_fidelity_verdict"
    DROPS_REQUIRE_PARTIAL = "ringbuf_drops_require_partial_kernel_layer"
    NON_LINUX_REQUIRES_ABSENT = "non_linux_platform_requires_absent_kernel_layer"
    FAILED_CORRELATION = "failed_cgroup_correlation_blocks_runner_measured_claims"
    NON_LINUX = "non_linux_platform_has_no_kernel_measurement_surface"
    KERNEL_ABSENT = "absent_kernel_layer_blocks_measured_kernel_effect_claims"
    DROPS = "ringbuf_drops_block_bounded_negative_claims"
    KERNEL_PARTIAL = "partial_kernel_layer_blocks_bounded_negative_claims"
    CORRELATION_PARTIAL = "partial_cgroup_correlation_blocks_per_binding_claims"
    CLEAN = "complete_kernel_layer_zero_drops_clean_cgroup_correlation"


@frozen(kw_only=True)
class ClaimGate:
    reported_claims: Decision
    measured_positive_claims: Decision
    bounded_negative_claims: Decision
    per_binding_claims: Decision


_A, _D, _B = Decision
# Reported, measured positive, bounded negative, per binding.
GATES = MappingProxyType(
    {
        verdict: ClaimGate(
            reported_claims=reported,
            measured_positive_claims=positive,
            bounded_negative_claims=negative,
            per_binding_claims=binding,
        )
        for verdict, reported, positive, negative, binding in (
            (Verdict.CLEAN, _A, _A, _A, _A),
            (Verdict.CLIPPED, _A, _D, _B, _A),
            (Verdict.CORRELATION_PARTIAL, _A, _D, _B, _B),
            (Verdict.NOT_APPLICABLE, _A, _B, _B, _B),
            (Verdict.FAILED, _B, _B, _B, _B),
        )
    }
)
NON_CLAIMS = (
    "fidelity_no_observation_health_replacement",
    "fidelity_no_policy_correctness_verdict",
    "fidelity_no_runtime_safety_verdict",
    "fidelity_no_agent_quality_score",
    "fidelity_no_probabilistic_confidence_score",
)
FidelityNonClaims = Annotated[
    tuple[str, ...], Rule("must be the fixed non-claims, in order", lambda value: value == NON_CLAIMS)
]


@frozen(kw_only=True)
class FidelityReason:
    """`field` of the health document, what it held, and the rule that follows from it."""

    field: str
    observed: str
    rule: FidelityRule


@frozen(kw_only=True)
class FidelityVerdict:
    """run_id is the health's own, even when it is not a proper one (that is then a reason)."""

    schema: str = constant(SCHEMA)
    source_schema: str = constant(HEALTH_SCHEMA)
    run_id: str
    verdict: Verdict
    claim_gate: ClaimGate
    reasons: tuple[FidelityReason, ...]
    non_claims: FidelityNonClaims


PARITY_NON_CLAIMS = (
    "parity_no_observer_class_typing",
    "parity_no_blinding_cost_verdict",
    "parity_no_aggregate_claim_score",
    "parity_no_coverage_descriptor_replacement",
)
ParityNonClaims = Annotated[
    tuple[str, ...], Rule("must be the fixed non-claims, in order", lambda value: value == PARITY_NON_CLAIMS)
]


class ParityRule(StrEnum):
    POSITIVE = "fidelity_verdict_gates_measured_positive_claims"
    NEGATIVE = "fidelity_verdict_gates_bounded_negative_claims"
    EXHAUSTIVE = "fidelity_verdict_has_no_exhaustive_set_field_ask_coverage_descriptor"


class ParityScope(StrEnum):
    SHARED = "shared"
    HEALTH_ONLY = "health_input_only"


class SupportKind(StrEnum):
    DECIDED = "decided"
    NOT_MODELLED = "not_modelled"


@frozen(kw_only=True)
class Support:
    """`decision` is there just when it is decided."""

    support: SupportKind
    decision: Decision | None = omittable()


@frozen(kw_only=True)
class ParityRow:
    verdict: Verdict
    kind: ClaimKind
    support: Support
    scope: ParityScope
    rule: ParityRule


@frozen(kw_only=True)
class ClaimSupportParity:
    """Fifteen rows: every verdict with every kind of claim."""

    schema: str = constant(PARITY_SCHEMA)
    rows: tuple[ParityRow, ...]
    non_claims: ParityNonClaims


def _row(verdict: Verdict, kind: ClaimKind) -> ParityRow:
    gate = GATES[verdict]
    rule, decision = {
        ClaimKind.POSITIVE: (ParityRule.POSITIVE, gate.measured_positive_claims),
        ClaimKind.EXHAUSTIVE: (ParityRule.EXHAUSTIVE, None),
        ClaimKind.NEGATIVE: (ParityRule.NEGATIVE, gate.bounded_negative_claims),
    }[kind]
    health_only = verdict is Verdict.CORRELATION_PARTIAL
    return ParityRow(
        verdict=verdict,
        kind=kind,
        support=Support(
            support=SupportKind.NOT_MODELLED if decision is None else SupportKind.DECIDED, decision=decision
        ),
        scope=ParityScope.HEALTH_ONLY if health_only else ParityScope.SHARED,
        rule=rule,
    )


PARITY = ClaimSupportParity(
    rows=tuple(_row(verdict, kind) for verdict in Verdict for kind in ClaimKind), non_claims=PARITY_NON_CLAIMS
)
