"""SARIF against its schema, and what code scanning keeps a result by."""

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from harness.compare.baseline import accept, check_run
from harness.compare.capabilities import CATEGORIES
from harness.compare.cross_runtime import runtime_side
from harness.compare.tree import POLICY_OUTCOMES, load_run, runtime_difference, surface_difference
from harness.contracts.capability_diff import DiffStatus
from harness.contracts.difference import Contract, Difference, DifferenceReport, FailOn, Granularity, Kind
from harness.present.sarif import FINGERPRINT, MAX_RESULTS, RULES, as_sarif
from tests.unit.present.conftest import ADDED, EVERY, GEMINI, HIDDEN, REMOVED, S5, TURNED, node, report

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "golden/sarif/sarif-schema-2.1.0.json").read_text(encoding="utf-8")
)


def run(found: DifferenceReport, fail_on: FailOn = FailOn.ANY, location: str | None = None) -> dict[str, Any]:
    log = json.loads(as_sarif(found, fail_on, location=location))
    Draft202012Validator(SCHEMA).validate(log)
    (only,) = log["runs"]
    assert isinstance(only, dict)
    return only


def test_everything_holds_the_schema_and_names_a_known_rule() -> None:
    made = run(EVERY)
    for result in made["results"]:
        assert made["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert [result["ruleId"] for result in made["results"]] == [
        "assay-path-added",
        "assay-path-added",
        "assay-path-removed",
        "assay-path-changed",
    ]
    assert len({rule for rule, _ in RULES}) == len(RULES)


def test_the_schema_would_catch_a_mistake() -> None:
    log = json.loads(as_sarif(EVERY, FailOn.ANY))
    log["runs"][0]["results"][0]["level"] = "bad"
    assert list(Draft202012Validator(SCHEMA).iter_errors(log))


def test_a_fingerprint_is_of_the_capability_and_not_of_the_run() -> None:
    def prints(found: DifferenceReport) -> list[str]:
        return [result["partialFingerprints"][FINGERPRINT] for result in run(found)["results"]]

    first = report(ADDED, REMOVED, TURNED)
    other = evolve(first, base="run_8", head="run_9", notes=("x",))
    other_example = evolve(ADDED, example=None)
    assert prints(first) == prints(other)
    assert prints(report(other_example)) == prints(first)[:1]
    assert len(set(prints(first))) == 3
    removed = evolve(ADDED, kind=Kind.REMOVED)
    assert prints(report(removed)) != prints(report(ADDED))


@pytest.mark.parametrize(
    ("fail_on", "levels"),
    [
        (FailOn.ANY, ["warning", "warning", "warning"]),
        (FailOn.ADDED, ["warning", "note", "warning"]),
        (FailOn.REMOVED, ["note", "warning", "warning"]),
        (FailOn.NONE, ["note", "note", "note"]),
    ],
)
def test_what_does_not_count_is_a_note(fail_on: FailOn, levels: list[str]) -> None:
    assert [result["level"] for result in run(report(ADDED, REMOVED, TURNED), fail_on)["results"]] == levels


@pytest.mark.parametrize(
    ("category", "fixture", "location", "uri"),
    [
        ("paths", "my-agent", None, "runner-fixtures/my-agent/fixture.toml"),
        ("tools", "my-agent", None, "runner-fixtures/my-agent/policy.toml"),
        ("policy_outcomes", "my-agent:denied", None, "runner-fixtures/my-agent/policy.toml"),
        ("paths", "my-agent", "a b/ü.toml", "a%20b/%C3%BC.toml"),
        ("paths", None, None, "runner-fixtures"),
        ("paths", "../../etc", None, "runner-fixtures"),
        ("paths", "..", None, "runner-fixtures"),
    ],
)
def test_results_point_into_the_repository(
    category: str, fixture: str | None, location: str | None, uri: str
) -> None:
    made = run(report(ADDED, category=category, fixture=fixture), location=location)
    (result,) = made["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


@pytest.mark.parametrize("status", DiffStatus)
def test_every_status_is_valid_and_failed_evidence_is_no_success(status: DiffStatus) -> None:
    for nodes in ((), (ADDED, REMOVED)):
        (invocation,) = run(report(*nodes, status=status))["invocations"]
        assert invocation["executionSuccessful"] is (status is not DiffStatus.FAILED)
        assert ("toolExecutionNotifications" in invocation) is (status is not DiffStatus.CLEAN)


ODD = st.text(st.sampled_from("a<&>\"'\\[]()\x00\x1f\x7f\x85\u2028\u202e\ufffe\uffff\n é😀"))


@settings(deadline=None, max_examples=25)
@given(ODD, ODD)
def test_any_characters_are_carried(key: str, value: str) -> None:
    odd = node(key, Kind.ADDED, head=value, children=(node(value, Kind.ADDED, head=key),))
    made = run(report(odd, fixture=key, notes=(value,)))
    assert made["results"][0]["message"]["text"].isprintable()


def test_every_comparison_of_real_runs_is_valid() -> None:
    s5, hidden, gemini = map(load_run, (S5, HIDDEN, GEMINI))
    for contract in Contract:
        for granularity in Granularity:
            assert run(surface_difference(s5, s5, granularity, contract))["results"] == []
            run(surface_difference(s5, hidden, granularity, contract))
            pair = (s5, runtime_side(S5)), (gemini, runtime_side(GEMINI))
            assert run(runtime_difference(*pair, granularity, contract)[0])["properties"]["status"] == "clean"
    (result,) = run(check_run(accept(s5), hidden), location="baselines/a.json")["results"]
    assert result["ruleId"] == "assay-path-added"


def test_every_category_has_rules_of_its_own() -> None:
    for category in (*CATEGORIES, POLICY_OUTCOMES):
        for changed in (ADDED, REMOVED, TURNED):
            (result,) = run(report(changed, category=category))["results"]
            assert result["ruleId"].endswith(f"-{changed.kind}")


def test_many_results_are_valid() -> None:
    nodes = [node(f"/w/{number:04}-é", Kind.ADDED) for number in range(300)]
    assert len(run(report(*nodes))["results"]) == 300


def test_partial_evidence_is_told() -> None:
    (told,) = run(EVERY)["invocations"][0]["toolExecutionNotifications"]
    assert "may still differ" in told["message"]["text"]
    assert "toolExecutionNotifications" not in run(report(ADDED))["invocations"][0]


def test_a_hostile_name_makes_no_link_in_a_message() -> None:
    hostile: Difference = evolve(ADDED, key="/w/[click](http://x)")
    (result,) = run(report(hostile))["results"]
    assert "\\[click\\](http" in result["message"]["text"]


def test_very_many_results_are_cut_by_weight_and_that_is_said() -> None:
    looks = [
        node(f"/r/{number:05}", Kind.ADDED, children=(node("read by tools", Kind.ADDED, head="done"),))
        for number in range(MAX_RESULTS)
    ]
    gone = [node(f"/g/{number:05}", Kind.REMOVED) for number in range(MAX_RESULTS)]
    writes = [evolve(ADDED, key=f"/z/{number:05}") for number in range(100)]
    made = run(report(*gone, *looks, *writes), FailOn.ADDED)
    results = made["results"]
    names = [one["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] for one in results]
    assert len(names) == MAX_RESULTS
    assert {f"/z/{number:05}" for number in range(100)} <= set(names)
    assert not [name for name in names if name.startswith("/g/")]
    assert names == sorted(names)  # in the report's own order
    (said,) = made["invocations"][0]["toolExecutionNotifications"]
    total = 2 * MAX_RESULTS + 100
    assert said["message"]["text"].startswith(f"{total - MAX_RESULTS} of {total} differences are left out")
    assert made["properties"]["differences"] == total


def test_as_many_as_are_taken_are_not_cut() -> None:
    made = run(report(*(node(f"/g/{number:05}", Kind.REMOVED) for number in range(MAX_RESULTS))))
    assert len(made["results"]) == MAX_RESULTS
    assert "toolExecutionNotifications" not in made["invocations"][0]
