"""What must hold in bpf/capture.c and no compiler asks for."""

import re

from harness.capture.records import RECORD_H

SOURCE = RECORD_H.with_name("capture.c").read_text(encoding="utf-8")
_HEAD = r"^(?:static __always_inline )?(?:struct )?\w+ \*?(\w+)\("
_PARTS = re.split(_HEAD, SOURCE, flags=re.MULTILINE)[1:]
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
        "SLOT_ENTER": {"sys_enter"},
    }
    assert uses["begin"] == set()


def test_no_read_of_user_memory_goes_unchecked() -> None:
    """What is told, or whether anything is, hangs on such a read: one that fails is marked on the record.

    Whoever adds one uses what is there, or makes the rule for it here.
    """
    reads = {name: body for name, body in FUNCTIONS.items() if "bpf_probe_read_user" in body}
    assert set(reads) == {"from_user", "string_from_user", "names_nobody"}
    assert all(body.count("bpf_probe_read_user") == 1 for body in reads.values())
    for name in ("from_user", "string_from_user"):
        assert "r->flags |= FLAG_UNREADABLE;" in reads[name]
    # what cannot be read is looked at, by the others
    assert "if (bpf_probe_read_user(&name, 8, (void *)message)) return 0;" in reads["names_nobody"]
    assert "bpf_copy_from_user" not in SOURCE
    assert "bpf_probe_read(" not in SOURCE


def test_the_mark_of_a_failed_read_is_counted() -> None:
    assert "if ((r->flags & FLAG_UNREADABLE)" in FUNCTIONS["submit"]
    assert "count(kind, COUNT_UNREADABLE);" in FUNCTIONS["submit"]
