"""A difference as Markdown for a CI step summary, cut before the size that CI refuses."""

import re

from harness.contracts.difference import DifferenceReport
from harness.present import words

# GitHub refuses a step summary of more than 1 MiB; other steps may add to the same one.
MAX_BYTES = (1 << 20) - (64 << 10)
_TICKS = re.compile(r"`+")


def as_markdown(report: DifferenceReport, max_bytes: int = MAX_BYTES) -> str:
    """At most `max_bytes` of UTF-8, with a last line that says how many differences were cut."""
    head = [f"### assay-runner: {words.summary(report)}", ""]
    if caveat := words.caveat(report):
        head += [f"> **{caveat}**", ""]
    head += [f"Base {code(report.base)}, head {code(report.head)}; {words.basis(report)}.", ""]
    foot = [f"- note: {code(note)}" for note in report.notes]
    rows: list[tuple[bool, str]] = []
    for category in report.categories:
        rows.append((False, f"\n#### {words.title(category)}\n"))
        for node in category.children:
            done = words.aspects(node)
            text = f"- **{node.kind}** {code(words.headline(node))}" + (f": {code(done)}" if done else "")
            text += "".join(f"\n  - e.g. {code(one)}" for one in words.examples(node))
            rows.append((True, text))
    total = sum(counted for counted, _ in rows)
    room = max_bytes - len(_joined(head)) - 200  # for the line that tells of the cut
    kept: list[str] = []
    told = 0
    for counted, text in rows:
        room -= len(text.encode()) + 1
        if room < 0:
            break
        kept.append(text)
        told += counted
    if told < total:
        kept += ["", f"**{total - told} of {total} differences were cut: this page may not be larger.**"]
    elif foot and room > len(_joined(foot)):
        kept += ["", *foot]
    return "\n".join([*head, *kept]) + "\n"


def code(text: str) -> str:
    """A code span whose fence is longer than any run of backticks in it (CommonMark §6.1)."""
    plain = words.shown(text)
    fence = "`" * (max((len(run) for run in _TICKS.findall(plain)), default=0) + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") or not plain.strip() else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def _joined(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
