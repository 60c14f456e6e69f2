"""docs/guarantees.md, from the code's own lists and the tests that break each thing on purpose.

`python -m tests.guarantees` prints the page; `--write` puts it into docs/. A test says what it breaks by
`@pytest.mark.breaks("unclean:ring_drops", …)`. A promise that no test breaks is an error, and so is a mark
for something that nobody promises.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

from harness.bundle.codes import CODES
from harness.bundle.meaning import RULES
from harness.contracts.companion import CaptureCounts, KindCounts
from harness.evidence.accounting import identities
from harness.evidence.causes import WORDS
from harness.evidence.model import Kind

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guarantees.md"
ORACLE = ROOT / "docs" / "oracle.json"
_MARK = "breaks"
_HEAD = """# Guarantees

Written by `python -m tests.guarantees --write` from the code's own lists. Each row names the test that breaks
the thing on purpose and sees it caught; a row without one fails the build. What is not promised is in
[limits.md](limits.md).
"""

# What keeps a container's processes from where a witness cannot see, or from the witnesses themselves.
GUARDS = {
    "io_uring": "no io_uring: its operations pass no system call",
    "foreign_calls": "no 32-bit or x32 system call: the process is killed",
    "leases": "no leases: a holder could stop others in the middle of an open and swap names meanwhile",
    "namespaces": "no new namespaces: the seal and the walk of paths rest on the container's own",
    "tracing": "no tracing, and no reading of another process's memory",
    "cgroup": "no way to another cgroup",
    "network": "nothing but loopback in the network namespace, checked at start and end",
    "read_only_root": "nothing of the image can be written",
    "privileges": "an unprivileged user, no capabilities, no new privileges",
    "policy_socket": "the socket to the proxy is the host's: nobody in a container can replace it",
    "policy_file": "the MCP server cannot read the policy",
    "proxy_memory": "the MCP server cannot read or write the proxy",
    "decisions_socket": "only the proxy speaks for the policy, and only once",
    "killed_harness": "what a killed run leaves is found and removed at the next start",
    "whole_files": "there is never half an archive at its name",
}
# What the kernel counts of each kind of record, and what user space counts beside it.
COUNTERS = {
    "seen": "an event reached the program",
    "submitted": "a record of it went into the ring",
    "dropped": "the ring was full",
    "oversized": "the record was larger than a record may be",
    "fault": "the record could not be made",
    "truncated": "a name in it was cut",
    "unreadable": "a name in it could not be read",
    "recursion_misses": "the kernel did not run the program",
    "decode_errors": "bytes of the ring are no record",
    "freezes": "the run was frozen until the ring was empty again",
}

IDENTITIES = {
    "<kind>_seen": "seen = submitted + dropped + oversized + fault, in the kernel",
    "<kind>_decoded": "submitted = decoded, of each kind",
    "total_seen": "the same over all kinds",
    "received": "submitted in the kernel = received in user space",
    "decoded": "received = decoded + decode errors",
    "records": "decoded = records in the evidence",
    "classes": "decoded = the sum over all classes of evidence",
    "sentinels": "each test record sent = one seen",
    "bytes": "records have bytes",
    "freezes": "freezes have time",
    "ring_high_water": "the ring was never fuller than it is large",
}


@frozen
class Group:
    """A part of the page: `things` are names with what they mean."""

    key: str
    title: str
    text: str
    things: Mapping[str, str]


def groups() -> tuple[Group, ...]:
    """All that must be broken by a test."""
    return (
        Group("guard", "Guards", "What a container's processes cannot do.", GUARDS),
        Group("counter", "Counters", "What is counted while the run goes on.", COUNTERS),
        Group("identity", "Identities", "What must add up, or the run is not clean.", _identities()),
        Group(
            "unclean",
            "Reasons why a run is not clean",
            "Each is said by `run`, in words, and stands in `companion/accounting.json`.",
            {code: text for code, (text, _) in WORDS.items()},
        ),
        Group(
            "verify",
            "Codes of `verify`",
            "What makes an archive refused, whoever wrote it.",
            {code: found.text for code, found in CODES.items()},
        ),
        Group(
            "rule",
            "Rules of `verify`",
            "What is recomputed from other members.",
            {rule.name: rule.text for rule in RULES if rule.checks},
        ),
    )


def _identities() -> dict[str, str]:
    nothing = KindCounts(seen=0, submitted=0, dropped=0, oversized=0, fault=0, truncated=0, unreadable=0)
    counts = CaptureCounts(
        kinds={kind.value: nothing for kind in Kind}, received=0, received_bytes=0, decoded=0,
        decode_errors=0,
        recursion_misses=0, sentinels_expected=0, sentinels_seen=0, boundaries=(), ring_bytes=0,
        ring_high_water=0, freezes=0, frozen_ns=0,
    )  # fmt: skip
    kinds = "|".join(kind.value for kind in Kind)
    names = (found.name for found in identities(counts, {kind.value: 0 for kind in Kind}, 0, 0))
    return {name: IDENTITIES[name] for name in (re.sub(rf"^({kinds})_", "<kind>_", name) for name in names)}


def breaking_tests(folder: Path = ROOT / "tests") -> dict[str, list[str]]:
    """`group:name` -> the tests that are marked to break it, as pytest names them."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for name, broken in _marked(ast.parse(path.read_text(encoding="utf-8"))):
            for thing in broken:
                found.setdefault(thing, []).append(f"{path.relative_to(folder.parent).as_posix()}::{name}")
    return found


def _marked(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"pytest.mark.{_MARK}":
                yield node.name, [ast.literal_eval(argument) for argument in decorator.args]


def problems(tests: Mapping[str, list[str]]) -> list[str]:
    """What no test breaks, and what tests say they break but nobody promises."""
    wanted = {f"{group.key}:{name}" for group in groups() for name in group.things}
    return [f"no test breaks {thing}" for thing in sorted(wanted - tests.keys())] + [
        f"{tests[thing][0]} breaks {thing}, which is on no list" for thing in sorted(tests.keys() - wanted)
    ]


def page(tests: Mapping[str, list[str]]) -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    for group in groups():
        rows = [
            f"| `{name}` | {text[:1].upper() + text[1:]} | {_links(tests.get(f'{group.key}:{name}', []))} |"
            for name, text in group.things.items()
        ]
        head = f"## {group.title}\n\n{group.text}\n\n| name | what it says | broken by |\n|---|---|---|\n"
        parts.append(head + "\n".join(rows) + "\n")
    if ORACLE.exists():
        parts.append(_oracle(json.loads(ORACLE.read_text(encoding="utf-8"))))
    return "\n".join(parts)


def _oracle(counts: dict[str, int | str]) -> str:
    facts = ("programs", "differences", "kernel", "seed")
    operations = {name: value for name, value in counts.items() if name not in facts}
    total = sum(int(value) for value in operations.values())
    said = ", ".join(f"{value} {name}" for name, value in sorted(operations.items()))
    return (
        "## A second witness\n\nPrograms are drawn at random (files, links, renames, processes, sockets, "
        "descriptors that are passed, threads), and run once under eBPF\nand strace. The last "
        "`nox -s oracle`: "
        f"**{counts['programs']} programs, {total} operations, {counts['differences']} differences** "
        f"(kernel {counts['kernel']}, seed {counts['seed']}).\n{said}.\n"
    )


def _links(tests: list[str]) -> str:
    return "<br>".join(f"[{name.partition('::')[2]}](../{name.partition('::')[0]})" for name in tests)


if __name__ == "__main__":
    found = breaking_tests()
    if "--write" in sys.argv:
        PAGE.write_text(page(found), encoding="utf-8")
    else:
        print(page(found))
    wrong = problems(found)
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(1 if wrong else 0)
