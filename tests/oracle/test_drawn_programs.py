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
from tests.oracle.told import WATCHED, Account, by_ebpf, by_strace, differences

pytestmark = pytest.mark.linux

PROGRAMS = int(os.environ.get("ASSAY_RUNNER_ORACLE_PROGRAMS", "30"))
RESULT = os.environ.get("ASSAY_RUNNER_ORACLE_RESULT")  # where the count goes
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
        phases=(Phase.generate, Phase.shrink) if RESULT else (Phase.generate,),  # shrinking takes minutes
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
    assert {"open", "exec", "rename", "bind", "connect"} <= told.keys()
    if RESULT:
        counts = {"differences": 0, "kernel": os.uname().release, "seed": SEED} | dict(told)
        Path(RESULT).write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def test_each_kind_of_difference_is_noticed(bench: Bench, tmp_path: Path) -> None:
    """One operation less, more or other on either side, or another end of a process, and it is said."""
    program: Program = [
        ["open", "a", 0o102, 0o600],
        ["path2", 82, "a", "b"],
        ["inet", 2, "bind", "127.0.0.1", 7001],
        ["fork", [["path1", 83, "made", 0o700]], 3],
    ]
    _, ebpf, strace = both(bench, tmp_path, [program])
    assert differences(ebpf, strace) == []
    names = {told.name for operations in strace.operations.values() for told in operations}
    assert {"open", "rename", "bind", "mkdir"} <= names
    for thread, operations in strace.operations.items():
        for one in operations:
            less = Account({**ebpf.operations, thread: ebpf.operations[thread] - Counter([one])}, ebpf.ends)
            assert differences(less, strace) == [f"{thread}: only strace: {one}"]
            more = Account({**ebpf.operations, thread: ebpf.operations[thread] + Counter([one])}, ebpf.ends)
            assert differences(more, strace) == [f"{thread}: only eBPF: {one}"]
            other = Counter([evolve(one, outcome="EIO")])
            changed = {**ebpf.operations, thread: ebpf.operations[thread] - Counter([one]) + other}
            assert len(differences(Account(changed, ebpf.ends), strace)) == 2
    for process, status in strace.ends.items():
        ended = {**ebpf.ends, process: status ^ 256}
        assert differences(Account(ebpf.operations, ended), strace) == [
            f"{process}: ended {status ^ 256} and {status}"
        ]
