"""Books and kernel layer agree about looks at the host, or the archive does not verify."""

from collections.abc import Callable
from typing import Any

import pytest

from harness.bundle.verify import verify
from harness.contracts import companion
from harness.contracts.canonical import load_json, ndjson, to_bytes
from harness.evidence.assemble import assemble
from tests.unit.bundle.conftest import Forge, Members, derive, remake_manifests
from tests.unit.evidence.build import Run, context

BOOKS = companion.ACCOUNTING
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def honest() -> Members:
    assembled = assemble(Run(1).observation(), context())
    return remake_manifests(assembled.v0 | dict(sorted(assembled.companion.items())))


def places(forge: Forge, members: Members) -> list[tuple[str, str]]:
    problems = verify(forge(remake_manifests(members))).problems
    return [(problem.member, problem.place) for problem in problems]


def test_what_the_writer_makes_holds(forge: Forge, honest: Members) -> None:
    assert load_json(honest[BOOKS], "books")["host_view"]
    assert places(forge, honest) == []


def more_than_records(books: dict[str, Any]) -> None:
    books["host_view"]["/proc/self/maps"] += 100


@pytest.mark.parametrize(
    "change",
    [
        more_than_records,
        lambda books: books["host_view"].update({"/workspace/x": 1}),
        lambda books: books["host_view"].update({"/proc/cpuinfo": 0}),
        lambda books: books["host_view"].clear(),
        lambda books: books.pop("host_view"),
    ],
)
def test_false_counts_are_found(forge: Forge, honest: Members, change: Change) -> None:
    books = load_json(honest[BOOKS], "books")
    change(books)
    assert set(places(forge, honest | {BOOKS: to_bytes(books)})) == {(BOOKS, "/host_view")}


def test_a_look_that_is_told_all_the_same_is_found(forge: Forge, honest: Members) -> None:
    line = {
        "schema": "assay.runner.kernel_event.v1", "run_id": "run_test", "seq": 0, "role": "subject",
        "process": "subject.0", "operation": "open", "outcome": "ok", "event_class": "procfs",
        "path": "/proc/meminfo", "access": "read",
    }  # fmt: skip
    members = dict(honest)
    members[companion.KERNEL] += ndjson([line])
    derive(members)
    assert any(member == companion.KERNEL for member, _ in places(forge, members))


def test_an_archive_from_before_tells_them(forge: Forge, members: Members) -> None:
    """It has neither the class nor the counts; the same line holds there."""
    assert "host_view" not in load_json(members[BOOKS], "books")
    assert b'"path":"/proc/meminfo"' in members[companion.KERNEL]
    assert places(forge, members) == []
