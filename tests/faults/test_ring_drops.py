"""A ring too small, a consumer too slow, and no back-pressure: real losses, in plain sight."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from harness.bench import Bench
from harness.capture.session import CaptureOptions
from harness.errors import EvidenceError
from harness.evidence.assemble import assemble
from harness.evidence.model import Kind
from harness.host.state import State
from harness.run import Measured, measure
from tests.faults.agents import agent
from tests.faults.archives import ACCOUNTING, HEALTH, exit_code, told

pytestmark = pytest.mark.linux

OPENS = 20011  # a prime
# The pauses let the consumer catch up, so that only opens are lost, not the process's start and end.
FLOODS = f"""
import os, time
time.sleep(0.3)
for _ in range({OPENS}): os.close(os.open("/workspace/target", os.O_RDONLY))
time.sleep(0.5)
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "target").write_text("x")
    return folder


@pytest.fixture(scope="module")
def flooded(state: State, bench: Bench, inputs: Path) -> Iterator[Measured]:
    """A run that lost records, which its capture could not help."""
    options = CaptureOptions(ring_bytes=128 << 10, throttle=1 << 20, backpressure=False)
    with Bench(state, print, options) as small:
        yield measure(small, agent(small, FLOODS, inputs=inputs))


def opens(measured: Measured) -> int:
    """How many opens of the target came through."""
    return sum(r.kind is Kind.OPEN and r.walked == b"/workspace/target" for r in measured.observation.records)


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


def test_the_default_loses_nothing_of_the_same_agent(bench: Bench, inputs: Path, tmp_path: Path) -> None:
    measured = measure(bench, agent(bench, FLOODS, inputs=inputs))
    assert exit_code(measured) == 0
    archive = told(measured, tmp_path)
    assert archive.unclean == []
    assert archive.members[HEALTH]["kernel_layer"] == "complete"
    assert opens(measured) == OPENS


def test_back_pressure_saves_the_same_ring(state: State, inputs: Path, tmp_path: Path) -> None:
    options = CaptureOptions(ring_bytes=512 << 10, throttle=1 << 20)
    with Bench(state, print, options) as small:
        measured = measure(small, agent(small, FLOODS, inputs=inputs))
    archive = told(measured, tmp_path)
    assert (exit_code(measured), archive.unclean) == (0, [])
    assert archive.members[ACCOUNTING]["capture"]["freezes"] > 0


def test_a_drop_counter_that_lies_breaks_the_identity(flooded: Measured) -> None:
    """As if the program in the kernel had not counted what it could not submit."""
    accounting = flooded.observation.accounting
    assert accounting is not None
    silent = {kind: evolve(counters, dropped=0) for kind, counters in accounting.kinds.items()}
    lying = evolve(flooded.observation, accounting=evolve(accounting, kinds=silent))
    assembled = assemble(lying, flooded.plan.context())
    assert set(assembled.unclean) == {"identity_broken:open_seen", "identity_broken:total_seen"}
    assert assembled.health.kernel_layer.value == "absent"
