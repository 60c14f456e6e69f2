"""Pages as people see them: nothing is fetched, nothing complains, nothing sticks out, narrow and wide."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bundle.reader import read_archive
from harness.cli import main
from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.companion import PROCESSES, SURFACE
from harness.contracts.difference import DifferenceReport, Kind
from harness.present.html import as_html
from harness.present.page import page
from harness.present.report import as_report
from tests.pages.chromium import Browser
from tests.unit.compare.conftest import GEMINI, HIDDEN, S5, Extract, extract
from tests.unit.present.conftest import EVERY, HOSTILE, node, report

__all__ = ["extract"]

SHOTS = Path(__file__).parents[2] / "out" / "pages"
NARROW, WIDE = 400, 1400
FETCHES = '<img src="http://127.0.0.1:9/x.png"><link rel=stylesheet href="http://127.0.0.1:9/x.css">'
RUNS = "<script>console.log('ran')</script><img src=x onerror=\"console.log('ran')\">"
# Of all text: what is not wide enough for itself, and what is smaller than anyone reads.
_MEASURE = """
(() => {
  const seen = [...document.querySelectorAll('main *')].filter(e => e.checkVisibility());
  return {
    wide: document.documentElement.scrollWidth - innerWidth,
    out: seen.filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML),
    small: seen.filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.tagName),
    margin: document.querySelector('main').getBoundingClientRect().left,
    text: document.body.innerText.length,
  };
})()
"""
# WCAG 2.2, 1.4.3: 4.5 to 1 for all text against what is behind it.
_CONTRAST = """
(() => {
  const parts = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => parts(c).slice(0, 3).map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor, p = parts(c);
    if (p.length < 4 || p[3] > 0) return c; } return 'rgb(255, 255, 255)'; };
  return [...document.querySelectorAll('main *')].filter(e => e.checkVisibility() && e.innerText).map(e => {
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    return (a + .05) / (b + .05); }).reduce((least, ratio) => Math.min(least, ratio), 21);
})()
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


@pytest.fixture
def pages(tmp_path: Path, extract: Extract) -> dict[str, Path]:
    """Each page that the commands write, of real runs, of hostile ones, and of long ones."""
    made = {}

    def write(name: str, *arguments: str | Path, code: int = 0) -> None:
        made[name] = tmp_path / f"{name}.html"
        assert main([*map(str, arguments), "-o", str(made[name])]) == code

    write("report", "report", HIDDEN)
    write("report-gemini", "report", GEMINI)
    write("diff", "diff", S5, HIDDEN, "--format", "html", code=1)
    write("diff-none", "diff", S5, S5, "--format", "html")
    write("diff-runtimes", "diff", S5, GEMINI, "--cross-runtime", "--format", "html", code=1)
    write("report-v0", "report", extract(HIDDEN, _reference, forge=False))
    for name, found in (("hostile", EVERY), ("long", _long())):
        made[f"diff-{name}"] = tmp_path / f"diff-{name}.html"
        made[f"diff-{name}"].write_text(as_html(found), encoding="utf-8")
    return made


def _reference(members: dict[str, bytes]) -> None:
    for name in [name for name in members if name.startswith("companion/")]:
        del members[name]


def _long() -> DifferenceReport:
    """A long path, a name without a joint, many differences."""
    deep = node("/w" + "/a-folder-with-a-name" * 30, Kind.ADDED, head="x" * 2000)
    return report(deep, *(node(f"/w/{number}", Kind.REMOVED) for number in range(300)))


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_every_page_is_readable_and_alone(browser: Browser, pages: dict[str, Path], width: int) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    for name, path in pages.items():
        for dark in (False, True):
            browser.show(path, width, dark=dark)
            assert (name, browser.network, browser.console) == (name, [path.as_uri()], [])
            seen = browser.evaluate(_MEASURE)
            assert seen["wide"] <= 0, (name, seen["out"])
            assert (name, seen["out"], seen["small"]) == (name, [], [])
            assert seen["margin"] >= 8
            assert seen["text"] > 50
            assert browser.evaluate(_CONTRAST) >= 4.5, (name, dark)
            browser.screenshot(SHOTS / f"{name}-{width}{'-dark' if dark else ''}.png")


def test_what_is_folded_is_shown_when_asked(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show(pages["report"], NARROW)
    folded = browser.evaluate("document.body.innerText.length")
    browser.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.evaluate("document.body.innerText.length") > folded
    assert browser.evaluate(_MEASURE)["wide"] <= 0


def test_names_of_a_stranger_run_nothing(browser: Browser, tmp_path: Path, extract: Extract) -> None:
    def hostile(members: dict[str, bytes]) -> None:
        surface = load_json(members[SURFACE], SURFACE)
        surface["paths"][0]["path"] = HOSTILE + FETCHES + RUNS
        members[SURFACE] = to_bytes(surface)
        tree = load_json(members[PROCESSES], PROCESSES)
        tree["processes"][0]["execs"][0]["argv"] = [HOSTILE, FETCHES, RUNS]
        members[PROCESSES] = to_bytes(tree)

    path = tmp_path / "hostile.html"
    path.write_text(as_report(read_archive(extract(HIDDEN, hostile))), encoding="utf-8")
    browser.show(path, WIDE)
    assert (browser.network, browser.console) == ([path.as_uri()], [])
    assert browser.evaluate("document.images.length") == 0


def test_a_page_that_fetched_or_spoke_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    """What the other tests look for is found where it is; and the page's own policy would still stop it."""
    path = tmp_path / "wrong.html"
    path.write_text(page("wrong", [FETCHES, RUNS]), encoding="utf-8")
    browser.show(path, WIDE)
    assert any("Content Security Policy" in told for told in browser.console)
    assert not any("ran" in told and "Policy" not in told for told in browser.console)

    without = page("wrong", [FETCHES, RUNS, "<p style='width: 3000px'>wide</p>"])
    path.write_text(without.replace("Content-Security-Policy", "x"), encoding="utf-8")
    browser.show(path, WIDE)
    assert "http://127.0.0.1:9/x.png" in browser.network
    assert any('"ran"' in told for told in browser.console)
    assert browser.evaluate(_MEASURE)["wide"] > 0
