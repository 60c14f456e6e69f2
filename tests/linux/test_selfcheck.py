"""`doctor` proves a host by counting: on purpose, each way to lose something is tried and told."""

import struct

import pytest
from attrs import evolve

from harness.capture import built, selfcheck
from harness.capture.hooks import FUNCTIONS, CallHook
from harness.capture.program import _MAPS
from harness.capture.session import CaptureOptions
from harness.host.state import State

pytestmark = pytest.mark.linux


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    """A state folder with the compiled program in it."""
    state = State(tmp_path_factory.mktemp("state")).prepare()
    built.built(_MAPS, FUNCTIONS, state.kernel_program)
    return state


@pytest.mark.parametrize("hook", [None, CallHook.TRACEPOINT])
def test_a_fit_host_is_proven_by_a_known_number_of_events(state: State, hook: CallHook | None) -> None:
    found = selfcheck.check(state, CaptureOptions(hook=hook))
    assert found.ok, found
    assert found.detail.startswith("20014 of 20014 opens counted, none missed (")
    assert hook is None or found.detail.endswith("(tracepoint)")
    assert not list(state.root.glob("scratch-*"))


def test_a_loss_is_told_with_its_number(state: State) -> None:
    lossy = CaptureOptions(ring_bytes=1 << 18, lazy=True, backpressure=False)
    found = selfcheck.check(state, lossy)
    assert not found.ok
    assert "seen " in found.detail
    assert " of 20014 opens seen" in found.detail
    assert found.remedy


def test_a_program_that_is_not_taken_is_one_line_with_its_file(state: State) -> None:
    place = next(state.kernel_program.iterdir())
    whole = built._read(place)
    assert whole is not None
    kept = place.read_bytes()
    broken = {**whole.functions, "subject_bind4": struct.pack("=BBhi", 0x95, 0, 0, 0)}
    built._keep(evolve(whole, functions=broken), place)
    try:
        found = selfcheck.check(state)
    finally:
        place.write_bytes(kept)
    assert not found.ok
    assert "subject_bind4" in found.detail
    assert "\n" not in found.detail
    assert str(state.capture_log) in found.remedy
    assert "processed 1 insns" in state.capture_log.read_text()


def test_events_that_the_kernel_skips_are_told() -> None:
    from tests.unit.evidence.build import accounting_of

    whole = accounting_of([])
    assert selfcheck.problems(whole) == []
    assert selfcheck.problems(evolve(whole, recursion_misses=7)) == ["the kernel skipped 7 events"]
    assert "own marks" in " ".join(selfcheck.problems(evolve(whole, sentinels_seen=1)))
