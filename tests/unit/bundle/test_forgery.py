"""Every value of every member of a real archive, changed under manifests that fit: caught, or listed.

The list is what nothing else in an archive bears out; docs/limits.md has it in words.
"""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from harness.bundle import verify as stages
from harness.bundle.codes import CODES
from harness.bundle.contents import Contents
from harness.bundle.meaning import RULES, Rule
from harness.bundle.problem import Problem
from harness.bundle.reader import read_archive
from harness.bundle.verify import verify
from harness.contracts import companion, manifest
from harness.contracts.canonical import ndjson, to_bytes
from tests.unit.bundle.conftest import DIFFS, S5
from tests.unit.bundle.derive import Members, remake_manifests

LIMITS = Path(__file__).parents[3] / "docs" / "limits.md"
HIDDEN = DIFFS / "hidden-write.tar.gz"
GEMINI = DIFFS / "gemini.tar.gz"

# Member and pattern of a JSON pointer ("*": any index or key) -> the reason, a row of docs/limits.md.
NOT_DERIVABLE: dict[tuple[str, str], str] = {
    (manifest.EVENTS, "/window_elapsed_ms"): "time",
    (manifest.KERNEL, "/pid"): "process numbers",
    (manifest.KERNEL, "/flags"): "descriptor flags",
    (manifest.KERNEL, "/mode"): "mode of a file that was there",
    (manifest.KERNEL, "/return_value"): "descriptor numbers",
    (manifest.SDK, "/event_type"): "self-report",
    (manifest.SDK, "/source"): "self-report",
    (manifest.SDK, "/sdk_name"): "self-report",
    (manifest.SDK, "/sdk_version"): "self-report",
    (manifest.SDK, "/tool"): "self-report",
    (manifest.SDK, "/tool_call_id"): "self-report",
    (manifest.SDK, ""): "self-report",
    (companion.ACCOUNTING, "/capture/received_bytes"): "sizes and times of the capture",
    (companion.ACCOUNTING, "/temporary/*"): "temporary names",
    (companion.ACCOUNTING, "/host_view/*"): "looks at the host",
    (companion.ATTRIBUTION, "/calls/*/answered"): "the proxy's word",
    (companion.ATTRIBUTION, "/calls/*/paths"): "the proxy's word",
    (companion.HOST, "/facts/*"): "host facts",
    (companion.HOST, "/facts"): "host facts",
    (companion.KERNEL, ""): "details of telemetry and plumbing",
    (companion.KERNEL, "/access"): "details of telemetry and plumbing",
    (companion.KERNEL, "/process"): "details of telemetry and plumbing",
    (companion.KERNEL, "/operation"): "details of telemetry and plumbing",
    (companion.KERNEL, "/outcome"): "details of telemetry and plumbing",
    (companion.KERNEL, "/path"): "details of telemetry and plumbing",
    (companion.KERNEL, "/address"): "details of telemetry and plumbing",
    (companion.KERNEL, "/mode"): "details of telemetry and plumbing",
    (companion.KERNEL, "/file_type"): "details of telemetry and plumbing",
    (companion.POLICY, "/connection"): "the proxy's word",
    (companion.POLICY, "/reason"): "the proxy's word",
    (companion.POLICY, "/rule"): "the proxy's word",
    (companion.PROCESSES, "/processes/*"): "an end that is left out",
    (companion.RUNSPEC, "/env/*"): "what was declared",
    (companion.RUNSPEC, "/fixture"): "what was declared",
    (companion.RUNSPEC, "/image"): "what was declared",
    (companion.RUNSPEC, "/image_id"): "what was declared",
    (companion.RUNSPEC, "/image_locked"): "what was declared",
    (companion.RUNSPEC, "/image_files_sha256"): "what was declared",
    (companion.RUNSPEC, "/runtime_roots"): "what was declared",
    (companion.RUNSPEC, "/runtime_roots/*"): "what was declared",
    (companion.RUNSPEC, "/deadline_s"): "what was declared",
    (companion.RUNSPEC, "/witnesses"): "what was declared",
    (companion.RUNSPEC, "/policy_sha256"): "what was declared",
    (companion.RUNSPEC, "/workspace"): "what was declared",
    (companion.RUNSPEC, "/plumbing/*"): "what was declared",
    (companion.RUNSPEC, "/inputs"): "what was declared",
    (companion.RUNSPEC, "/inputs/*"): "what was declared",
}
Step = str | int


def values(node: Any, pointer: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """Every value at or below `node`, containers included."""
    yield pointer, node
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, child in items:
        yield from values(child, (*pointer, step))


def others(value: Any) -> Iterator[Any]:
    """What a forger might put there instead, of the same type where there is one."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, max(value - 1, 0), value * 2 + 524288)
    elif isinstance(value, float):
        yield value + 1.0
    elif isinstance(value, str):
        digest = re.fullmatch(r"sha256:[0-9a-f]{64}", value)
        yield "sha256:" + "0" * 64 if digest else value + "x"
        yield {"read": "write", "ok": "EACCES", "ENOENT": "EACCES", "subject": "tools"}.get(value, "other")
        yield ""
    elif value is None:
        yield from ("x", 1)
    elif isinstance(value, list):
        yield value[:-1]
        yield [*value, copy.deepcopy(value[-1])] if value else ["x"]
        yield value[::-1]
    elif isinstance(value, dict):
        yield dict(list(value.items())[:-1])
        yield value | {"zz": next(iter(value.values()), 0)}


def pattern(pointer: tuple[Step, ...], document: Any) -> str:
    """`/a/*/b`: an index, or a key that is data and no name of a contract, is `*`."""
    node = document
    out: list[str] = []
    for step in pointer:
        data_key = isinstance(node, dict) and "schema" not in node and not str(step).isidentifier()
        named = out and out[-1] in ("facts", "env", "inputs", "volatile", "plumbing", "classes", "kinds")
        out.append("*" if isinstance(step, int) or data_key or named else str(step))
        node = node[step]
    return "".join(f"/{step}" for step in out)


def replaced(document: Any, pointer: tuple[Step, ...], value: Any) -> Any:
    if not pointer:
        return value
    changed = copy.deepcopy(document)
    node = changed
    for step in pointer[:-1]:
        node = node[step]
    node[pointer[-1]] = value
    return changed


def forgeries(members: Members, seen: set[str]) -> Iterator[tuple[str, str, str, bytes]]:
    """(member, pattern, what was done, its new bytes): the first value of each pattern, changed in each way;
    of a layer's lines every distinct shape of line is taken. `seen` are patterns that were had before."""
    for member, data in members.items():
        if member in (manifest.MANIFEST, manifest.COMPANION_MANIFEST):
            continue  # made to fit: what a forger may put there is in `test_verify`
        lined = member.endswith(".ndjson")
        documents = [json.loads(line) for line in data.splitlines()] if lined else [json.loads(data)]
        for number, document in enumerate(documents):
            shape = " ".join(str(document.get(key)) for key in ("event_class", "operation", "event_type"))
            for pointer, value in values(document):
                name = pattern(pointer, document)
                if f"{member} {shape} {name}" in seen:
                    continue
                seen.add(f"{member} {shape} {name}")
                for other in others(value):
                    if other == value and type(other) is type(value):
                        continue
                    changed = documents.copy()
                    changed[number] = replaced(document, pointer, other)
                    done = f"{number} {value!r} -> {other!r}"[:200]
                    new = ndjson(changed) if lined else to_bytes(changed[0])
                    yield member, name, done, new
        for number in range(0, len(documents) if lined else 0, 3):
            gone = [line for at, line in enumerate(documents) if at != number]
            yield (
                member,
                "",
                f"line {number} left out",
                ndjson(line | {"seq": seq} for seq, line in enumerate(gone)),
            )


@frozen
class Found:
    """`accepted`: forgeries that passed (member, pattern, what was done); the others gave codes, by rules."""

    accepted: set[tuple[str, str, str]]
    codes: set[str]
    rules: set[str]


def noting(rule: Rule, broken: set[str]) -> Rule:
    """The rule, which notes its name where it finds a problem."""

    def problems(contents: Contents) -> Iterator[Problem]:
        for problem in rule.problems(contents):
            broken.add(rule.name)
            yield problem

    return evolve(rule, problems=problems)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What came of all forgeries."""
    broken: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "RULES", tuple(noting(rule, broken) for rule in RULES))
        accepted, codes = forge_all(tmp_path_factory.mktemp("forged"))
    return Found(accepted, codes, broken)


def forge_all(folder: Path) -> tuple[set[tuple[str, str, str]], set[str]]:
    (folder / "layers").mkdir()
    (folder / "companion").mkdir()
    accepted, count, seen, codes = set(), 0, set[str](), set[str]()
    for archive in (S5, HIDDEN, GEMINI):
        members = dict(read_archive(archive).members)
        for member, name, done, data in forgeries(members, seen):
            for path, content in remake_manifests(members | {member: data}).items():
                (folder / path).write_bytes(content)
            count += 1
            result = verify(folder)
            codes |= {problem.code for problem in result.problems}
            if result.ok:
                accepted.add((member, name, done))
    assert count > 1000
    return accepted, codes


def test_a_forged_value_is_caught_or_listed(found: Found) -> None:
    assert sorted(one for one in found.accepted if one[:2] not in NOT_DERIVABLE) == []


@pytest.mark.breaks(
    "verify:ContractAccountingMismatch",
    "verify:ContractAttributionMismatch",
    "verify:ContractCorrelationMismatch",
    "verify:ContractHealthMismatch",
    "verify:ContractInvalidEvent",
    "verify:ContractInvalidJson",
    "verify:ContractKernelLayerMismatch",
    "verify:ContractKernelLineMismatch",
    "verify:ContractLineOrder",
    "verify:ContractNetworkMismatch",
    "verify:ContractPolicyMismatch",
    "verify:ContractProcessMismatch",
    "verify:ContractRunEventMismatch",
    "verify:ContractRunIdMismatch",
    "verify:ContractRunSpecMismatch",
    "verify:ContractSchemaVersion",
    "verify:ContractSequenceGap",
    "verify:ContractSequenceStart",
    "verify:ContractSurfaceMismatch",
)
def test_each_code_of_what_is_said_is_given(found: Found) -> None:
    of_contents = {"contents", "run_ids", "sequence", "meaning"}
    said = {
        code for code, one in CODES.items() if of_contents & set(one.stages) and not code.startswith("Limit")
    }
    assert said - found.codes == set()


@pytest.mark.breaks(
    "rule:surface",
    "rule:correlation",
    "rule:health",
    "rule:run_end",
    "rule:policy_source",
    "rule:accounting",
    "rule:attribution",
    "rule:companion_surface",
    "rule:health_of_books",
    "rule:kernel_layers",
    "rule:kernel_lines",
    "rule:network_seal",
    "rule:processes",
    "rule:run_events",
    "rule:runspec",
)
def test_each_rule_finds_something(found: Found) -> None:
    assert {rule.name for rule in RULES if rule.checks} - found.rules == {
        "network_claims",
        "policy_events",
    }  # see test_verify


def test_the_list_is_in_the_limits() -> None:
    text = LIMITS.read_text(encoding="utf-8")
    section = text.partition("## What verification cannot derive")[2].partition("\n## ")[0]
    rows = set(re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)) - {"what", "---"}
    assert rows == set(NOT_DERIVABLE.values())
    for member, _ in NOT_DERIVABLE:
        assert f"`{member}`" in section
