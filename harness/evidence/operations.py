"""From kernel records to operations: what was done, to which name, by whom, and how it ended.

One operation may take several records: the two names of a rename, the address that a network hook
decoded and the result that the syscall had, a call that was interrupted and repeated by the kernel.
Records of one thread are in order in the ring; only they are joined.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

from attrs import evolve, frozen

from harness.evidence import syscalls
from harness.evidence.addresses import (
    COMMON,
    Address,
    endpoint,
    family_name,
    sockaddr,
    unix_address,
    unix_file,
)
from harness.evidence.model import ENTRY, Flag, KernelRecord, Kind, Role
from harness.evidence.paths import normal, path_of, without_numbers
from harness.evidence.processes import Processes, execution, is_execution

UNKNOWN_RESULT = "unknown"  # a network hook whose syscall was not seen to return
SEEN = "seen"  # has no result of its own
_HOOKS = ("connect", "sendmsg", "bind")  # args[0] of a NET record
_SENDS = ("sendto", "sendmsg")
_HOOK_CALLS = {"connect": ("connect", *_SENDS), "sendmsg": _SENDS, "bind": ("bind",)}
_THREADED = frozenset({Kind.OPEN, Kind.EXEC, Kind.PATH, Kind.SOCK, Kind.NET, Kind.URING})
_ALONE = {Kind.ATTACH: "cgroup_attach", Kind.COMPAT: "compat_syscall"}
FILE_TYPES = {0o040000: "directory", 0o020000: "char_device", 0o060000: "block_device",
               0o010000: "fifo", 0o140000: "socket", 0o120000: "symlink"}  # fmt: skip


@frozen
class Operation:
    """Paths are bytes inside the container, free of numbers that vary; None: no name was there.

    path2     new name of a rename or link; what a symlink says
    access    of an open: read, write, read_write, unknown, or path (O_PATH: no content)
    flags     what an open asked for, by name; "unlinked": the file has no name any more; "exchange":
              both names of a rename stay
    write     does it want to change something? (never mind whether it could)
    argv      of a successful execution; `called` is the name it was asked for by
    address   of a network operation
    records   all records that it was made from
    """

    role: Role
    process: str
    name: str
    outcome: str
    records: tuple[KernelRecord, ...]
    path: bytes | None = None
    path2: bytes | None = None
    access: str | None = None
    flags: tuple[str, ...] = ()
    write: bool = True
    mode: int | None = None
    file_type: str | None = None
    called: bytes | None = None
    argv: tuple[bytes, ...] | None = None
    argv_cut: bool = False
    address: Address | None = None

    @property
    def done(self) -> bool:
        return self.outcome == "ok"

    @property
    def first(self) -> KernelRecord:
        return self.records[0]


def build_operations(records: Iterable[KernelRecord], processes: Processes) -> tuple[Operation, ...]:
    """All operations in ring order; each record that is no fork and no exit is in exactly one."""
    in_order = sorted(records, key=attrgetter("seq"))
    threads: dict[tuple[Role, int], list[KernelRecord]] = {}
    operations = []
    for record in in_order:
        if record.kind in _THREADED:
            threads.setdefault((record.role, record.tid), []).append(record)
        elif record.kind in _ALONE:
            operations.append(_named(_ALONE[record.kind], [record], processes, SEEN))
    for stream in threads.values():
        operations += _without_restarts(_of_thread(stream, processes))
    return tuple(sorted(operations, key=lambda operation: operation.records[0].seq))


def unpaired(operations: Iterable[Operation]) -> int:
    """Two-name operations of which one name is missing: a record was lost."""
    return sum(op.first.syscall in syscalls.TWO_NAMES and len(_parts(op)) == 1 for op in operations)


def _parts(operation: Operation) -> set[int]:
    return {record.part for record in operation.records} - {ENTRY}


def name_codes(operations: Iterable[Operation]) -> Iterator[str]:
    """What is wrong with names that only the agent's memory has: they must be there, and the same, when the
    call begins and when it returns. A call that could not read them either (EFAULT) did nothing with them.
    """
    for operation in operations:
        first = operation.first
        begun = next((record for record in operation.records if record.part == ENTRY), None)
        if first.part == ENTRY or (begun is None and first.flags & Flag.ENTERED and first.result >= 0):
            yield "entry_missing"
        elif begun is not None and first.result != -syscalls.EFAULT:
            if begun.flags & Flag.UNREADABLE:
                yield "unreadable"
            elif not _same_names(begun, operation.records):
                yield "changed"


def _same_names(begun: KernelRecord, records: Iterable[KernelRecord]) -> bool:
    ended = sorted((r for r in records if r.part != ENTRY), key=attrgetter("part"))
    if ended[0].kind is Kind.OPEN and begun.args != ended[0].args:
        return False
    if any(record.flags & (Flag.UNREADABLE | Flag.OBJECT) for record in ended):
        return True  # said by itself, or by the kernel's object
    return begun.raw.split(b"\0")[:-1] == [record.raw for record in ended if record.raw or begun.raw]


def _of_thread(stream: Sequence[KernelRecord], processes: Processes) -> Iterator[Operation]:
    """What one thread did; the record of a call's start is the second one of its operation."""
    at = 0
    while at < len(stream):
        begun = stream[at] if stream[at].part == ENTRY else None
        if begun is not None:
            at += 1
            if not _returned(begun, stream[at : at + 1]):
                name = syscalls.operation_name(begun.syscall, begun.args[0])
                yield _named(name, [begun], processes, UNKNOWN_RESULT)
                continue
        taken, operations = _next(stream, at, processes)
        at += taken
        if begun is None:
            yield from operations
            continue
        for operation in operations:  # one
            first, *others = operation.records
            yield evolve(operation, records=(first, begun._replace(result=first.result), *others))


def _returned(begun: KernelRecord, following: Sequence[KernelRecord]) -> bool:
    """Is what follows the same call's return?"""
    return bool(following) and (following[0].syscall, following[0].part) == (begun.syscall, 0)


def _next(stream: Sequence[KernelRecord], at: int, processes: Processes) -> tuple[int, Iterable[Operation]]:
    """How many records from `at` on belong together, and the operations that they are."""
    record = stream[at]
    if record.kind is Kind.OPEN:  # by far the most
        return 1, (_open(record, processes),)
    if record.kind is Kind.NET:
        taken = _hooked(stream, at)
        return taken, _network_group(stream[at : at + taken], processes)
    if record.kind is Kind.SOCK:
        return 1, (_socket_call(record, processes),)
    if record.kind is Kind.PATH:
        taken = 2 if _is_second_name(record, stream[at + 1 : at + 2]) else 1
        return taken, (_path_operation(stream[at : at + taken], processes),)
    if record.kind is Kind.EXEC:
        return 1, (_exec(record, processes),)
    name = syscalls.operation_name(record.syscall, 0)
    return 1, (_named(name, [record], processes, syscalls.outcome_of(record.result)),)


def _without_restarts(operations: Iterable[Operation]) -> Iterator[Operation]:
    """A freeze or a signal interrupts a blocking call, the kernel repeats it: one operation."""
    held: Operation | None = None
    for operation in operations:
        if held is not None:
            if _repeats(held, operation):
                operation = evolve(operation, records=held.records + operation.records)  # noqa: PLW2901
            else:
                yield held
        held = operation if -operation.records[-1].result in syscalls.RESTARTS else None
        if held is None:
            yield operation
    if held is not None:
        yield held


def _repeats(held: Operation, operation: Operation) -> bool:
    """A repeated call has the same arguments; the program's next one may only have the same name."""
    before, after = held.first, operation.first
    arguments = (before.syscall, before.args, before.raw) == (after.syscall, after.args, after.raw)
    same = (held.name, held.path, held.path2, held.address, held.flags, held.access)
    return arguments and same == (
        *(operation.name, operation.path, operation.path2, operation.address, operation.flags),
        operation.access,
    )


def _named(
    name: str, records: Sequence[KernelRecord], processes: Processes, outcome: str, **details: Any
) -> Operation:
    first = records[0]
    return Operation(first.role, processes.label(first), name, outcome, tuple(records), **details)


def _path(record: KernelRecord, processes: Processes) -> bytes | None:
    return path_of(record, lambda number: processes.seen_from(record, number))


def _open(record: KernelRecord, processes: Processes) -> Operation:
    flags = _open_flags(record)
    done, created = record.result >= 0, record.flags & Flag.CREATED
    unlinked = ("unlinked",) if record.flags & Flag.UNLINKED and done else ()
    return Operation(
        role=record.role,
        process=processes.label(record),
        name="create" if created else "open",
        outcome=syscalls.outcome_of(record.result),
        records=(record,),
        path=_path(record, processes),
        access=access_of(flags),
        flags=flag_names(flags) + unlinked,
        write=wants_write(flags),
        mode=record.args[1] & 0o7777 if created else None,
        file_type=FILE_TYPES.get(record.inode_mode & 0o170000) if done else None,
    )


@lru_cache(1024)  # programs open with few different flags
def flag_names(flags: int) -> tuple[str, ...]:
    """What open flags ask for, in the words of FLAG_NAMES."""
    return tuple(name for bit, name in syscalls.FLAG_NAMES if flags & bit == bit)


def access_of(flags: int) -> str:
    return "path" if flags & syscalls.O_PATH else syscalls.ACCESS[flags & syscalls.O_ACCMODE]


def _open_flags(record: KernelRecord) -> int:
    if record.syscall == syscalls.CREAT:
        return syscalls.CREAT_FLAGS
    if record.syscall == syscalls.OPEN_TREE:
        return syscalls.O_PATH
    return record.args[0] & 0xFFFFFFFF


def open_arguments(record: KernelRecord) -> tuple[int, int, int]:
    """(flags, mode, resolve) of an open record as the kernel understood them.

    Without O_CREAT or O_TMPFILE the kernel ignores mode: whatever the register held is no evidence.
    """
    flags = _open_flags(record)
    has_mode = flags & (syscalls.O_CREAT | syscalls.O_TMPFILE)
    return flags, record.args[1] & 0xFFFFFFFF if has_mode else 0, record.args[2]


def wants_write(flags: int) -> bool:
    """Open flags that ask for more than looking: write access, creation, truncation."""
    if flags & syscalls.O_PATH:
        return False
    changing = syscalls.O_CREAT | syscalls.O_TRUNC | syscalls.O_TMPFILE
    return bool(flags & syscalls.O_ACCMODE or flags & changing)


def _exec(record: KernelRecord, processes: Processes) -> Operation:
    base = "exec", [record], processes, syscalls.outcome_of(record.result)
    if not is_execution(record):
        return _named(*base, path=_path(record, processes), write=False)
    said = execution(record, processes)
    called = said.called if said.called != said.path else None
    return _named(*base, path=said.path, write=False, called=called, argv=said.argv, argv_cut=said.argv_cut)


def _is_second_name(record: KernelRecord, following: Sequence[KernelRecord]) -> bool:
    if record.part or record.syscall not in syscalls.TWO_NAMES or not following:
        return False
    second = following[0]
    return (second.kind, second.syscall, second.part) == (Kind.PATH, record.syscall, 1)


def _path_operation(records: Sequence[KernelRecord], processes: Processes) -> Operation:
    first = records[0]
    name = syscalls.operation_name(first.syscall, first.args[0])
    names: list[bytes | None] = [None, None]
    for record in records:
        names[record.part] = _name_for(name, record, processes)
    return _named(
        name,
        records,
        processes,
        syscalls.outcome_of(first.result),
        path=names[0],
        path2=names[1],
        flags=("exchange",) if name == "rename" and first.args[0] & syscalls.RENAME_EXCHANGE else (),
        mode=first.args[0] & 0o7777 if name in syscalls.MODE_ARGUMENT else None,
        write=name != "name_to_handle",
    )


def _name_for(name: str, record: KernelRecord, processes: Processes) -> bytes | None:
    if name == "memfd_create":
        return b"memfd:" + record.raw  # a label, no path
    if name == "symlink" and record.part and not record.raw:
        return None  # no link says nothing
    if name == "symlink" and record.part and not record.raw.startswith(b"/"):
        return normal(record.raw)  # what the link says: relative to the link, not to the process
    if name == "symlink" and record.part:
        return without_numbers(normal(record.raw), lambda n: processes.seen_from(record, n))
    return _path(record, processes)


def _hooked(stream: Sequence[KernelRecord], at: int) -> int:
    """How many records from `at` on are hooks of one call, and that call."""
    end = at
    while end < len(stream) and stream[end].kind is Kind.NET and stream[end].args[0] == stream[at].args[0]:
        end += 1
    if end < len(stream) and stream[end].kind is Kind.SOCK and _calls_hook(stream[end], stream[at]):
        return end + 1 - at
    return end - at


def _calls_hook(call: KernelRecord, hook: KernelRecord) -> bool:
    return syscalls.operation_name(call.syscall, 0) in _HOOK_CALLS.get(_hook(hook), ())


def _hook(record: KernelRecord) -> str:
    number = record.args[0]
    return _HOOKS[number] if number < len(_HOOKS) else f"hook_{number}"


def _network_group(records: Sequence[KernelRecord], processes: Processes) -> Iterator[Operation]:
    """One operation per address; the result is the call's. The call counts to the last of them."""
    call = records[-1] if records[-1].kind is Kind.SOCK else None
    hooks = list(records[:-1] if call else records)
    for hook in hooks:
        name = _hook(hook) if call is None else syscalls.operation_name(call.syscall, 0)
        outcome = UNKNOWN_RESULT if call is None else syscalls.outcome_of(call.result)
        with_call = [hook, call] if call is not None and hook is hooks[-1] else [hook]
        address = endpoint(hook.raw, hook.args[1]) if len(hook.raw) in (4, 16) else None
        yield _named(name, with_call, processes, outcome, address=address)


def _socket_call(record: KernelRecord, processes: Processes) -> Operation:
    name = syscalls.operation_name(record.syscall, 0)
    address: Address | None
    if name == "socket":
        address = Address(family_name(record.args[0] & 0xFFFFFFFF), "")
    else:
        address = sockaddr(record.raw)
    file = _socket_file(record, processes)
    if file is not None:
        address = unix_address(file)
    made = ("create",) if name == "bind" and file is not None else ()  # the file, by its address
    return _named(name, [record], processes, syscalls.outcome_of(record.result), address=address, flags=made)


def _socket_file(record: KernelRecord, processes: Processes) -> bytes | None:
    """The file of a unix socket: as the kernel has it, else the name as called, from the caller's folder.

    A listener's file that lies in no mount of the caller (DETACHED: the harness made it) has the name there
    that the caller used.
    """
    called = unix_file(record.raw)
    if record.flags & Flag.OBJECT and not record.flags & Flag.DETACHED:
        return _path(record, processes)
    if called is None:
        return None
    flags = record.flags & ~(Flag.OBJECT | Flag.DETACHED)
    base = b"" if record.flags & Flag.OBJECT else record.walked
    return _path(record._replace(raw=called, flags=flags, walked=base), processes)


def addressed(operation: Operation) -> bool:
    """Does a socket operation name a peer, for all that is known, or make a socket of an unusual family?"""
    first = operation.first
    if operation.name == "socket":
        return first.args[0] & 0xFFFFFFFF not in COMMON
    unknown = first.flags & Flag.UNREADABLE or operation.outcome == "EFAULT"
    return bool(first.raw) or first.kind is Kind.NET or bool(unknown)
