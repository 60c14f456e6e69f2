"""A difference for a terminal: grouped by category, one line for each capability, coloured if wanted."""

import os
import sys

from harness.contracts.difference import DifferenceReport, Kind
from harness.present import words

_RESET = "\x1b[0m"
# What is newly possible is the risky side; what is not any more is not.
_COLOURS = {Kind.ADDED: "\x1b[31m", Kind.REMOVED: "\x1b[36m", Kind.CHANGED: "\x1b[33m"}
_BOLD, _DIM = "\x1b[1m", "\x1b[2m"


def wants_colour() -> bool:
    """Only a terminal, and not where NO_COLOR is set to anything but nothing (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def as_text(report: DifferenceReport, *, colour: bool = False) -> str:
    """Lines ending in a newline."""

    def paint(code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if colour else text

    lines = [f"base {words.shown(report.base)}", f"head {words.shown(report.head)}"]
    for category in report.categories:
        lines.append(paint(_BOLD, words.title(category)))
        for node in category.children:
            line = f"  {words.SIGNS[node.kind]} {words.headline(node)}"
            lines.append(paint(_COLOURS[node.kind], line))
            if done := words.aspects(node):
                lines.append(f"      {done}")
            lines += [paint(_DIM, f"      e.g. {text}") for text in words.examples(node)]
    lines += [f"note: {words.shown(note)}" for note in report.notes]
    if caveat := words.caveat(report):
        lines.append(paint(_COLOURS[Kind.CHANGED], caveat))
    lines.append(f"{words.summary(report)} ({words.basis(report)})")
    return "\n".join(lines) + "\n"
