"""From a run's health to what may be claimed of it (contracts §2.10)."""

from attrs import evolve

from harness.contracts.fidelity import (
    GATES,
    NON_CLAIMS,
    Decision,
    FidelityReason,
    FidelityRule,
    FidelityVerdict,
    Verdict,
)
from harness.contracts.health import LINUX, SCHEMA, Correlation, KernelLayer, ObservationHealth
from harness.contracts.projection import ClaimLevel


def fidelity_verdict(health: ObservationHealth) -> FidelityVerdict:
    """Total: health that breaks its own contract is the verdict `failed`, with the rule it breaks."""
    invalid = _invalid(health)
    verdict, reasons = (Verdict.FAILED, [invalid]) if invalid else _classify(health)
    gate = GATES[verdict]
    if health.cgroup_correlation is Correlation.PARTIAL and verdict is not Verdict.FAILED:
        gate = evolve(gate, per_binding_claims=Decision.BLOCKED)
        reasons.append(
            _reason("cgroup_correlation", health.cgroup_correlation, FidelityRule.CORRELATION_PARTIAL)
        )
    if verdict is Verdict.CLEAN:
        reasons.append(_reason("observation_health", "clean", FidelityRule.CLEAN))
    return FidelityVerdict(
        run_id=health.run_id, verdict=verdict, claim_gate=gate, reasons=tuple(reasons), non_claims=NON_CLAIMS
    )


def projection_claim(verdict: FidelityVerdict, level: str) -> Decision:
    """What may be claimed of a projected value of this level; an unknown level is blocked."""
    if verdict.verdict is Verdict.FAILED:
        return Decision.BLOCKED
    if level in (ClaimLevel.RAW_OBSERVED, ClaimLevel.PROJECTED_EQUIVALENT):
        return verdict.claim_gate.measured_positive_claims
    return Decision.ALLOWED if level == ClaimLevel.INCONCLUSIVE else Decision.BLOCKED


def _invalid(health: ObservationHealth) -> FidelityReason | None:
    """The first rule that makes the document itself worthless, in the order of contracts §2.1."""
    absent = health.kernel_layer is KernelLayer.ABSENT
    drops_elsewhere = health.ringbuf_drops > 0 and health.kernel_layer is not KernelLayer.PARTIAL
    for broken, field, observed, rule in (
        (health.schema != SCHEMA, "schema", health.schema, FidelityRule.SCHEMA_MUST_MATCH),
        (not health.run_id, "run_id", health.run_id, FidelityRule.RUN_ID_REQUIRED),
        (drops_elsewhere, "kernel_layer", health.kernel_layer, FidelityRule.DROPS_REQUIRE_PARTIAL),
        (
            health.platform != LINUX and not absent,
            "kernel_layer",
            health.kernel_layer,
            FidelityRule.NON_LINUX_REQUIRES_ABSENT,
        ),
        (
            health.cgroup_correlation is Correlation.FAILED,
            "cgroup_correlation",
            health.cgroup_correlation,
            FidelityRule.FAILED_CORRELATION,
        ),
    ):
        if broken:
            return _reason(field, observed, rule)
    return None


def _classify(health: ObservationHealth) -> tuple[Verdict, list[FidelityReason]]:
    """Of valid health; the reason for partial correlation is added by the caller."""
    if health.platform != LINUX:
        return Verdict.NOT_APPLICABLE, [_reason("platform", health.platform, FidelityRule.NON_LINUX)]
    if health.kernel_layer is KernelLayer.ABSENT:
        reason = _reason("kernel_layer", health.kernel_layer, FidelityRule.KERNEL_ABSENT)
        return Verdict.NOT_APPLICABLE, [reason]
    reasons = []
    if health.ringbuf_drops:
        reasons.append(_reason("ringbuf_drops", str(health.ringbuf_drops), FidelityRule.DROPS))
    if health.kernel_layer is KernelLayer.PARTIAL:
        reasons.append(_reason("kernel_layer", health.kernel_layer, FidelityRule.KERNEL_PARTIAL))
    if reasons:
        return Verdict.CLIPPED, reasons
    partial = health.cgroup_correlation is Correlation.PARTIAL
    return (Verdict.CORRELATION_PARTIAL if partial else Verdict.CLEAN), []


def _reason(field: str, observed: str, rule: FidelityRule) -> FidelityReason:
    return FidelityReason(field=field, observed=str(observed), rule=rule)
