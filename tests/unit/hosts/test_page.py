"""The page of hosts: what is red shows, and is no success."""

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from tests.hosts import matrix, report
from tests.hosts.boot import Accelerator
from tests.hosts.matrix import Back, Counts, RowDone, StepDone

GREEN = RowDone(
    name="debian12-hybrid",
    release="6.1.0-1-amd64",
    accelerator="tcg",
    apparmor="Y",
    docker="20.10",
    boot_s=50.0,
    job_s=100.0,
    trouble="",
    tree="0123456789abcdef",
    at="2026-01-01 00:00",
    steps=(StepDone("doctor", 0, 12), StepDone("replay", 0, 90, "kernel-only 9 of 9")),
    counts=Counts(4, 1000, 0, 0),
    back=(Back("kernel-only", 0, "9 of 9"),),
)


def test_a_page_without_rows_says_that_nothing_was_shown() -> None:
    page = report.page([], Accelerator("tcg", "no /dev/kvm"))
    assert "**No machine has been run to its end yet" in page
    assert "## Verdicts" not in page


def test_a_green_row_is_green() -> None:
    assert GREEN.ok
    page = report.page([GREEN], Accelerator("tcg", "no /dev/kvm"))
    assert "**" not in page.partition("## Verdicts")[2].partition("## What each")[0]
    assert "The machines were emulated: no /dev/kvm." in page


@pytest.mark.parametrize(
    ("damage", "shown"),
    [
        ({"steps": (StepDone("doctor", 5, 12),)}, "**exit 5** 12"),
        ({"steps": (StepDone("doctor", None, None),)}, "**not reached**"),
        ({"counts": Counts(4, 1000, 3, 0)}, "**3**"),
        ({"counts": Counts(4, 1000, 0, 7)}, "**7**"),
        ({"back": (Back("kernel-only", 1, "7 of 9"),)}, "**kernel-only 7 of 9**"),
        ({"back": (Back("kernel-only", None, "no kit came"),)}, "**kernel-only no kit came**"),
        ({"trouble": "the machine said nothing for 240 s: it hangs"}, "it hangs"),
    ],
)
def test_whatever_is_wrong_makes_a_row_red_and_shows(damage: dict[str, Any], shown: str) -> None:
    red = evolve(GREEN, **damage)
    assert not red.ok
    assert shown in report.page([red], Accelerator("kvm", "it boots"))


def test_a_job_that_stops_midway_leaves_steps_not_reached(tmp_path: Path) -> None:
    said = "GUEST 6.1\nSTEP enter begins\nSTEP enter 0 9\nSTEP doctor begins\nok"
    steps = matrix._steps(("enter", "doctor"), said, tmp_path)
    assert [(step.name, step.code, step.seconds) for step in steps] == [
        ("enter", 0, 9),
        ("doctor", None, None),
    ]


def test_counts_of_tests_are_told(tmp_path: Path) -> None:
    (tmp_path / "capture.log").write_text("....F\n1 failed, 4 passed in 20.5s\n", encoding="utf-8")
    assert matrix._essence("capture", tmp_path) == "1 failed, 4 passed"


def test_equal_members_come_from_the_replay_itself() -> None:
    assert matrix.equal_members(json.dumps({"compared": ["a"] * 9, "differences": ["x", "y"]})) == "7 of 9"
    assert matrix.equal_members("exit 3: not clean") == ""
