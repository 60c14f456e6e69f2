"""What the witnesses hand over, before anything is decided about its meaning.

The right wing (capture, recorder, engine) fills these classes, the left wing (evidence) reads
them. Paths are bytes exactly as the kernel gave them; times are CLOCK_MONOTONIC nanoseconds.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import NamedTuple

from attrs import Factory, frozen


class Role(StrEnum):
    """Which cgroup of the slice a process was in, stamped in the kernel."""

    HARNESS = "harness"  # in the slice but in neither role: the sentinel process
    SUBJECT = "subject"  # the agent
    TOOLS = "tools"  # policy proxy and MCP server


class Kind(StrEnum):
    """Record kinds, as in bpf/record.h."""

    OPEN = "open"  # open, creat, openat, openat2
    EXEC = "exec"  # a successful execution (sched_process_exec) or a failed execve/execveat
    FORK = "fork"
    EXIT = "exit"
    PATH = "path"  # every other operation on a name or on a descriptor's file
    SOCK = "sock"  # socket, connect, bind, addressed sends: as the syscall saw them
    NET = "net"  # the same, for inet, as the cgroup hooks decoded them
    ATTACH = "attach"  # a task of the slice moved a task to another cgroup
    URING = "uring"
    COMPAT = "compat"  # any 32-bit syscall


class Flag(IntEnum):
    """Bits of KernelRecord.flags, as in bpf/record.h.

    No IntFlag: each of its operators makes an object, and every record is tested several times.
    """

    TRUNCATED = 1  # a path or name did not fit
    DETACHED = 2  # the walk ended outside the process's root
    UNREADABLE = 4  # user memory could not be read
    WALK_FAULT = 8  # a kernel pointer of the walk could not be read
    CREATED = 16  # the open created the file (FMODE_CREATED)
    UNLINKED = 32  # the opened file has no name any more
    OBJECT = 64  # `walked` is the object itself, not the base of `raw`
    MMAP_EXEC = 128  # reserved
    ARGS_CUT = 256  # argv did not fit: not a loss of a capability
    CHANGED = 512  # user memory said one thing, the kernel did another
    ENTERED = 1024  # at its start, this call gave a record of its names


ENTRY = 2  # `part` of a record that was made when its call began


class KernelRecord(NamedTuple):
    """One record of the ring; a tuple, because a run may have millions.

    walked  kernel-walked path inside the process's root: the object (Flag.OBJECT: successful
            opens and executions, operations on descriptors), else the directory that a relative
            `raw` starts from (b"" when raw is absolute).
    raw     the name as the program passed it: failed opens and executions, path operations;
            for a successful execution the name it was called by; for SOCK the sockaddr bytes;
            for NET the 4 or 16 address bytes; for ATTACH the destination cgroup path.
    part    0, or 1 for the second name of rename, link (the new name), or ENTRY: made when the call began,
            `raw` being all its names with a NUL after each, `args` those of openat2.
    args    (a0, a1, a2): OPEN flags, mode, resolve; PATH the operation's mode or flags;
            FORK child's in-container pid, 1 if a new process (0 a thread), child's host pid;
            EXIT exit code (as in task_struct), 1 if the whole thread group is gone;
            SOCK descriptor, address length, 0 (syscall socket: family, type, protocol);
            NET hook (0 connect, 1 sendmsg, 2 bind), port in host order, type << 8 | protocol.
    flags   bits of Flag;  file_flags  f_flags of a successful open;  inode_mode  its i_mode.
    """

    seq: int
    time_ns: int
    kind: Kind
    syscall: int
    role: Role
    setup: bool
    pid: int
    tid: int
    vpid: int
    vtid: int
    result: int
    flags: int
    part: int = 0
    walked: bytes = b""
    raw: bytes = b""
    args: tuple[int, int, int] = (0, 0, 0)
    file_flags: int = 0
    inode_mode: int = 0
    comm: bytes = b""


@frozen
class KindCounters:
    """Kernel-side counters of one record kind; `seen` == all the others but the last two."""

    seen: int = 0
    submitted: int = 0
    dropped: int = 0  # ring full
    oversized: int = 0
    fault: int = 0
    truncated: int = 0  # submitted, but a path or name was cut
    unreadable: int = 0  # submitted, but a user string was gone (and the syscall did not say EFAULT)


@frozen
class CaptureAccounting:
    """All that can be counted about one capture window."""

    kinds: Mapping[Kind, KindCounters]
    received: int  # records copied out of the ring
    received_bytes: int
    decoded: int
    decode_errors: int
    recursion_misses: int
    sentinels_expected: int  # opening plus closing
    sentinels_seen: int
    boundaries: frozenset[Role]  # roles whose start boundary was seen
    ring_bytes: int
    ring_high_water: int  # bytes
    freezes: int
    frozen_ns: int
    errors: tuple[str, ...] = ()  # codes of anything the capture process reports as wrong
    left_out: Mapping[Kind, int] = Factory(dict)  # decoded, and beyond a bound: nobody looks at them


class TooMuchError(Exception):
    """Evidence beyond a bound of harness.contracts.bounds: `what` there are more than `most` of."""

    def __init__(self, what: str, most: int) -> None:
        super().__init__(f"more than {most} {what}")


@frozen
class StampedLine:
    """One line of a recorder channel, with the host's arrival stamp."""

    time_ns: int
    data: bytes


@frozen
class ChannelLog:
    """Everything that arrived on one recorder channel; `errors` are codes."""

    lines: tuple[StampedLine, ...] = ()
    connections: int = 0
    errors: tuple[str, ...] = ()
    left_out: int = 0  # lines beyond a bound: nobody looks at them


@frozen
class RoleOutcome:
    """How a container's first process ended."""

    exit_code: int | None
    signal: int | None
    started_ns: int = 0
    ended_ns: int = 0

    @property
    def success(self) -> bool:
        return self.exit_code == 0


@frozen
class NetworkSeal:
    """What was found in one container's network namespace, at start and at the end."""

    role: Role
    links_start: tuple[str, ...]
    links_end: tuple[str, ...]
    foreign_routes: tuple[str, ...]  # anything but loopback's own routes of table 255
    packets: int  # on all links together, both directions, at the end
    problems: tuple[str, ...] = ()
    declared: str = "none"  # "loopback": packets on it were announced before the run


@frozen
class Observation:
    """One finished run as the machines saw it: the input of evidence.assemble."""

    records: tuple[KernelRecord, ...]
    accounting: CaptureAccounting | None  # None: kernel capture was not asked for
    decisions: ChannelLog
    sdk_events: ChannelLog
    subject: RoleOutcome
    tools: RoleOutcome | None
    timed_out: bool
    survivors: int  # processes that had to be killed after the subject's end
    elapsed_ms: int
    seals: tuple[NetworkSeal, ...] = ()
    host: Mapping[str, str] = Factory(dict)  # host facts: kernel, engine, digests
    problems: tuple[str, ...] = ()  # codes of anything else that was wrong
    beyond: str = ""  # the bound because of which something is left out
