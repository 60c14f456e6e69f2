"""What evidence bears: the verdict table, coverage, parity, and an archive's own claims (§2.10-2.12)."""

from itertools import product
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from harness.bundle.reader import read_archive
from harness.compare.claims import claims, supported
from harness.compare.fidelity import fidelity_verdict, projection_claim
from harness.compare.methods import (
    OWN,
    REFERENCE_FILESYSTEM,
    REFERENCE_NETWORK,
    REFERENCE_PROCESS,
    descriptors,
)
from harness.contracts.claims import DOES_NOT_VERIFY, ClaimClass
from harness.contracts.coverage import (
    Completeness,
    CoverageRule,
    Dimension,
    decide,
    decide_effect,
)
from harness.contracts.fidelity import NON_CLAIMS, PARITY, ClaimKind, Decision, Verdict
from harness.contracts.health import Correlation, KernelLayer, NetworkCoverage, ObservationHealth
from harness.errors import VerificationError
from tests.unit.compare.conftest import HEALTH, S5, Extract

A, D, B = Decision.ALLOWED, Decision.DEGRADED, Decision.BLOCKED
PARTIAL = Correlation.PARTIAL
DROPS: dict[str, Any] = {"kernel_layer": KernelLayer.PARTIAL, "ringbuf_drops": 2}


def gate(health: ObservationHealth) -> tuple[str, tuple[Decision, ...], list[str]]:
    found = fidelity_verdict(health)
    one = found.claim_gate
    decisions = (
        one.reported_claims,
        one.measured_positive_claims,
        one.bounded_negative_claims,
        one.per_binding_claims,
    )
    return found.verdict.value, decisions, [f"{r.field}={r.observed} {r.rule}" for r in found.reasons]


@pytest.mark.parametrize(
    ("health", "verdict", "decisions", "reasons"),
    [
        (
            {},
            "clean",
            (A, A, A, A),
            ["observation_health=clean complete_kernel_layer_zero_drops_clean_cgroup_correlation"],
        ),
        (
            DROPS,
            "clipped",
            (A, D, B, A),
            [
                "ringbuf_drops=2 ringbuf_drops_block_bounded_negative_claims",
                "kernel_layer=partial_ringbuf_drops partial_kernel_layer_blocks_bounded_negative_claims",
            ],
        ),
        (
            {"kernel_layer": KernelLayer.PARTIAL, "cgroup_correlation": PARTIAL},
            "clipped",
            (A, D, B, B),
            [
                "kernel_layer=partial_ringbuf_drops partial_kernel_layer_blocks_bounded_negative_claims",
                "cgroup_correlation=partial partial_cgroup_correlation_blocks_per_binding_claims",
            ],
        ),
        (
            {"cgroup_correlation": PARTIAL},
            "correlation_partial",
            (A, D, B, B),
            ["cgroup_correlation=partial partial_cgroup_correlation_blocks_per_binding_claims"],
        ),
        (
            {"kernel_layer": KernelLayer.ABSENT},
            "not_applicable",
            (A, B, B, B),
            ["kernel_layer=absent absent_kernel_layer_blocks_measured_kernel_effect_claims"],
        ),
        (
            {"platform": "macos", "kernel_layer": KernelLayer.ABSENT},
            "not_applicable",
            (A, B, B, B),
            ["platform=macos non_linux_platform_has_no_kernel_measurement_surface"],
        ),
        (
            {"cgroup_correlation": Correlation.FAILED},
            "failed",
            (B, B, B, B),
            ["cgroup_correlation=failed failed_cgroup_correlation_blocks_runner_measured_claims"],
        ),
        (
            {"ringbuf_drops": 1},
            "failed",
            (B, B, B, B),
            ["kernel_layer=complete ringbuf_drops_require_partial_kernel_layer"],
        ),
        (
            {"platform": "windows"},
            "failed",
            (B, B, B, B),
            ["kernel_layer=complete non_linux_platform_requires_absent_kernel_layer"],
        ),
        (
            {"schema": "x", "run_id": ""},
            "failed",
            (B, B, B, B),
            ["schema=x observation_health_schema_must_match_source_schema"],
        ),
        ({"run_id": ""}, "failed", (B, B, B, B), ["run_id= run_id_required_for_fidelity_verdict"]),
    ],
)
def test_health_gives_a_verdict_its_gate_and_its_reasons(
    health: dict[str, Any], verdict: str, decisions: tuple[Decision, ...], reasons: list[str]
) -> None:
    assert gate(evolve(HEALTH, **health)) == (verdict, decisions, reasons)
    assert fidelity_verdict(HEALTH).non_claims == NON_CLAIMS


HEALTHS = st.builds(
    lambda **health: evolve(HEALTH, **health),
    platform=st.sampled_from(["linux", "macos"]),
    kernel_layer=st.sampled_from(KernelLayer),
    ringbuf_drops=st.sampled_from([0, 1]),
    cgroup_correlation=st.sampled_from(Correlation),
)


@given(HEALTHS, st.sampled_from([None, *OWN, REFERENCE_PROCESS]))
def test_absence_is_never_easier_to_claim_than_presence(
    health: ObservationHealth, descriptor: object
) -> None:
    fidelity = fidelity_verdict(health)
    order = tuple(Decision).index
    positive, exhaustive, negative = (
        supported(fidelity, descriptor, kind)[0]  # type: ignore[arg-type]
        for kind in ClaimKind
    )
    assert order(positive) <= order(exhaustive) <= order(negative)
    assert fidelity.reasons
    assert (fidelity.verdict is Verdict.CLEAN) <= (health.kernel_layer is KernelLayer.COMPLETE)


def test_projected_values_are_gated_as_measured_ones() -> None:
    clipped = fidelity_verdict(evolve(HEALTH, **DROPS))
    assert projection_claim(clipped, "raw_observed") is projection_claim(clipped, "projected_equivalent") is D
    assert projection_claim(clipped, "inconclusive") is A
    assert projection_claim(clipped, "guessed") is B
    failed = fidelity_verdict(evolve(HEALTH, ringbuf_drops=1))
    assert projection_claim(failed, "inconclusive") is B


def test_parity_has_fifteen_rows_of_verdict_and_kind() -> None:
    assert [(row.verdict, row.kind) for row in PARITY.rows] == list(product(Verdict, ClaimKind))
    for row in PARITY.rows:
        assert (row.support.support == "not_modelled") is (row.kind is ClaimKind.EXHAUSTIVE)
        assert (row.scope == "health_input_only") is (row.verdict is Verdict.CORRELATION_PARTIAL)
    by_row = {(row.verdict, row.kind): row.support.decision for row in PARITY.rows}
    assert by_row[Verdict.CLIPPED, ClaimKind.POSITIVE] is D
    assert by_row[Verdict.CLIPPED, ClaimKind.NEGATIVE] is B


def test_coverage_decides_by_completeness_and_blind_spots() -> None:
    full = evolve(REFERENCE_FILESYSTEM, completeness=Completeness.FULL, known_blind_spots=())
    for kind in ClaimKind:
        assert decide(None, kind).rule is CoverageRule.REQUIRED
        assert decide(evolve(full, schema="x"), kind).rule is CoverageRule.SCHEMA_MISMATCH
        assert decide(full, kind).decision is A
    blind = evolve(full, known_blind_spots=("x",))
    partly = evolve(full, completeness=Completeness.EXEC_ONLY)
    for one in (blind, partly, REFERENCE_FILESYSTEM, REFERENCE_PROCESS, *REFERENCE_NETWORK.values(), *OWN):
        assert [decide(one, kind).decision for kind in ClaimKind] == [A, D, B]


@pytest.mark.parametrize(
    ("effect", "decision"), [(" Write ", A), ("delete", A), ("chmod", D), ("", D), ("  ", D)]
)
def test_a_class_of_effect_needs_to_be_spoken_of(effect: str, decision: Decision) -> None:
    assert decide_effect(OWN[0], effect).decision is decision
    assert decide_effect(None, effect).decision is B


@pytest.mark.parametrize("coverage", [None, *NetworkCoverage])
def test_the_references_network_is_covered_as_its_health_says(coverage: NetworkCoverage | None) -> None:
    bare = evolve(
        read_archive(S5), members={k: v for k, v in read_archive(S5).members.items() if "companion" not in k}
    )
    found = descriptors(bare, evolve(HEALTH, network_protocol_coverage=coverage))
    unknown = coverage in (None, NetworkCoverage.UNKNOWN, NetworkCoverage.ABSENT)
    assert (Dimension.NETWORK not in found) is unknown


def test_a_clean_archive_bears_presence_but_no_absence() -> None:
    report = claims(S5)
    assert (report.verified, report.problems, report.fidelity.verdict) == (True, (), Verdict.CLEAN)
    found = {(one.dimension, one.kind): one.decision for one in report.claims}
    assert len(found) == 11
    assert found[None, ClaimClass.REPORTED] is found[None, ClaimClass.PER_BINDING] is A
    for dimension in Dimension:
        decisions = [found[dimension, ClaimClass(kind.value)] for kind in ClaimKind]
        assert decisions == [A, D, B]
    assert all(one.reason and one.rules for one in report.claims)


def test_a_forged_surface_bears_nothing_at_all(extract: Extract) -> None:
    def hide(members: dict[str, bytes]) -> None:
        surface = members["capability-surface.json"]
        members["capability-surface.json"] = surface.replace(b'"/workspace/openai-agents-input.txt",', b"")

    report = claims(extract(S5, hide))
    assert report.verified is False
    assert any("ContractSurfaceMismatch" in problem for problem in report.problems)
    assert {one.decision for one in report.claims} == {B}
    assert {one.rules for one in report.claims} == {(DOES_NOT_VERIFY,)}


def test_failed_health_is_told_although_the_archive_does_not_verify(extract: Extract) -> None:
    def fail(members: dict[str, bytes]) -> None:
        health = members["observation-health.json"]
        members["observation-health.json"] = health.replace(
            b'"cgroup_correlation":"clean"', b'"cgroup_correlation":"failed"'
        )

    report = claims(extract(S5, fail))
    assert (report.verified, report.fidelity.verdict) == (False, Verdict.FAILED)


def test_without_readable_health_there_is_no_report(extract: Extract) -> None:
    with pytest.raises(VerificationError):
        claims(extract(S5, lambda members: members.update({"observation-health.json": b"{}"})))
