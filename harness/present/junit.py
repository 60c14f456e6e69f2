"""A difference as JUnit XML, as CI servers read it: a suite for each category, a case for each capability."""

from xml.sax.saxutils import quoteattr

from harness.contracts.capability_diff import DiffStatus
from harness.contracts.difference import Difference, DifferenceReport, FailOn, findings, is_finding
from harness.present import words


def as_junit(report: DifferenceReport, fail_on: FailOn) -> bytes:
    """What `fail_on` counts fails; the suite "evidence" fails when the evidence is not clean."""
    unclean = report.status is not DiffStatus.CLEAN
    failures = findings(report, fail_on) + unclean
    tests = 1 + sum(len(category.children) for category in report.categories)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="assay-runner" tests="{tests}" failures="{failures}" errors="0" time="0">',
        f'  <testsuite name="evidence" tests="1" failures="{int(unclean)}" errors="0" skipped="0" time="0">',
        *_case("evidence", words.basis(report), words.caveat(report), "\n".join(report.notes)),
        "  </testsuite>",
    ]
    for category in report.categories:
        failed = sum(is_finding(node, fail_on) for node in category.children)
        lines.append(
            f'  <testsuite name={_attribute(words.title(category))} tests="{len(category.children)}" '
            f'failures="{failed}" errors="0" skipped="0" time="0">'
        )
        for node in category.children:
            lines += _node(category, node, is_finding(node, fail_on))
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>", ""]).encode()


def _node(category: Difference, node: Difference, fails: bool) -> list[str]:
    message = f"{node.kind}: {words.headline(node)}"
    text = "\n".join(filter(None, [words.aspects(node), *(f"e.g. {one}" for one in words.examples(node))]))
    return _case(category.key, words.headline(node), message if fails else None, text or message)


def _case(group: str, name: str, failure: str | None, text: str) -> list[str]:
    head = f'    <testcase classname={_attribute(f"assay-runner.{group}")} name={_attribute(name)} time="0"'
    if failure is None:
        return [f"{head}/>"]
    return [
        f"{head}>",
        f'      <failure type="difference" message={_attribute(failure)}>{_escaped(text)}</failure>',
        "    </testcase>",
    ]


def _attribute(text: str) -> str:
    return quoteattr(words.shown(text))


def _escaped(text: str) -> str:
    """Line ends stay; no other control character may stand in XML 1.0 (§2.2)."""
    lines = (words.shown(line) for line in text.split("\n"))
    return "\n".join(lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
