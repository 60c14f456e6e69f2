"""The proof of a host: the kernel program loads, attaches, and counts a known number of events.

Two producers of a prime number of opens each, as fast as they can, in a slice of their own. What they
did is known, so what was seen, submitted and received must be the same, and nothing skipped.
"""

import os
import subprocess
import sys
import uuid
from pathlib import Path

from harness.capture.session import CaptureOptions, CaptureSession
from harness.errors import AssayError
from harness.evidence.model import CaptureAccounting, KernelRecord, Kind, Role
from harness.host.cgroup import Slice
from harness.host.doctor import Check
from harness.host.state import State

OPENS = 10_007  # of each producer; a prime
_NAME = "capture"
_TIMEOUT = 120.0  # seconds; an emulated machine is slow
_PRODUCER = """
import os, sys
os.write(os.open(sys.argv[1], os.O_WRONLY), b'0')
for _ in range(int(sys.argv[3])):
    os.close(os.open(sys.argv[2], os.O_RDONLY))
"""


def check(state: State, options: CaptureOptions | None = None) -> Check:
    """Do it; takes about half a second where the compiled program is kept, some three where it is not."""
    try:
        with state.prepare().scratch(_NAME) as folder:
            return _counted(state, folder, options or CaptureOptions())
    except AssayError as error:
        where = f"{error.place}: " if error.place else ""
        return Check(_NAME, ok=False, detail=where + error.message, remedy=error.hint)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(_NAME, ok=False, detail=f"cannot be tried: {error}", remedy="run as root")


def _counted(state: State, folder: Path, options: CaptureOptions) -> Check:
    target = folder / "opened"
    target.touch()
    name = os.fsencode(target)
    found = 0

    def look(record: KernelRecord) -> bool:
        nonlocal found
        found += record.kind is Kind.OPEN and record.result >= 0 and record.walked == name
        return False

    with CaptureSession(options, kept_in=state.kernel_program, log=state.capture_log) as session:
        hook = session.facts["call_hook"]
        slice_ = Slice.create(f"doctor-{uuid.uuid4().hex[:12]}")
        try:
            subject, tools = slice_.role_path(Role.SUBJECT), slice_.role_path(Role.TOOLS)
            session.arm(slice_.path, subject, tools, slice_.role_path(Role.HARNESS), folder / "spool")
            producers = [_start(role / "cgroup.procs", target) for role in (subject, tools)]
            ended = [producer.wait(_TIMEOUT) for producer in producers]
            _, accounting = session.disarm(keep=look)
        finally:
            slice_.kill()
            slice_.wait_empty(timeout_s=5.0)
            slice_.remove()
    expected = len(producers) * OPENS
    wrong = [f"producers ended with {ended}"] if any(ended) else []
    wrong += [*problems(accounting)]
    if found != expected:
        wrong.append(f"{found} of {expected} opens seen")
    if wrong:
        return Check(
            _NAME, ok=False, detail=f"{', '.join(wrong)} ({hook})",
            remedy="stop other tracers; if it stays, this kernel is not supported: see docs/limits.md",
        )  # fmt: skip
    return Check(_NAME, ok=True, detail=f"{expected} of {expected} opens counted, none missed ({hook})")


def problems(accounting: CaptureAccounting) -> list[str]:
    """What is wrong with the counts of a window, in words; empty if nothing is."""
    kinds = accounting.kinds.values()
    seen, submitted = sum(k.seen for k in kinds), sum(k.submitted for k in kinds)
    wrong = list(accounting.errors)
    if not seen == submitted == accounting.received == accounting.decoded:
        received, decoded = accounting.received, accounting.decoded
        wrong.append(f"seen {seen}, submitted {submitted}, received {received}, decoded {decoded}")
    if accounting.recursion_misses:
        wrong.append(f"the kernel skipped {accounting.recursion_misses} events")
    if accounting.sentinels_seen != accounting.sentinels_expected:
        wrong.append(f"{accounting.sentinels_seen} of {accounting.sentinels_expected} own marks seen")
    return wrong


def _start(procs: Path, target: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-I", "-S", "-c", _PRODUCER, str(procs), str(target), str(OPENS)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)
