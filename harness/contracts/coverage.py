"""What a method of observation can see, and hence which claims it can bear (contracts §2.11)."""

from enum import StrEnum

from attrs import frozen

from harness.contracts.converter import NonEmpty, constant
from harness.contracts.fidelity import ClaimKind, Decision

SCHEMA = "assay.runner.coverage_descriptor.v0"


class Dimension(StrEnum):
    FILESYSTEM = "filesystem"
    NETWORK = "network"
    PROCESS = "process"


class Completeness(StrEnum):
    FULL = "full"
    OPEN_SYSCALL_ONLY = "open_syscall_only"
    CONNECT_ONLY = "connect_only"
    DATAGRAM = "datagram_peer_observed"
    CONNECT_AND_DATAGRAM = "connect_and_datagram_peer_observed"
    EXEC_ONLY = "exec_only"


class CoverageRule(StrEnum):
    REQUIRED = "coverage_descriptor_required_for_claim"
    SCHEMA_MISMATCH = "coverage_descriptor_schema_mismatch"
    ALLOWS_POSITIVE = "coverage_descriptor_allows_observed_positive_claim"
    ALLOWS_EXHAUSTIVE = "coverage_descriptor_allows_exhaustive_claim"
    ALLOWS_ABSENCE = "coverage_descriptor_allows_absence_claim"
    DEGRADES_EXHAUSTIVE = "coverage_descriptor_degrades_exhaustive_claim"
    BLOCKS_ABSENCE = "coverage_descriptor_blocks_absence_claim"
    CLASS_NOT_OBSERVED = "coverage_descriptor_positive_class_not_observed"


@frozen(kw_only=True)
class CoverageDescriptor:
    """`observes` and `known_blind_spots` are phrases for people, and searched for effect classes."""

    schema: str = constant(SCHEMA)
    dimension: Dimension
    method: NonEmpty
    observes: tuple[str, ...]
    known_blind_spots: tuple[str, ...]
    completeness: Completeness


@frozen(kw_only=True)
class CoverageDecision:
    decision: Decision
    rule: CoverageRule
    reason: str


_NEEDED = {
    ClaimKind.POSITIVE: (Decision.ALLOWED, CoverageRule.ALLOWS_POSITIVE),
    ClaimKind.EXHAUSTIVE: (Decision.DEGRADED, CoverageRule.DEGRADES_EXHAUSTIVE),
    ClaimKind.NEGATIVE: (Decision.BLOCKED, CoverageRule.BLOCKS_ABSENCE),
}
_FULL = {
    ClaimKind.POSITIVE: CoverageRule.ALLOWS_POSITIVE,
    ClaimKind.EXHAUSTIVE: CoverageRule.ALLOWS_EXHAUSTIVE,
    ClaimKind.NEGATIVE: CoverageRule.ALLOWS_ABSENCE,
}


def decide(descriptor: CoverageDescriptor | None, kind: ClaimKind) -> CoverageDecision:
    """What the method alone allows; health may be stricter."""
    if descriptor is None:
        return CoverageDecision(
            decision=Decision.BLOCKED,
            rule=CoverageRule.REQUIRED,
            reason="nothing says what was observed here",
        )
    if descriptor.schema != SCHEMA:
        return CoverageDecision(
            decision=Decision.BLOCKED,
            rule=CoverageRule.SCHEMA_MISMATCH,
            reason=f"the descriptor is a {descriptor.schema}",
        )
    if descriptor.completeness is Completeness.FULL and not descriptor.known_blind_spots:
        return CoverageDecision(
            decision=Decision.ALLOWED, rule=_FULL[kind], reason=f"{descriptor.method}: nothing is unobserved"
        )
    decision, rule = _NEEDED[kind]
    blind = "; ".join(descriptor.known_blind_spots) or "none named"
    return CoverageDecision(
        decision=decision,
        rule=rule,
        reason=f"{descriptor.method}: {descriptor.completeness}, blind spots: {blind}",
    )


def decide_effect(descriptor: CoverageDescriptor | None, effect: str) -> CoverageDecision:
    """A positive claim about one class of effect: degraded when `observes` does not speak of it."""
    found = decide(descriptor, ClaimKind.POSITIVE)
    wanted = effect.strip().lower()
    if descriptor is None or found.decision is not Decision.ALLOWED:
        return found
    if wanted and any(wanted in entry for entry in descriptor.observes):
        return found
    return CoverageDecision(
        decision=Decision.DEGRADED,
        rule=CoverageRule.CLASS_NOT_OBSERVED,
        reason=f"{descriptor.method} does not speak of {effect!r}",
    )
