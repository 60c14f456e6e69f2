"""A harness that is killed: usage: python -m tests.faults.dies STATE RUN_ID MOMENT OUTPUT

A whole clean run comes first, as of any harness that starts; during the second one SIGKILL comes at
the end of the phase MOMENT. `frozen`: after subject_started, with the slice frozen. `loading`: while
the capture program is compiled. `writing`: when the archive is to be synced to the disk.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from attrs import evolve

from harness import run
from harness.bench import Bench
from harness.bundle import whole_file
from harness.host.state import State
from tests.faults.agents import CALLS_AND_WAITS, agent, with_tools
from tests.faults.midrun import slice_of

ENDS_AT_ONCE = CALLS_AND_WAITS.replace("session.server.stdout.read()", "session.close()")


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def main(state: State, run_id: str, moment: str, output: Path) -> NoReturn:
    class DeadlyClock(run._Clock):
        def lap(self, phase: str) -> None:
            super().lap(phase)
            if moment == "frozen" and phase == "subject_started":
                assert slice_of(run_id).freeze()
                die()
            if phase == moment:
                die()

    with Bench(state, lambda text: print(text, flush=True)) as bench:
        if moment == "loading":
            print("passed", flush=True)
            die()
        first = run.measure(bench, agent(bench, "open('/workspace/made', 'w').close()"))
        first.verdict()
        print("passed", flush=True)
        run._Clock = DeadlyClock  # type: ignore[misc]
        plan = with_tools(bench, ENDS_AT_ONCE)
        measured = run.measure(bench, evolve(plan, spec=evolve(plan.spec, run_id=run_id)))
        whole_file.os.fsync = die  # type: ignore[attr-defined]
        measured.write(output)
    raise AssertionError(f"no moment {moment!r}")


if __name__ == "__main__":
    main(State(Path(sys.argv[1])), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
