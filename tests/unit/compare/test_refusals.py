"""What the policy proxy refused is told by diff, check, summary and report."""

from pathlib import Path
from typing import Any

import pytest

from harness.bundle.verify import check
from harness.compare.baseline import accept, check_run
from harness.compare.tree import Run, load_run, surface_difference
from harness.contracts import companion
from harness.contracts.canonical import load_ndjson
from harness.present.report import as_report
from harness.present.summary import summary_of
from tests.unit.bundle.conftest import S5, Forge, Members, archive, forge, members
from tests.unit.bundle.test_verify import refused, with_policy_lines

__all__ = ["archive", "forge", "members"]


@pytest.fixture
def runs(archive: Path, members: Members, forge: Forge) -> tuple[Run, Run]:
    """The same run, and one that was refused things and lost a server."""
    lines: list[dict[str, Any]] = load_ndjson(members[companion.POLICY], "policy")
    lines += [refused(1, request_id=number) for number in range(100)]
    lines += [refused(1, count=900), refused(2) | {"event": "killed", "reason": "response_too_long"}]
    asked = {"event": "decided", "name": "file:///a", "decision": "deny", "rule": "default"}
    lines.append(refused(2) | asked | {"reason": "P_TOOL_NOT_ALLOWED"})
    return load_run(archive), load_run(forge(with_policy_lines(members, lines)))


def rows(base: Run, head: Run) -> dict[str, list[tuple[str, str]]]:
    found = surface_difference(base, head).categories
    return {category.key: [(node.key, node.kind.value) for node in category.children] for category in found}


def test_a_diff_tells_refusals_and_ends_that_came_or_went(runs: tuple[Run, Run]) -> None:
    base, head = runs
    told = [("a server, killed", "added"), ("resources/read", "added")]
    assert rows(base, head) == {"asked": [("resources/read file:///a", "added")], "refused": told}
    assert set(rows(head, base)) == {"asked", "refused"}
    assert rows(head, head) == {}


def test_a_baseline_keeps_them_and_one_of_before_is_not_held_against_them(runs: tuple[Run, Run]) -> None:
    base, head = runs
    assert [category.key for category in check_run(accept(base), head).categories] == ["asked", "refused"]
    before = accept(load_run(S5))
    assert check_run(before, head).categories == ()


def test_with_a_side_of_before_they_are_not_compared_and_that_is_said(runs: tuple[Run, Run]) -> None:
    report = surface_difference(load_run(S5), runs[1])
    assert report.categories == ()
    assert any(note.startswith("refusals_not_compared") for note in report.notes)


def test_report_and_summary_tell_them(runs: tuple[Run, Run]) -> None:
    head = check(Path(runs[1].archive.place))
    page = as_report(head)
    assert "method_not_permitted, request 99" in page
    assert "method_not_permitted, 900 times more" in page
    assert "killed: response_too_long" in page
    calls = summary_of(head.members).calls
    assert calls is not None
    assert calls.refused == 1000
