"""Where the programs of bpf/capture.c are hooked, and as what: this depends on the kernel.

docs/adr/0006-hooks-that-lose-nothing.md says why.
"""

from enum import StrEnum

from harness.capture import bpf
from harness.capture.syscalls import ENTERED
from harness.evidence.model import Role
from harness.host.kernel import TRACEFS

_EVENTS = TRACEFS / "events"  # the classic tracepoints
ENTER = "sys_enter"
RAW = ("sched_process_exec", "sched_process_fork", "sched_process_exit", "cgroup_attach_task")
# Tail calls, each with its prog array and its place in it.
AFTER_CALL = ("finish", "second")
AFTER_EXEC = ("finish_exec",)
# Suffix of the function that is attached to the cgroup of a role -> enum bpf_attach_type
NETWORK = {"connect4": 10, "connect6": 11, "sendmsg4": 14, "sendmsg6": 15, "bind4": 8, "bind6": 9}
NETWORK_ROLES = (Role.SUBJECT, Role.TOOLS)


class CallHook(StrEnum):
    """What runs the program for system calls when one returns; the value is its function's name."""

    RAW_TRACEPOINT = "sys_exit"
    TRACEPOINT = "sys_exit_classic"

    @property
    def told(self) -> str:
        """As archives say it."""
        return "raw_tracepoint" if self is CallHook.RAW_TRACEPOINT else "tracepoint"

    @property
    def program_type(self) -> int:
        return bpf.RAW_TRACEPOINT if self is CallHook.RAW_TRACEPOINT else bpf.TRACEPOINT

    def attach(self, program: int) -> int:
        """Hook the loaded program for as long as the descriptor is open."""
        if self is CallHook.RAW_TRACEPOINT:
            return bpf.open_raw_tracepoint("sys_exit", program)
        return bpf.open_tracepoint(_EVENTS / "raw_syscalls" / "sys_exit", program)

    def attach_enter(self, program: int) -> list[int]:
        """Hook the program to the start of calls that take names; these alone, so that others cost nothing.

        Where programs of single calls can be preempted, as raw ones can, it is hooked to all of them.
        """
        if self is CallHook.TRACEPOINT:
            return [bpf.open_tracepoint(_EVENTS / "raw_syscalls" / "sys_enter", program)]
        folders = [_EVENTS / "syscalls" / f"sys_enter_{name}" for name in ENTERED.values()]
        # a call that this kernel does not have has no event
        return [bpf.open_tracepoint(folder, program) for folder in folders if folder.exists()]


def call_hook() -> CallHook:
    """The one that loses nothing here.

    Since programs of system call tracepoints may sleep (Linux 7.2), raw ones run with preemption on, and
    the kernel skips the event of a task that comes in between.
    """
    return CallHook.TRACEPOINT if bpf.has_sleepable_tracepoints() else CallHook.RAW_TRACEPOINT


def network_functions() -> dict[str, tuple[Role, int]]:
    """Each function for sockets, the role whose cgroup it is attached to, and enum bpf_attach_type."""
    return {
        f"{role.value}_{suffix}": (role, kind) for role in NETWORK_ROLES for suffix, kind in NETWORK.items()
    }


FUNCTIONS = (*(hook.value for hook in CallHook), ENTER, *RAW, *AFTER_CALL, *AFTER_EXEC, *network_functions())
