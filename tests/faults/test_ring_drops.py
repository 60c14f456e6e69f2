"""A ring too small, a consumer that stands still, and no back-pressure: real losses, in plain sight."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from attrs import asdict, evolve

from harness.bench import Bench
from harness.capture.session import CaptureOptions
from harness.errors import EvidenceError
from harness.evidence.assemble import assemble
from harness.evidence.drop_diagnostics import drop_diagnostics
from harness.evidence.model import Kind, Role
from harness.host.state import State
from harness.present.drop_diagnostics import as_text
from harness.run import Measured, measure
from tests.faults.agents import agent
from tests.faults.archives import ACCOUNTING, HEALTH, exit_code, told
from tests.faults.midrun import is_ready, meanwhile, until

pytestmark = pytest.mark.linux

OPENS = 20011  # a prime
RING = 512 << 10  # holds about four thousand of them
# It opens nothing but the target between its two waits: so only such opens can be lost.
FLOODS = f"""
import os
for name in ("go", "done"): os.mkfifo("/workspace/" + name)
go, done = (os.open("/workspace/" + name, os.O_RDWR) for name in ("go", "done"))
open("/workspace/ready", "w").close()
os.read(go, 1)
for _ in range({OPENS}): os.close(os.open("/workspace/target", os.O_RDONLY))
os.write(done, b"x")
os.read(go, 1)
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "target").write_text("x")
    return folder


@contextmanager
def stopped(bench: Bench, run: Path) -> Iterator[None]:
    """No consumer during the body; after it the ring, which the body has filled, is emptied."""
    spool, pid = run / "kernel.raw", bench.capture.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: "\nState:\tT" in Path(f"/proc/{pid}/status").read_text())
        before = spool.stat().st_size
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: spool.stat().st_size > before + RING // 2)


def flood(bench: Bench, inputs: Path, *, unread: bool = False) -> Measured:
    """A run of FLOODS; `unread`: nobody reads the ring while it is at it."""
    plan = agent(bench, FLOODS, inputs=inputs)
    run = bench.state.runs / plan.spec.run_id

    def let_go() -> None:
        until(lambda: is_ready(bench.state, plan.spec.run_id))
        pipes = [os.open(run / "workspace" / name, os.O_RDWR) for name in ("go", "done")]
        go, done = pipes
        with stopped(bench, run) if unread else nullcontext():
            os.write(go, b"x")
            assert os.read(done, 1) == b"x"
        os.write(go, b"x")
        for pipe in pipes:
            os.close(pipe)

    with meanwhile(let_go):
        return measure(bench, plan)


@pytest.fixture(scope="module")
def flooded(state: State, bench: Bench, inputs: Path) -> Iterator[Measured]:
    """A run that lost records, which its capture could not help."""
    with Bench(state, print, CaptureOptions(ring_bytes=RING, backpressure=False)) as small:
        yield flood(small, inputs, unread=True)


def opens(measured: Measured) -> int:
    """How many opens of the target came through."""
    return sum(r.kind is Kind.OPEN and r.walked == b"/workspace/target" for r in measured.observation.records)


@pytest.mark.breaks("unclean:ring_drops", "counter:dropped")
def test_a_full_ring_is_told_with_the_count(flooded: Measured, tmp_path: Path) -> None:
    assert exit_code(flooded) == 3
    with pytest.raises(EvidenceError, match="ring_drops"):
        flooded.verdict()
    archive = told(flooded, tmp_path)
    kinds = archive.members[ACCOUNTING]["capture"]["kinds"]
    dropped = sum(kind["dropped"] for kind in kinds.values())
    assert dropped > 1000
    assert archive.unclean == ["ring_drops"]
    health = archive.members[HEALTH]
    assert (health["kernel_layer"], health["ringbuf_drops"]) == ("partial_ringbuf_drops", dropped)
    # what came through and what was lost are together exactly what the agent did
    assert opens(flooded) + kinds["open"]["dropped"] == OPENS
    assert dropped == kinds["open"]["dropped"]


def test_the_diagnostics_name_kind_stage_and_source_and_change_no_verdict(
    flooded: Measured, tmp_path: Path
) -> None:
    before = (exit_code(flooded), told(flooded, tmp_path).members)
    found = drop_diagnostics(flooded.observation, flooded.plan.context(), {})
    assert found is not None
    assert (exit_code(flooded), told(flooded, tmp_path).members) == before == (3, before[1])
    capture = before[1][ACCOUNTING]["capture"]
    for kind, counters in found.kinds.items():
        assert asdict(counters) == capture["kinds"][kind], kind
    dropped = capture["kinds"]["open"]["dropped"]
    assert {stage: count for stage, count in found.lost.items() if count} == {"ring full": dropped}
    assert found.by_process[0] == (opens(flooded) + _others(flooded), "subject subject.0 open")
    assert found.by_path[0] == (opens(flooded), "/workspace/target")
    assert found.busiest is not None
    assert found.busiest.sources[0][1] == "subject subject.0 open"
    high = capture["ring_high_water"]
    assert high > 0.9 * capture["ring_bytes"]  # the ring was full
    text = as_text(found)
    assert f"reader backlog: high water {high} of {RING} bytes" in text
    assert text.endswith(f"lost: ring full {dropped}\n")


def _others(measured: Measured) -> int:
    """Opens of the agent that are not of the target."""
    records = measured.observation.records
    ours = [r for r in records if r.kind is Kind.OPEN and r.role is Role.SUBJECT and not r.setup]
    return len(ours) - opens(measured)


def test_the_default_loses_nothing_of_the_same_agent(bench: Bench, inputs: Path, tmp_path: Path) -> None:
    measured = flood(bench, inputs)
    assert exit_code(measured) == 0
    archive = told(measured, tmp_path)
    assert archive.unclean == []
    assert archive.members[HEALTH]["kernel_layer"] == "complete"
    assert opens(measured) == OPENS


def test_back_pressure_saves_the_same_ring(state: State, inputs: Path, tmp_path: Path) -> None:
    with Bench(state, print, CaptureOptions(ring_bytes=RING, lazy=True)) as small:
        measured = flood(small, inputs)
    archive = told(measured, tmp_path)
    assert (exit_code(measured), archive.unclean) == (0, [])
    freezes = archive.members[ACCOUNTING]["capture"]["freezes"]
    assert freezes > 0
    found = drop_diagnostics(measured.observation, measured.plan.context(), {})
    assert found is not None
    assert f"freezes={freezes} frozen_ms=" in as_text(found)
    assert as_text(found).endswith("lost: nothing\n")


@pytest.mark.breaks("identity:<kind>_seen")
def test_a_drop_counter_that_lies_breaks_the_identity(flooded: Measured) -> None:
    """As if the program in the kernel had not counted what it could not submit."""
    accounting = flooded.observation.accounting
    assert accounting is not None
    silent = {kind: evolve(counters, dropped=0) for kind, counters in accounting.kinds.items()}
    lying = evolve(flooded.observation, accounting=evolve(accounting, kinds=silent))
    assembled = assemble(lying, flooded.plan.context())
    assert set(assembled.unclean) == {"identity_broken:open_seen", "identity_broken:total_seen"}
    assert assembled.health.kernel_layer.value == "absent"
