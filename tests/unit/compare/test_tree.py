"""The tree: what it holds, how coarse it is, and which call an example belongs to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bundle.reader import read_archive
from harness.compare import capabilities as shape
from harness.compare.capability import capability_diff
from harness.compare.side import Side
from harness.compare.tree import Run, compare, load_run, surface_difference
from harness.contracts.baseline import Capabilities
from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.companion import KERNEL, ExecCapability
from harness.contracts.difference import (
    Contract,
    Difference,
    Example,
    FailOn,
    Granularity,
    Kind,
    findings,
    is_finding,
)
from harness.contracts.manifest import POLICY
from harness.contracts.surface import DIMENSIONS
from harness.errors import InputError, VerificationError
from tests.unit.bundle.derive import derive
from tests.unit.compare.conftest import HIDDEN, S5, SIDES, Extract

NEW = "/workspace/hidden-write-output.txt"
READ = "/workspace/policy-input.txt"


def no_example(_category: str, _name: str, _aspect: str) -> None:
    return None


def test_the_hidden_write_is_all_that_differs() -> None:
    (category,) = surface_difference(load_run(S5), load_run(HIDDEN)).categories
    (node,) = category.children
    assert (category.key, node.key, node.kind) == ("paths", NEW, Kind.ADDED)
    assert [(child.key, child.base, child.head) for child in node.children] == [
        ("create by subject", None, "done"),
        ("write by subject", None, "done"),
    ]
    assert node.example == Example(
        role="subject",
        process="subject.0",
        operation="create",
        outcome="ok",
        match="unattributed",
        tool_call_ids=(),
    )


@pytest.mark.parametrize("granularity", Granularity)
@pytest.mark.parametrize("contract", Contract)
def test_a_run_does_not_differ_from_itself(granularity: Granularity, contract: Contract) -> None:
    for path in (S5, HIDDEN):
        run = load_run(path)
        assert surface_difference(run, run, granularity, contract).categories == ()


def flip(node: Difference) -> Difference:
    kinds = {Kind.ADDED: Kind.REMOVED, Kind.REMOVED: Kind.ADDED, Kind.CHANGED: Kind.CHANGED}
    return Difference(
        key=node.key,
        kind=kinds[node.kind],
        base=node.head,
        head=node.base,
        children=tuple(map(flip, node.children)),
    )


ASPECTS = st.dictionaries(
    st.sampled_from(["read by tools", "write by tools", "write by subject"]),
    st.sampled_from(["done", "attempted"]),
    min_size=1,
)
SURFACES = st.fixed_dictionaries(
    {
        "paths": st.dictionaries(st.sampled_from(["/a", "/a/b", "/a/é", "/😀", "/a\n"]), ASPECTS),
        "network": st.dictionaries(st.sampled_from(["connect ipv4 1.2.3.4:80", "bind unix /x"]), ASPECTS),
    }
)


@given(SURFACES, SURFACES, st.sampled_from(Granularity))
def test_the_other_way_round_is_its_mirror(
    base: Capabilities, head: Capabilities, granularity: Granularity
) -> None:
    there = compare(base, head, granularity, no_example)
    assert tuple(map(flip, there)) == compare(head, base, granularity, no_example)
    assert compare(base, base, granularity, no_example) == ()


@given(SURFACES, SURFACES)
def test_coarser_never_finds_what_finer_does_not(base: Capabilities, head: Capabilities) -> None:
    exact, place, kinds = (bool(compare(base, head, g, no_example)) for g in Granularity)
    assert exact or not (place or kinds)


def _run(side: Side) -> Run:
    return Run(archive=read_archive(S5), side=side, v1=None, fixture=None)


@given(SIDES, SIDES)
def test_on_v0_it_says_what_the_capability_diff_says(base: Side, head: Side) -> None:
    report = surface_difference(_run(base), _run(head))
    diff = capability_diff(base, head)
    found = {category.key: category.children for category in report.categories}
    assert report.status is diff.status
    for name in DIMENSIONS:
        for kind, wanted in (
            (Kind.ADDED, getattr(diff.surface, name).added),
            (Kind.REMOVED, getattr(diff.surface, name).removed),
        ):
            assert tuple(node.key for node in found.get(name, ()) if node.kind is kind) == wanted
    outcomes = found.get("policy_outcomes", ())
    assert [(node.key, node.base, node.head) for node in outcomes] == [
        (change.tool_call_id, change.base, change.head) for change in diff.policy_outcomes.changed
    ]
    assert any(note.startswith("call_ids_differ") for note in report.notes) is not diff.binding_ids.same


def turned(members: dict[str, bytes]) -> None:
    """The tool's read of its input becomes a write."""
    members[KERNEL] = members[KERNEL].replace(
        f'"path":"{READ}","access":"read"'.encode(), f'"path":"{READ}","access":"write"'.encode()
    )
    derive(members)


def test_a_read_that_becomes_a_write_is_a_change_with_its_call(extract: Extract) -> None:
    report = surface_difference(load_run(S5), load_run(extract(S5, turned)))
    ((node,),) = (category.children for category in report.categories)
    assert (node.key, node.kind) == (READ, Kind.CHANGED)
    read, write = node.children
    assert (read.key, read.kind, read.base, read.head) == ("read by tools", Kind.REMOVED, "done", None)
    assert (write.key, write.kind, write.base, write.head) == ("write by tools", Kind.ADDED, None, "done")
    assert write.example is not None
    assert (write.example.match, write.example.tool_call_ids) == ("exact", ("tc_runner_policy_001",))
    # v0 knows names only: it cannot see this, and that is why v1 is preferred.
    assert (
        surface_difference(load_run(S5), load_run(extract(S5, turned)), contract=Contract.V0).categories == ()
    )


def test_an_added_tool_shows_its_call(extract: Extract) -> None:
    def other_tool(members: dict[str, bytes]) -> None:
        members[POLICY] = members[POLICY].replace(b'"tool":"read_file"', b'"tool":"other"')
        derive(members)

    report = surface_difference(load_run(extract(S5, other_tool)), load_run(S5))
    (nodes,) = (category.children for category in report.categories if category.key == "tools")
    (node,) = (node for node in nodes if node.kind is Kind.ADDED)
    assert node.key == "read_file"
    assert node.example is not None
    assert node.example.tool_call_ids == ("tc_runner_policy_001",)


def test_examples_prefer_what_shows_the_action_and_what_succeeded(extract: Extract) -> None:
    def more(members: dict[str, bytes]) -> None:
        """Before the write there are a read, and a write that failed, of the same file."""
        events = [load_json(line, KERNEL) for line in members[KERNEL].splitlines()]
        (wrote,) = (event for event in events if event.get("path") == NEW)
        read = wrote | {"operation": "open", "access": "read"}
        for key in ("flags", "mode"):
            del read[key]
        failed = wrote | {"outcome": "EACCES"}
        failed |= {"operation": "open"}
        del failed["mode"]
        members[KERNEL] = b"".join(to_bytes(event) + b"\n" for event in [read, failed, *events])
        derive(members)

    report = surface_difference(load_run(S5), load_run(extract(HIDDEN, more)), Granularity.PREFIX)
    ((node,),) = (category.children for category in report.categories)
    assert node.key == "/workspace/"
    assert [(child.key, child.example and child.example.operation) for child in node.children] == [
        ("create by subject", "create"),
        ("write by subject", "create"),
    ]
    assert all(child.example and child.example.outcome == "ok" for child in node.children)


def test_class_counts_names_of_a_kind() -> None:
    report = surface_difference(load_run(S5), load_run(HIDDEN), Granularity.CLASS)
    ((create, write),) = (category.children for category in report.categories)
    assert (create.key, create.kind, create.base, create.head) == ("create by subject", Kind.ADDED, "0", "1")
    assert (write.key, write.kind, write.base, write.head) == ("write by subject", Kind.ADDED, "1", "2")


@pytest.mark.parametrize(
    ("category", "name", "place"),
    [
        ("paths", "/a/b.txt", "/a/"),
        ("paths", "/a", "/"),
        ("paths", "memfd:x", "memfd:x"),
        ("network", "connect ipv4 1.2.3.4:80", "connect ipv4 1.2.3.4"),
        ("network", "connect ipv6 [::1]:80", "connect ipv6 [::1]"),
        ("network", "bind unix /run/x", "bind unix /run/x"),
        ("execs", "/bin/sh -c 'rm -r \"/\"' (called sh)", "/bin/sh"),
        ("execs", "'/bin/my sh' -c x", "/bin/my sh"),
        ("tools", "read_file", "read_file"),
    ],
)
def test_places(category: str, name: str, place: str) -> None:
    assert shape.place_of(category, name) == place


@given(st.text(min_size=1), st.none() | st.text(), st.lists(st.text()))
def test_any_program_has_a_place(path: str, called: str | None, argv: list[str]) -> None:
    name = shape.exec_name(
        ExecCapability(path=path, called=called, argv=tuple(argv) or None, result="done", roles=())
    )
    assert shape.place_of("execs", name) == path


def test_done_by_one_is_done_for_the_place() -> None:
    merged = shape.by_place(
        {"paths": {"/a/x": {"w": "attempted"}, "/a/y": {"w": "done"}, "/a/z": {"w": "attempted"}}}
    )
    assert merged == {"paths": {"/a/": {"w": "done"}}}


def changed(*kinds: Kind) -> Difference:
    children = tuple(Difference(key=str(kind), kind=kind) for kind in kinds)
    return Difference(key="x", kind=Kind.CHANGED, children=children)


@pytest.mark.parametrize(
    ("node", "added", "removed"),
    [
        (Difference(key="x", kind=Kind.ADDED), True, False),
        (Difference(key="x", kind=Kind.REMOVED), False, True),
        (Difference(key="x", kind=Kind.CHANGED, base="allow", head="deny"), True, True),
        (changed(Kind.ADDED), True, False),
        (changed(Kind.REMOVED), False, True),
        (changed(Kind.REMOVED, Kind.ADDED), True, True),
        (changed(Kind.CHANGED), True, True),
    ],
)
def test_what_counts(node: Difference, added: bool, removed: bool) -> None:
    found = [is_finding(node, fail_on) for fail_on in (FailOn.ANY, FailOn.ADDED, FailOn.REMOVED, FailOn.NONE)]
    assert found == [True, added, removed, False]


def test_v1_is_refused_where_a_side_has_none_and_v0_is_told(extract: Extract) -> None:
    def reference(members: dict[str, bytes]) -> None:
        for name in [name for name in members if name.startswith("companion/")]:
            del members[name]

    head = load_run(extract(HIDDEN, reference, forge=False))
    report = surface_difference(load_run(S5), head)
    assert report.contract is Contract.V0
    assert any(note.startswith("compared_on_v0") for note in report.notes)
    assert findings(report, FailOn.ANY) == 1
    ((node,),) = (category.children for category in report.categories)
    assert node.example is None
    with pytest.raises(InputError, match="has no surface v1"):
        surface_difference(load_run(S5), head, contract=Contract.V1)


def test_names_that_differ_only_in_bytes_that_are_no_utf_8_are_told_apart(extract: Extract) -> None:
    def renamed(raw: str) -> Any:
        def change(members: dict[str, bytes]) -> None:
            named = f'"path":"/workspace/\ufffd","path_hex":"{raw}"'.encode()
            members[KERNEL] = members[KERNEL].replace(f'"path":"{READ}"'.encode(), named)
            derive(members)

        return change

    base = load_run(extract(S5, renamed("2f776f726b73706163652fff")))
    head = load_run(extract(S5, renamed("2f776f726b73706163652ffe")))
    ((first, second),) = (category.children for category in surface_difference(base, head).categories)
    assert {first.kind, second.kind} == {Kind.ADDED, Kind.REMOVED}


def test_an_archive_that_does_not_verify_is_not_compared(extract: Extract) -> None:
    def forged(members: dict[str, bytes]) -> None:
        members["capability-surface.json"] = members["capability-surface.json"].replace(
            b"hidden-write", b"hidden-writf"
        )

    with pytest.raises(VerificationError):
        load_run(extract(HIDDEN, forged))
