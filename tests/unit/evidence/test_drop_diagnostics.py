"""Drop diagnostics add up to the counters, name what is known, and call nothing 0 that nobody saw."""

import re

from attrs import evolve

from harness.evidence.assemble import assemble
from harness.evidence.drop_diagnostics import DropDiagnostics, drop_diagnostics
from harness.evidence.model import Kind, Observation
from harness.present.drop_diagnostics import as_text
from tests.unit.evidence.build import Run, Trace, accounting_of, context


def diagnosed(observation: Observation) -> DropDiagnostics:
    found = drop_diagnostics(observation, context(), {"cpus": "2"})
    assert found is not None
    return found


def changed(**changes: object) -> Observation:
    observation = Run(7).observation()
    assert observation.accounting is not None
    return evolve(observation, accounting=evolve(observation.accounting, **changes))  # type: ignore[arg-type]


def test_a_clean_run_lost_nothing_and_its_sums_are_the_counters() -> None:
    observation = Run(7).observation()
    found, text = diagnosed(observation), as_text(diagnosed(observation))
    assert observation.accounting is not None
    assert found.submitted == observation.accounting.received == found.raw == len(observation.records)
    assert sum(found.classes.values()) == found.raw
    assert text.endswith("lost: nothing\n")
    assert "poll lag: not observable" in text
    assert f"reduction={found.retained / found.raw:.3f}" in text
    assert "cpus=2" in text
    assert "kernel=6.1 cpus=2 " in text
    assert "runner=unknown attach=unknown cgroup=unknown" in text


def test_what_was_lost_is_told_by_kind_and_stage() -> None:
    observation = changed(recursion_misses=3, decode_errors=2)
    assert observation.accounting is not None
    kinds = dict(observation.accounting.kinds)
    kinds[Kind.OPEN] = evolve(kinds[Kind.OPEN], seen=kinds[Kind.OPEN].seen + 12, dropped=11, fault=1)
    found = diagnosed(evolve(observation, accounting=evolve(observation.accounting, kinds=kinds)))
    assert {stage: count for stage, count in found.lost.items() if count} == {
        "ring full": 11,
        "kernel fault": 1,
        "skipped by the kernel": 3,
        "decoder rejects": 2,
    }
    text = as_text(found)
    assert re.search(r"^  open: seen=\d+ submitted=\d+ dropped=11 oversized=0 fault=1 ", text, re.MULTILINE)
    assert text.endswith("lost: ring full 11, kernel fault 1, skipped by the kernel 3, decoder rejects 2\n")


def test_counters_that_died_with_the_capture_process_are_not_0() -> None:
    text = as_text(diagnosed(changed(kinds={}, errors=("capture_process_died",), ring_high_water=0)))
    assert "counters: not observable" in text
    assert "reader backlog: not observable" in text
    assert "submitted=not observable" in text
    assert text.endswith("lost: not observable\n")
    assert "=0 " not in text.partition("C normalizer")[0].partition("host ")[2].replace("rejects=0", "")


def test_an_empty_window_has_no_reduction() -> None:
    observation = evolve(Run(7).observation(), records=(), accounting=accounting_of([]))
    text = as_text(diagnosed(observation))
    assert "raw=0 filtered=0 retained=0 reduction=n/a" in text
    assert "busiest" not in text


def test_the_top_is_by_count_then_name_and_cannot_steer_a_terminal() -> None:
    trace = Trace()
    trace.exec(("/opt/agent",))
    for name, times in (("/b", 3), ("/a", 3), ("/\x1b[31mred", 5), *((f"/{n}", 1) for n in range(9))):
        for _ in range(times):
            trace.opened(name)
    observation = evolve(
        Run(7).observation(), records=tuple(trace.records), accounting=accounting_of(trace.records)
    )
    found = diagnosed(observation)
    assert found.by_path[:4] == ((5, "/\x1b[31mred"), (3, "/a"), (3, "/b"), (1, "/0"))
    assert "\x1b" not in as_text(found)


def test_a_run_without_capture_has_none_and_asking_changes_no_archive() -> None:
    observation = Run(7).observation()
    assert drop_diagnostics(evolve(observation, accounting=None), context(), {}) is None
    before = assemble(observation, context())
    diagnosed(observation)
    after = assemble(observation, context())
    assert (before.v0, before.companion, before.unclean) == (after.v0, after.companion, after.unclean)
