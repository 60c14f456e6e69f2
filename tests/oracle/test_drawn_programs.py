"""eBPF and strace watch the same drawn programs and tell the same operations."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from harness.bench import Bench
from harness.plan import plan_image
from harness.run import Measured, measure
from tests.faults.agents import image_of, new_run_id
from tests.linux.strace import traced
from tests.linux.test_oracle import containerd
from tests.oracle.programs import Program, programs
from tests.oracle.strace_lines import read_thread, threads_below
from tests.oracle.told import WATCHED, Account, Told, by_ebpf, by_strace, differences

pytestmark = pytest.mark.linux

PROGRAMS = int(os.environ.get("ASSAY_RUNNER_ORACLE_PROGRAMS", "30"))
SEED = int(os.environ.get("ASSAY_RUNNER_ORACLE_SEED", "0"))
IN_A_RUN = 10
AGENT = Path(__file__).with_name("agent.py")


def both(bench: Bench, folder: Path, drawn: list[Program]) -> tuple[Measured, Account, Account]:
    """One run of the programs, told by both witnesses."""
    trace, inputs = folder / "trace", folder / "inputs"
    trace.mkdir(parents=True)
    inputs.mkdir()
    (inputs / "agent.py").write_bytes(AGENT.read_bytes())
    (inputs / "programs.json").write_text(json.dumps(drawn), encoding="utf-8")
    run_id = new_run_id()
    plan = plan_image(
        ("/usr/bin/python3.11", "-I", "-S", "-B", "/workspace/agent.py", run_id),
        image_of(bench, "kernel-only"),
        run_id=run_id,
        inputs=inputs,
        deadline_s=300.0,
    )
    with traced(containerd(bench.state), trace, WATCHED):
        measured = measure(bench, evolve(plan, network="loopback"))
    assert measured.assembled.unclean == (), measured.output
    assert measured.observation.subject.success, measured.output
    threads = {int(path.name[2:]): read_thread(path.read_bytes()) for path in trace.glob("t.*")}
    below = threads_below(threads, plan.subject.command)
    return measured, by_ebpf(measured), by_strace(below)


def test_both_witnesses_tell_the_same_of_drawn_programs(bench: Bench, tmp_path: Path) -> None:
    told: Counter[str] = Counter()
    runs = iter(range(10**9))

    @seed(SEED)
    @settings(
        max_examples=-(-PROGRAMS // IN_A_RUN),
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(programs, min_size=IN_A_RUN, max_size=IN_A_RUN))
    def draw(drawn: list[Program]) -> None:
        _, ebpf, strace = both(bench, tmp_path / str(next(runs)), drawn)
        found = differences(ebpf, strace)
        assert not found, "\n".join(found)
        told["programs"] += len(drawn)
        for operations in strace.operations.values():
            for one, times in operations.items():
                told[one.name] += times

    draw()
    assert told["programs"] >= PROGRAMS
    print(json.dumps(told, sort_keys=True))
