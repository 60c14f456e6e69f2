"""JUnit against its XML schema: whatever the archives bring, and whatever their evidence is worth."""

import io
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from xmlschema import XMLSchema10

from harness.cli import main
from harness.compare.baseline import accept, check_run
from harness.compare.cross_runtime import runtime_side
from harness.compare.tree import load_run, runtime_difference, surface_difference
from harness.contracts.capability_diff import DiffStatus
from harness.contracts.difference import Contract, DifferenceReport, FailOn, Granularity, Kind
from harness.present.junit import as_junit
from tests.unit.present.conftest import ADDED, EVERY, GEMINI, HIDDEN, REMOVED, S5, TURNED, node, report

SCHEMA = XMLSchema10(Path(__file__).parents[2] / "golden" / "junit" / "junit-4.xsd")


def junit(found: DifferenceReport, fail_on: FailOn = FailOn.ANY) -> ET.Element:
    """Valid, and its counts are those of its cases."""
    return valid(as_junit(found, fail_on))


def valid(data: bytes) -> ET.Element:
    SCHEMA.validate(io.BytesIO(data))
    root = ET.fromstring(data)
    for suite in (root, *root):
        assert int(suite.attrib["tests"]) == len(list(suite.iter("testcase")))
        assert int(suite.attrib["failures"]) == len(list(suite.iter("failure")))
    return root


@pytest.mark.parametrize(
    ("fail_on", "failures"), [(FailOn.ANY, 3), (FailOn.ADDED, 2), (FailOn.REMOVED, 2), (FailOn.NONE, 0)]
)
def test_it_counts_what_fail_on_counts(fail_on: FailOn, failures: int) -> None:
    assert junit(report(ADDED, REMOVED, TURNED), fail_on).attrib["failures"] == str(failures)


@pytest.mark.parametrize("status", DiffStatus)
def test_evidence_that_is_not_clean_fails_with_and_without_a_difference(status: DiffStatus) -> None:
    unclean = status is not DiffStatus.CLEAN
    for nodes in ((), (ADDED,)):
        root = junit(report(*nodes, status=status))
        assert root.attrib["failures"] == str(unclean + len(nodes))
        assert root[0].attrib["failures"] == str(int(unclean))


def test_hostile_names_are_carried_as_text() -> None:
    names = [case.attrib["name"] for case in junit(EVERY).iter("testcase")]
    assert any("<img" in name and "\\x00" in name and "]]>" in name for name in names)


# What XML 1.0 has no way to write: most control characters, surrogates, two noncharacters.
ODD = st.text(
    st.sampled_from("a<&>\"'\\]\x00\x08\x0b\x1f\x7f\x85\u2028\ud800\udfff\ufffe\uffff\U0001fffe\n\t\r é😀")
)


@settings(deadline=None, max_examples=50)
@given(ODD, ODD, ODD)
def test_any_characters_are_carried(key: str, value: str, note: str) -> None:
    odd = node(key, Kind.ADDED, head=value, children=(node(value, Kind.ADDED, head=key),))
    found = report(odd, notes=(note,), fixture=key, status=DiffStatus.PARTIAL_HEALTH)
    for case in junit(evolve(found, base=value)).iter("testcase"):
        assert all(text.isprintable() for text in case.attrib.values())


def test_many_cases_and_a_long_name_are_carried() -> None:
    nodes = [node(f"/w/{number:06}-é", Kind.ADDED) for number in range(3_000)]
    nodes.append(node("/w/" + "x" * (1 << 20), Kind.ADDED))
    root = junit(report(*nodes))
    assert root.attrib["failures"] == "3001"
    assert len(list(root.iter("testcase"))[-1].attrib["name"]) == 3 + (1 << 20)


def test_every_comparison_of_real_runs_is_valid() -> None:
    s5, hidden, gemini = map(load_run, (S5, HIDDEN, GEMINI))
    for contract in Contract:
        for granularity in Granularity:
            assert junit(surface_difference(s5, s5, granularity, contract)).attrib["failures"] == "0"
            found = junit(surface_difference(s5, hidden, granularity, contract)).attrib["failures"]
            # v0 in folders: both runs used /workspace/
            assert (found == "0") is ((contract, granularity) == (Contract.V0, Granularity.PREFIX))
            pair = (s5, runtime_side(S5)), (gemini, runtime_side(GEMINI))
            junit(runtime_difference(*pair, granularity, contract)[0])
    assert junit(check_run(accept(s5), hidden)).attrib["failures"] == "1"


def test_what_the_command_writes_is_valid(tmp_path: Path) -> None:
    out = tmp_path / "x.xml"
    assert main(["diff", str(S5), str(HIDDEN), "--format", "junit", "-o", str(out)]) == 1
    assert valid(out.read_bytes()).attrib["tests"] == "2"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b"testcase", b"case"),
        (b' tests="1"', b""),
        (b"<failure ", b'<failure severity="1" '),
        (b"</testsuites>", b"<x/></testsuites>"),
    ],
)
def test_the_schema_would_catch_a_mistake(right: bytes, wrong: bytes) -> None:
    data = as_junit(report(ADDED), FailOn.ANY)
    assert right in data
    assert not SCHEMA.is_valid(io.BytesIO(data.replace(right, wrong)))
