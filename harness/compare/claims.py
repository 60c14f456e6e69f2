"""What an archive's evidence allows to be said, degrades, or blocks, and why (contracts §2.10-2.12).

Three gates, the strictest decides: the archive must verify, its health must be good enough, and
the method must have been able to see such a thing.
"""

from pathlib import Path

from harness.bundle.verify import verify
from harness.compare.fidelity import fidelity_verdict
from harness.compare.members import document, open_archive
from harness.compare.methods import descriptors
from harness.contracts.claims import DOES_NOT_VERIFY, Claim, ClaimClass, ClaimsReport
from harness.contracts.coverage import CoverageDescriptor, Dimension, decide
from harness.contracts.fidelity import (
    ClaimGate,
    ClaimKind,
    Decision,
    FidelityVerdict,
    ParityRule,
    strictest,
)
from harness.contracts.health import ObservationHealth
from harness.contracts.manifest import HEALTH

_HEALTH_RULES = {
    ClaimKind.POSITIVE: ParityRule.POSITIVE,
    # The verdict does not model it: a set is as trustworthy as what it is made of, at most.
    ClaimKind.EXHAUSTIVE: ParityRule.POSITIVE,
    ClaimKind.NEGATIVE: ParityRule.NEGATIVE,
}
REPORTED_RULE = "fidelity_verdict_gates_reported_claims"
BINDING_RULE = "fidelity_verdict_gates_per_binding_claims"


def claims(path: Path) -> ClaimsReport:
    """InputError or VerificationError without health to judge; every other fault is in the report."""
    archive = open_archive(path)
    health = document(archive, HEALTH, ObservationHealth)
    problems = verify(path).problems
    fidelity = fidelity_verdict(health)
    coverage = descriptors(archive, health)
    made = _claims(fidelity, coverage)
    if problems:
        made = [_blocked(claim) for claim in made]
    return ClaimsReport(
        archive=str(path),
        run_id=archive.run_id,
        manifest_digest=archive.identity,
        verified=not problems,
        problems=tuple(f"{problem.code} {problem.where}: {problem.text}" for problem in problems),
        fidelity=fidelity,
        coverage=tuple(coverage[dimension] for dimension in Dimension if dimension in coverage),
        claims=tuple(made),
    )


def supported(
    fidelity: FidelityVerdict, descriptor: CoverageDescriptor | None, kind: ClaimKind
) -> tuple[Decision, tuple[str, ...], str]:
    """(decision, rules, reason): the stricter of what health and the method allow."""
    method = decide(descriptor, kind)
    health = _gate(fidelity.claim_gate, kind)
    decision = strictest(health, method.decision)
    why = _why(fidelity) if health is decision and health is not method.decision else method.reason
    return decision, (_HEALTH_RULES[kind].value, method.rule.value), why


def _claims(fidelity: FidelityVerdict, coverage: dict[Dimension, CoverageDescriptor]) -> list[Claim]:
    gate = fidelity.claim_gate
    made = [_plain(ClaimClass.REPORTED, gate.reported_claims, REPORTED_RULE, fidelity)]
    for dimension in Dimension:
        for kind in ClaimKind:
            decision, rules, reason = supported(fidelity, coverage.get(dimension), kind)
            made.append(
                Claim(
                    dimension=dimension,
                    kind=ClaimClass(kind.value),
                    decision=decision,
                    rules=rules,
                    reason=reason,
                )
            )
    return [*made, _plain(ClaimClass.PER_BINDING, gate.per_binding_claims, BINDING_RULE, fidelity)]


def _plain(kind: ClaimClass, decision: Decision, rule: str, fidelity: FidelityVerdict) -> Claim:
    return Claim(kind=kind, decision=decision, rules=(rule,), reason=_why(fidelity))


def _blocked(claim: Claim) -> Claim:
    return Claim(
        dimension=claim.dimension,
        kind=claim.kind,
        decision=Decision.BLOCKED,
        rules=(DOES_NOT_VERIFY,),
        reason="the archive does not hold what it claims",
    )


def _gate(gate: ClaimGate, kind: ClaimKind) -> Decision:
    return gate.bounded_negative_claims if kind is ClaimKind.NEGATIVE else gate.measured_positive_claims


def _why(fidelity: FidelityVerdict) -> str:
    return "; ".join(f"{reason.field} is {reason.observed}: {reason.rule}" for reason in fidelity.reasons)
