"""What the records of a call hold, with each hook that there is at its start and its return."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.capture.hooks import CallHook, call_hook
from harness.capture.session import CaptureOptions, CaptureSession
from harness.evidence.model import ENTRY, Flag, KernelRecord, Kind
from tests.linux.test_capture import Slice, slice_, whole

__all__ = ["slice_"]
pytestmark = pytest.mark.linux


@pytest.fixture(scope="module", params=CallHook, ids=["raw", "classic"])
def session(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CaptureSession]:
    """Both, where both lose nothing; otherwise the one that this kernel gets."""
    hook = request.param if call_hook() is CallHook.RAW_TRACEPOINT else None
    kept = tmp_path_factory.getbasetemp() / "bpf"
    with CaptureSession(CaptureOptions(hook=hook), kept_in=kept) as session:
        yield session


def of_call(records: tuple[KernelRecord, ...], number: int) -> list[KernelRecord]:
    return [record for record in records if record.syscall == number and record.kind is not Kind.EXEC]


def test_names_are_taken_at_the_start_of_a_call_and_at_its_return(
    session: CaptureSession, slice_: Slice, tmp_path: Path
) -> None:
    slice_.arm(session)
    slice_.run_code(
        f"""
os.chdir({str(tmp_path)!r})
for i in range(101):
    os.mkdir('a'); os.rename('a', 'b'); os.rmdir('b')
    os.symlink('what', 'link'); os.unlink('link')
try: os.rename('missing', 'x' * 255)
except FileNotFoundError: pass
"""
    )
    records, accounting = session.disarm()
    whole(accounting)
    renames = of_call(records, 82)
    assert [record.part for record in renames] == [ENTRY, 0, 1] * 102
    assert {(record.raw, record.part) for record in renames[:-3]} == {
        (b"a\0b\0", ENTRY),
        (b"a", 0),
        (b"b", 1),
    }
    assert renames[-3].raw == b"missing\0" + b"x" * 255 + b"\0"
    assert {record.raw for record in of_call(records, 88) if record.part == ENTRY} == {b"link\0what\0"}
    begun = [record for record in records if record.part == ENTRY]
    assert len(begun) == 5 * 101 + 2
    ended = [record for record in records if record.flags & Flag.ENTERED and record.part == 0]
    assert len(ended) == len(begun)
    assert not any(record.part == ENTRY for record in of_call(records, 257))


def test_a_file_system_root_is_not_unlinked(session: CaptureSession, slice_: Slice) -> None:
    slice_.arm(session)
    slice_.run_code("for name in ('/', '/proc', '/dev/shm'): os.open(name, os.O_RDONLY)")
    records, accounting = session.disarm()
    whole(accounting)
    opened = {os.fsdecode(r.walked): r.flags & Flag.UNLINKED for r in records if r.kind is Kind.OPEN}
    assert {opened[name] for name in ("/", "/proc")} == {0}


def test_a_folder_that_was_entered_is_told_by_itself(
    session: CaptureSession, slice_: Slice, tmp_path: Path
) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "link").symlink_to("d/e")
    slice_.arm(session)
    slice_.run_code(
        f"""
os.chdir({str(tmp_path)!r} + '/link'); os.chdir('..'); os.fchdir(os.open('e', os.O_RDONLY))
try: os.chdir('nowhere')
except FileNotFoundError: pass
"""
    )
    records, accounting = session.disarm()
    whole(accounting)
    entered = [r for r in records if r.syscall in (80, 81) and r.part != ENTRY]
    base = os.fsencode(tmp_path)
    assert [r.walked for r in entered] == [base + b"/d/e", base + b"/d", base + b"/d/e", base + b"/d/e"]
    assert [bool(r.flags & Flag.OBJECT) for r in entered] == [True, True, True, False]
    assert entered[3].raw == b"nowhere"
