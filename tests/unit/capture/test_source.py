"""What must hold in bpf/capture.c and no compiler asks for."""

import re

from harness.capture.records import RECORD_H

SOURCE = RECORD_H.with_name("capture.c").read_text(encoding="utf-8")
_PARTS = re.split(r"^(?:int|static __always_inline [\w ]+\*?) ?(\w+)\(", SOURCE, flags=re.MULTILINE)[1:]
FUNCTIONS = dict(zip(_PARTS[::2], _PARTS[1::2], strict=True))  # name -> what follows, up to the next one


def test_each_program_that_builds_records_in_a_slot_has_one_of_its_own() -> None:
    """The kernel runs no program twice at a time on a CPU: so what is in the slot of one is only its own.

    Two programs with one slot would mix their records where one can come in between the other.
    """
    uses = {name: set(re.findall(r"\bSLOT_\w+", body)) for name, body in FUNCTIONS.items()}
    of_slot: dict[str, set[str]] = {}
    for name, slots in uses.items():
        for slot in slots:
            of_slot.setdefault(slot, set()).add(name)
    assert of_slot == {
        "SLOT_CALL": {"prepare", "second", "finish"},  # one chain of tail calls, from one hook
        "SLOT_EXEC": {"sched_process_exec", "finish_exec"},
        "SLOT_ATTACH": {"cgroup_attach_task"},
    }
    assert uses["begin"] == set()
