"""The capture process: bcc and the metering loop, apart from the harness.

A clang assertion inside bcc aborts the interpreter, and a busy harness must not delay the
consumer: so both live here. Commands and answers are JSON packets on the descriptor given as
argument; end of file, or the harness's death, ends this process and with it every attachment.
"""

import ctypes
import json
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from attrs import asdict, fields

from harness.capture.bpf import ProgramRefusedError
from harness.capture.hooks import CallHook
from harness.capture.meter import Meter, Reading, Window
from harness.capture.program import Program
from harness.capture.ring import Ring
from harness.errors import AssayError

_PR_SET_PDEATHSIG = 1
_IDLE_SECONDS = 0.001


def main(descriptor: int, ring_bytes: int, parent: int, kept_in: Path | None, hook: CallHook | None) -> int:
    """Serve one harness until it hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the harness decides what an interrupt means
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 1
    control = socket.socket(fileno=descriptor)
    try:
        program = Program(ring_bytes, kept_in, hook=hook)
        ring = Ring(program.ring_descriptor, ring_bytes)
    except Exception as error:  # noqa: BLE001 - whatever it was: the harness says it in one line
        traceback.print_exc()
        sys.stderr.write(getattr(error, "log", ""))
        sys.stderr.flush()
        _answer(control, _refusal(error))
        return 1
    _answer(control, asdict(program.facts))
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        os.nice(-10)  # a busy machine then freezes the slice more often
    meter: Meter | None = None
    while True:
        idle = meter is None or not meter.turn()
        timeout = None if meter is None else _IDLE_SECONDS if idle else 0
        if not select.select([control], [], [], timeout)[0]:
            continue
        packet = control.recv(1 << 16)
        if not packet:
            return 0
        message = json.loads(packet)
        if message["command"] == "arm":
            meter = Meter(program, ring, _window(message["window"]))
            meter.arm()
            _answer(control, {"armed": True})
        elif meter is not None:
            _answer(control, _as_json(meter.disarm()))
            meter = None


def _refusal(error: Exception) -> dict[str, str]:
    """What could not be done, in one line, and what to do about it."""
    if isinstance(error, AssayError):
        return {"refused": error.message, "remedy": error.hint}
    if isinstance(error, ProgramRefusedError):
        return {
            "refused": f"the kernel takes no program like this: {error.strerror}",
            "remedy": "run a kernel of docs/limits.md, or report this one with the file",
        }
    said = " ".join(str(error).split()) or type(error).__name__
    remedy = "see the file for what the compiler said" if "ompil" in said else "see the file for more"
    return {"refused": said[:200], "remedy": remedy}


def _window(values: dict[str, Any]) -> Window:
    paths = {field.name: Path(values[field.name]) for field in fields(Window) if field.type is Path}
    return Window(**(values | paths))


def _as_json(reading: Reading) -> dict[str, Any]:
    return asdict(reading) | {"kinds": {kind: asdict(values) for kind, values in reading.kinds.items()}}


def _answer(control: socket.socket, message: dict[str, Any]) -> None:
    control.sendall(json.dumps(message).encode())


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    kept = given["kept_in"] and Path(given["kept_in"])
    chosen = given["hook"] and CallHook(given["hook"])
    sys.exit(main(given["control"], given["ring_bytes"], given["parent"], kept, chosen))
