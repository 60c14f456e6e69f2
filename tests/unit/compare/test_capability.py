"""Every rule of the v0 capability diff, and its algebra (contracts §6.1)."""

import json
from typing import Any

import pytest
from hypothesis import given

from harness.compare.capability import INCONSISTENT, capability_diff, set_diff, to_json
from harness.compare.side import Side
from harness.contracts.canonical import load_json
from harness.contracts.capability_diff import (
    FAILED_NOTE,
    IDEMPOTENT_NOTE,
    CapabilityDiff,
    DiffStatus,
    OutcomeChange,
    SetDiff,
)
from harness.contracts.converter import parse, unstructure
from harness.contracts.health import Correlation, KernelLayer, PolicyLayer, SdkLayer
from harness.contracts.surface import DIMENSIONS
from harness.errors import VerificationError
from tests.unit.compare.conftest import SIDES, VALUES, make_side


def test_a_diff_says_what_was_added_removed_and_changed() -> None:
    base = make_side("b", paths=("/r", "/w"), decisions=("allow:t",), calls={"c1": "allow", "c2": "allow"})
    head = make_side("h", paths=("/w", "/x"), decisions=("deny:t",), calls={"c1": "deny", "c3": None})
    diff = capability_diff(base, head)
    assert (diff.base_run_id, diff.head_run_id, diff.status) == ("b", "h", DiffStatus.CLEAN)
    assert diff.surface.filesystem_paths == SetDiff(added=("/x",), removed=("/r",), unchanged=("/w",))
    assert diff.binding_ids == SetDiff(added=("c3",), removed=("c2",), unchanged=("c1",))
    assert diff.policy_outcomes.changed == (OutcomeChange(tool_call_id="c1", base="allow", head="deny"),)
    assert diff.notes == ()


def test_the_document_has_the_contracts_keys_in_their_order() -> None:
    document = json.loads(to_json(capability_diff(make_side("b"), make_side("h"))))
    assert list(document) == [
        "schema", "base_run_id", "head_run_id", "status", "preconditions", "scope", "surface",
        "binding_ids", "policy_outcomes", "unbound", "ambiguities", "notes",
    ]  # fmt: skip
    assert list(document["preconditions"]) == [
        "base_health_clean", "head_health_clean", "base_correlation_clean", "head_correlation_clean",
        "stable_tool_call_ids_required", "stable_tool_call_ids_present",
    ]  # fmt: skip
    assert document["scope"] == {
        "projection": "surface_set",
        "uses_raw_telemetry": False,
        "uses_proof_pack": False,
        "per_binding_capability_values": False,
    }
    assert list(document["surface"]) == list(document["unbound"]) == list(DIMENSIONS)
    assert list(document["surface"]["mcp_tools"]) == ["added", "removed", "unchanged"]
    assert set(map(tuple, document["unbound"].values())) == {()}
    assert document["preconditions"]["stable_tool_call_ids_required"] is True
    assert document["notes"] == ["capability_diff_idempotent: base and head evidence sets are identical"]


@pytest.mark.parametrize(
    "degraded",
    [
        {"kernel_layer": KernelLayer.ABSENT},
        {"kernel_layer": KernelLayer.PARTIAL},
        {"kernel_layer": KernelLayer.PARTIAL, "ringbuf_drops": 1},
        {"policy_layer": PolicyLayer.ABSENT},
        {"sdk_layer": SdkLayer.ABSENT},
        {"sdk_layer": SdkLayer.PRESENT},
        {"cgroup_correlation": Correlation.PARTIAL},
    ],
)
@pytest.mark.parametrize("correlation", [Correlation.CLEAN, Correlation.PARTIAL])
def test_unclean_health_of_either_side_is_partial_health_first(
    degraded: dict[str, Any], correlation: Correlation
) -> None:
    clean, other = make_side("r"), make_side("r", status=correlation, **degraded)
    for base, head in ((clean, other), (other, clean)):
        diff = capability_diff(base, head)
        assert diff.status is DiffStatus.PARTIAL_HEALTH
        assert diff.preconditions.base_health_clean is (base is clean)
        assert diff.preconditions.head_health_clean is (head is clean)
        assert diff.notes == ()  # equal sets are no idempotence where something was not seen


@pytest.mark.parametrize("how", [{"status": Correlation.PARTIAL}, {"ambiguities": ("two",)}])
def test_an_unclean_correlation_is_partial_and_its_ambiguities_are_told(how: dict[str, Any]) -> None:
    diff = capability_diff(make_side("r"), make_side("r", **how))
    assert diff.status is DiffStatus.PARTIAL_CORRELATION
    assert (diff.preconditions.base_correlation_clean, diff.preconditions.head_correlation_clean) == (
        True,
        False,
    )
    assert diff.ambiguities == (("head:two",) if "ambiguities" in how else ())


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (
            {"cgroup_correlation": Correlation.FAILED},
            "failed_cgroup_correlation_blocks_runner_measured_claims",
        ),
        ({"ringbuf_drops": 1}, "ringbuf_drops_require_partial_kernel_layer"),
        ({"platform": "macos"}, "non_linux_platform_requires_absent_kernel_layer"),
        ({"status": Correlation.FAILED}, "correlation_report_status_failed"),
    ],
)
def test_failed_evidence_is_failed_before_anything_else(how: dict[str, Any], reason: str) -> None:
    diff = capability_diff(make_side("r"), make_side("r", policy_layer=PolicyLayer.ABSENT, **how))
    assert diff.status is DiffStatus.FAILED
    assert diff.notes == (f"{FAILED_NOTE}: head {reason}",)


def test_decisions_that_change_without_a_call_or_outcome_are_a_contradiction() -> None:
    base, head = make_side("r", decisions=("allow:a",)), make_side("r", decisions=("allow:b",))
    diff = capability_diff(base, head)
    assert diff.status is DiffStatus.FAILED
    assert diff.notes == (f"{FAILED_NOTE}: {INCONSISTENT}",)
    explained = make_side("r", decisions=("allow:b",), calls={"tc_2": "allow"})
    assert capability_diff(base, explained).status is DiffStatus.CLEAN
    outcome = make_side("r", decisions=("allow:b",), calls={"tc_1": "deny"})
    assert capability_diff(base, outcome).status is DiffStatus.CLEAN


def test_call_ids_are_present_when_both_sides_bind_one() -> None:
    one, none = make_side("r"), make_side("r", calls={})
    for base, head, present in (
        (one, one, True),
        (one, none, False),
        (none, one, False),
        (none, none, False),
    ):
        assert capability_diff(base, head).preconditions.stable_tool_call_ids_present is present


@pytest.mark.parametrize(
    ("names", "code"), [(("a", "a"), "DuplicateToolCallId"), (("a", " "), "EmptyToolCallId")]
)
def test_calls_that_cannot_be_told_apart_are_refused_with_their_place(
    names: tuple[str, ...], code: str
) -> None:
    good = make_side("good")
    bindings = tuple(make_side(calls={name: "allow"}).correlation.bindings[0] for name in names)
    bad = Side(
        place="bad.tar.gz",
        health=good.health,
        surface=good.surface,
        correlation=type(good.correlation)(
            run_id="good", status=Correlation.CLEAN, bindings=bindings, ambiguities=()
        ),
    )
    for base, head in ((good, bad), (bad, good)):
        with pytest.raises(VerificationError) as caught:
            capability_diff(base, head)
        assert caught.value.code == code
        assert caught.value.place == "bad.tar.gz: correlation-report.json at /bindings/1/tool_call_id"
        assert caught.value.hint


@given(SIDES)
def test_a_side_against_itself_differs_in_nothing(side: Side) -> None:
    diff = capability_diff(side, side)
    for name in DIMENSIONS:
        one: SetDiff = getattr(diff.surface, name)
        assert (one.added, one.removed, one.unchanged) == ((), (), getattr(side.surface, name))
    assert diff.binding_ids.same
    assert diff.policy_outcomes.changed == ()
    assert (IDEMPOTENT_NOTE in diff.notes) is (diff.status is DiffStatus.CLEAN)


@given(SIDES, SIDES)
def test_the_diff_of_the_swapped_sides_is_the_mirror(base: Side, head: Side) -> None:
    there, back = capability_diff(base, head), capability_diff(head, base)
    assert (there.base_run_id, there.status) == (back.head_run_id, back.status)
    for name in (*DIMENSIONS, "binding_ids"):
        one = getattr(there.surface if name in DIMENSIONS else there, name)
        other = getattr(back.surface if name in DIMENSIONS else back, name)
        assert (one.added, one.removed, one.unchanged) == (other.removed, other.added, other.unchanged)
    swapped = tuple(
        OutcomeChange(tool_call_id=change.tool_call_id, base=change.head, head=change.base)
        for change in there.policy_outcomes.changed
    )
    assert swapped == back.policy_outcomes.changed
    assert sorted(map(_swap, there.notes)) == sorted(back.notes)
    assert sorted(map(_swap, there.ambiguities)) == sorted(back.ambiguities)


@given(SIDES, SIDES)
def test_the_bytes_read_back_as_the_same_diff(base: Side, head: Side) -> None:
    diff = capability_diff(base, head)
    data = to_json(diff)
    assert data == json.dumps(unstructure(diff), indent=2, ensure_ascii=False).encode() + b"\n"
    assert parse(CapabilityDiff, load_json(data, "diff")) == diff  # which also proves every set sorted


@given(VALUES, VALUES)
def test_sets_are_told_apart_and_sorted_by_their_utf_8_bytes(left: set[str], right: set[str]) -> None:
    a, b = sorted(left, key=str.encode), sorted(right, key=str.encode)
    diff = set_diff(a, b)
    assert diff.added == tuple(sorted(right - left, key=str.encode))
    assert diff.removed == tuple(sorted(left - right, key=str.encode))
    assert diff.unchanged == tuple(sorted(left & right, key=str.encode))


def _swap(text: str) -> str:
    for one, other in (("base", "head"), ("head", "base")):
        for mark in (f"{FAILED_NOTE}: {one} ", f"{one}:"):
            if text.startswith(mark):
                return mark.replace(one, other) + text.removeprefix(mark)
    return text
