"""Text, Markdown and HTML: readable, stable, and not to be led by what an archive brings."""

import re
import sys
from html.parser import HTMLParser

import pytest
from attrs import evolve

from harness.bundle.reader import read_archive
from harness.bundle.verify import check
from harness.compare.tree import load_run, surface_difference
from harness.contracts.canonical import load_json, load_ndjson, ndjson, to_bytes
from harness.contracts.companion import KERNEL, PROCESSES, RUNSPEC
from harness.contracts.difference import Difference, Example, Kind
from harness.present.html import as_html
from harness.present.markdown import as_markdown, code
from harness.present.report import as_report
from harness.present.text import as_text, wants_colour
from tests.unit.bundle.derive import derive
from tests.unit.present.conftest import (
    ADDED,
    EVERY,
    HIDDEN,
    HOSTILE,
    REMOVED,
    S5,
    TURNED,
    Extract,
    node,
    report,
)

STEERS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e]")


def test_text_is_grouped_and_says_who_did_it() -> None:
    assert as_text(report(ADDED, REMOVED, TURNED)).splitlines() == [
        "base run_1",
        "head run_2",
        "Paths",
        "  + /w/new",
        "      write by tools",
        "      e.g. open (ok) by tools.0.0 in tools; tool call tc_1 (exact)",
        "  - /w/old",
        "      read by tools",
        "  ~ /w/turned",
        "      - read by tools, + write by tools (attempted)",
        "      e.g. open (ok) by tools.0.0 in tools; tool call tc_1 (exact)",
        "3 differences: 1 added, 1 removed, 1 changed (surface v1, granularity exact, evidence clean)",
    ]


def test_an_ambiguous_example_names_its_candidates() -> None:
    assert ADDED.example is not None
    example = evolve(ADDED.example, match="ambiguous", tool_call_ids=("tc_1", "tc_2"))
    made = as_text(report(evolve(ADDED, example=example)))
    assert "of one of the tool calls tc_1, tc_2" in made


def test_nothing_of_the_archive_steers_a_terminal() -> None:
    for colour in (False, True):
        made = re.sub(r"\x1b\[\d*m", "", as_text(EVERY, colour=True)) if colour else as_text(EVERY)
        assert not STEERS.search(made)
        assert "\\x1b[31m" in made


@pytest.mark.parametrize(
    ("terminal", "no_color", "wanted"),
    [(True, None, True), (True, "", True), (True, "1", False), (False, None, False)],
)
def test_colour_is_for_terminals_without_no_color(
    terminal: bool, no_color: str | None, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert wants_colour() is wanted


def test_markdown_keeps_hostile_names_in_one_line_and_one_span() -> None:
    made = as_markdown(EVERY)
    assert not STEERS.search(made)
    assert "\n# up" not in made
    # The name's own three backticks are inside a fence of four.
    assert "````" in made


@pytest.mark.parametrize("name", ["`", "a`b", "``", "` `", " ", "a"])
def test_a_code_span_has_a_fence_that_its_text_has_not(name: str) -> None:
    span = code(name)
    fence = re.match(r"`+", span)
    assert fence is not None
    inside = span[len(fence[0]) : -len(fence[0])]
    assert fence[0] not in re.findall(r"`+", inside)
    assert not inside.startswith("`")
    assert name in inside


def test_markdown_is_cut_below_its_bound_and_says_so() -> None:
    nodes = tuple(node(f"/w/{number:06}-é", Kind.ADDED) for number in range(40_000))
    made = as_markdown(report(*nodes))
    assert len(made.encode()) < 1 << 20
    told = re.search(r"\*\*(\d+) of 40000 differences were cut", made)
    assert told is not None
    assert made.count("- **added**") + int(told[1]) == 40_000
    assert "were cut" not in as_markdown(report(*nodes[:100]))


class Page(HTMLParser):
    """Tags and attributes as a browser would see them."""

    VOID = ("meta", "br", "wbr")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def self_contained(page: str) -> Page:
    """Balanced, without scripts, and with nothing that is fetched."""
    seen = Page(page)
    assert seen.open == []
    assert not seen.tags & {"script", "img", "link", "iframe", "object", "base", "form", "a", "svg"}
    assert seen.attributes <= {"lang", "charset", "name", "content", "http-equiv", "class"}
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert not STEERS.search(page)
    return seen


def test_the_page_of_a_difference_escapes_everything() -> None:
    seen = self_contained(as_html(EVERY))
    assert "<img src=x onerror=" in seen.text
    assert "tool call tc_1 (exact)" in seen.text
    assert "may still differ" in seen.text


HIDDEN_WRITE = Example(
    role="subject",
    process="subject.0",
    operation="create",
    outcome="ok",
    match="unattributed",
    tool_call_ids=(),
)


def outside(name: str, aspect: str = "write by subject") -> Difference:
    """Something that the agent itself does in no tool call."""
    children = (node(aspect, Kind.ADDED, head="done"),)
    return node(name, Kind.ADDED, example=HIDDEN_WRITE, children=children)


def test_what_is_newly_possible_looks_risky_and_what_is_gone_does_not() -> None:
    colours = dict(re.findall(r"--(\w+): (#\w+)", as_html(EVERY).partition("@media")[0]))
    styles = dict(re.findall(r"\.(added|removed)[^{]*\{ color: var\(--(\w+)\)", as_html(EVERY)))
    red, green, blue = (int(colours[styles["added"]][at : at + 2], 16) for at in (1, 3, 5))
    assert red > 2 * max(green, blue)
    assert styles["removed"] not in (styles["added"], "good")
    text = as_text(report(ADDED, REMOVED), colour=True)
    assert "\x1b[31m  + /w/new" in text
    assert "\x1b[31m  - /w/old" not in text


def test_a_hidden_write_stands_before_all_else_and_is_marked() -> None:
    many = [evolve(ADDED, key=f"/a/{number:04}") for number in range(500)]
    page = as_html(report(*many, outside("/w/hidden"), outside("/w/looked-at", "read by subject")))
    seen = self_contained(page)
    first = seen.text.index("/w/hidden")
    assert first < seen.text.index("/a/0000")
    assert "outside any tool call" in seen.text[:first]
    assert "write by subject" in seen.text[first : first + 80]
    assert page.count('class="card bad"') == 2  # at the top, and where it stands in its category
    assert seen.text.count("/w/looked-at") == 1
    assert "outside any tool call" not in as_html(report(ADDED, REMOVED, TURNED))


def test_many_hidden_writes_leave_room_on_the_first_screen() -> None:
    seen = self_contained(as_html(report(*(outside(f"/w/{number:02}") for number in range(20)))))
    assert "and 12 more, marked so below" in seen.text


def test_a_real_hidden_write_is_on_the_first_screen() -> None:
    found = as_html(surface_difference(load_run(S5), load_run(HIDDEN)))
    assert found.index("outside any tool call") < found.index("<h2>Paths</h2>")
    told = as_report(check(HIDDEN))
    assert told.index("write /workspace/hidden-write-output.txt") < told.index("<h2>Health</h2>")
    assert "outside any tool call" in told


def test_the_page_of_an_archive_has_health_surface_attribution_and_processes() -> None:
    seen = self_contained(as_report(check(HIDDEN)))
    for told in (
        "every record is accounted for",
        "/workspace/hidden-write-output.txt",
        "create by subject",
        "tc_runner_policy_001",
        "open (ok) by tools.0.0, exact",
        "create (ok) by subject.0, unattributed",
        "tools.0.0",
    ):
        assert told in seen.text


def test_the_page_of_an_archive_says_whether_the_image_was_the_locked_one(extract: Extract) -> None:
    for locked in (True, False):

        def say(members: dict[str, bytes], *, locked: bool = locked) -> None:
            members[RUNSPEC] = to_bytes(load_json(members[RUNSPEC], RUNSPEC) | {"image_locked": locked})

        seen = self_contained(as_report(read_archive(extract(HIDDEN, say))))
        assert ("(the one of its lock)" in seen.text) is locked
        assert ("not the one of its lock)" in seen.text) is not locked


def test_the_page_of_an_archive_escapes_everything(extract: Extract) -> None:
    def hostile(members: dict[str, bytes]) -> None:
        lines = load_ndjson(members[KERNEL], KERNEL)
        ran = next(line for line in lines if line["operation"] == "exec")
        del ran["path"], ran["argv"]
        ran |= {"event_class": "evidence", "path": HOSTILE, "argv": [HOSTILE]}
        members[KERNEL] = ndjson(lines)
        tree = load_json(members[PROCESSES], PROCESSES)
        (node,) = (node for node in tree["processes"] if node["process"] == ran["process"])
        node["execs"] = [{"path": HOSTILE, "argv": [HOSTILE]}]
        members[PROCESSES] = to_bytes(tree)
        derive(members)

    seen = self_contained(as_report(check(extract(HIDDEN, hostile))))
    assert seen.text.count("<img src=x onerror=") == 7


def test_the_page_of_an_archive_without_a_companion_tells_what_v0_knows(extract: Extract) -> None:
    def reference(members: dict[str, bytes]) -> None:
        for name in [name for name in members if name.startswith("companion/")]:
            del members[name]

    seen = self_contained(as_report(check(extract(HIDDEN, reference, forge=False))))
    assert "/workspace/hidden-write-output.txt" in seen.text
    assert "names only" in seen.text


def test_processes_that_descend_from_each_other_alone_are_told(extract: Extract) -> None:
    def loop(members: dict[str, bytes]) -> None:
        tree = load_json(members[PROCESSES], PROCESSES)
        first, second = tree["processes"][:2]
        first["parent"], second["parent"] = second["process"], first["process"]
        members[PROCESSES] = to_bytes(tree)

    archive = read_archive(extract(HIDDEN, loop))
    assert "descend from each other alone" in self_contained(as_report(archive)).text


def test_the_same_archive_gives_the_same_bytes() -> None:
    assert as_report(read_archive(S5)) == as_report(read_archive(S5))
    for made in (as_html, as_text, as_markdown):
        assert made(EVERY) == made(EVERY)
