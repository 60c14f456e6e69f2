"""Declared names become their glob and are counted; whatever was not declared keeps its name."""

import json

import pytest
from attrs import evolve

from harness.evidence.assemble import assemble
from harness.evidence.classify import EventClass
from harness.evidence.model import Role
from tests.unit.evidence.build import CONTEXT, PYTHON, Run, Trace, context

GLOB = "/tmp/agent/log-*.txt"
DECLARED = evolve(CONTEXT, volatile=(GLOB, "/tmp/other/*"))
RENAME, UNLINK = 82, 87


def names(trace: Trace) -> list[tuple[str | None, str | None]]:
    found = trace.classified(DECLARED)
    return [
        (op.path.decode() if op.path else None, op.path2.decode() if op.path2 else None)
        for op, _ in found.operations
    ]


def test_declared_names_become_their_glob_and_are_counted() -> None:
    trace = Trace()
    trace.opened("/tmp/agent/log-1.txt", 0o101)
    trace.failed_open("/tmp/agent/log-2026-01-01.txt")
    trace.named(UNLINK, "/tmp/agent/../agent/log-.txt")
    assert names(trace) == [(GLOB, None)] * 3
    classified = trace.classified(DECLARED)
    assert classified.volatile == {GLOB: 3, "/tmp/other/*": 0}
    assert [found for _, found in classified.operations] == [EventClass.EVIDENCE] * 3


MEMINFO = "/proc/meminfo"


def test_a_declared_look_is_counted_and_not_told() -> None:
    """Runs with and without it give the same compared members."""

    def archive(looks: int) -> dict[str, bytes]:
        trace = Trace()
        trace.records += Run(1).observation().records
        for _ in range(looks):
            trace.opened(MEMINFO)
        observation = evolve(Run(1).observation(), records=tuple(trace.records))
        assembled = assemble(observation, context(volatile=(MEMINFO,)))
        return assembled.v0 | assembled.companion

    one, two = archive(1), archive(2)
    one, two = archive(1), archive(2)
    differing = {name for name in one if one[name] != two[name]}
    assert differing == {"companion/accounting.json"}
    assert json.loads(two["companion/accounting.json"])["volatile"] == {MEMINFO: 2}
    assert json.loads(two["companion/accounting.json"])["records"]["classes"]["volatile_look"] == 2


def test_whatever_else_is_done_to_it_is_told() -> None:
    declared = evolve(CONTEXT, volatile=(MEMINFO, "/tmp/agent/*"))
    trace = Trace()
    trace.opened(MEMINFO, 0o1)  # for writing
    trace.opened(MEMINFO, role=Role.TOOLS)
    trace.named(UNLINK, MEMINFO)
    trace.opened("/tmp/agent/*")  # a file of that very name
    trace.opened("/proc/meminfo2")
    found = [found for _, found in trace.classified(declared).operations]
    assert EventClass.VOLATILE_LOOK not in found


def test_both_names_of_a_rename() -> None:
    trace = Trace()
    trace.named(RENAME, "/tmp/agent/log-7.txt", part=0)
    trace.named(RENAME, "/tmp/agent/kept", part=1)
    assert names(trace) == [(GLOB, "/tmp/agent/kept")]  # a new name that stays is seen


@pytest.mark.parametrize(
    "path",
    ["/tmp/agent/log-1.txt/x", "/tmp/agent/sub/log-1.txt", "/tmp/agent/log-1", "/tmp/agent/alog-1.txt",
     "/tmp/agent/LOG-1.txt", "/tmp/agent/log-1xtxt", "/tmp/agentx/log-1.txt", "/tmp/agent"],
)  # fmt: skip
def test_other_names_stay(path: str) -> None:
    trace = Trace()
    trace.opened(path)
    assert names(trace) == [(path, None)]


def test_the_tools_and_what_is_executed_keep_their_names() -> None:
    trace = Trace()
    trace.opened("/tmp/agent/log-1.txt", role=Role.TOOLS)
    trace.exec((PYTHON,), path="/tmp/agent/log-1.txt")
    assert names(trace) == [("/tmp/agent/log-1.txt", None)] * 2


def test_two_runs_with_other_names_give_the_same_evidence_and_say_so() -> None:
    def archive(name: str) -> dict[str, bytes]:
        trace = Trace()
        trace.records += Run(1).observation().records
        trace.opened(f"/tmp/agent/log-{name}.txt", 0o101)
        observation = Run(1).observation()
        observation = evolve(observation, records=tuple(trace.records))
        assembled = assemble(observation, context(volatile=(GLOB,)))
        return assembled.v0 | assembled.companion

    one, other = archive("1"), archive("2")
    assert one == other
    assert json.loads(one["companion/runspec.json"])["volatile"] == [GLOB]
    assert json.loads(one["companion/accounting.json"])["volatile"] == {GLOB: 1}
    assert GLOB in json.loads(one["capability-surface.json"])["filesystem_paths"]
