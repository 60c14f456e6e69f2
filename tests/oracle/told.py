"""What each witness tells of a run, in one form: operations by thread, and how each process ended."""

import ipaddress
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from harness.evidence import syscalls
from harness.evidence.model import Kind, Role
from harness.evidence.operations import Operation, build_operations
from harness.evidence.processes import read_processes
from harness.run import Measured
from tests.oracle.strace_lines import CLONES, Descriptor, Line, Thread

# Calls of strace's log -> positions of (dirfd, name) pairs and of what else is compared.
_ONE_NAME = {
    "truncate": (None, 0), "chdir": (None, 0), "mkdir": (None, 0), "rmdir": (None, 0), "unlink": (None, 0),
    "chmod": (None, 0), "mknod": (None, 0), "mkdirat": (0, 1), "unlinkat": (0, 1), "fchmodat": (0, 1),
    "utimensat": (0, 1),
}  # fmt: skip
_TWO_NAMES = {
    "rename": ((None, 0), (None, 1)), "link": ((None, 0), (None, 1)),
    "renameat": ((0, 1), (2, 3)), "renameat2": ((0, 1), (2, 3)), "linkat": ((0, 1), (2, 3)),
}  # fmt: skip
_SYMLINKS = {"symlink": (None, 1), "symlinkat": (1, 2)}
_OPENS = {"open": (None, 0, 1), "creat": (None, 0, None), "openat": (0, 1, 2), "openat2": (0, 1, 2)}
_DESCRIPTORS = ("fchmod", "fchdir")
_SOCKETS = ("connect", "bind", "sendto", "sendmsg")
WATCHED = (*_ONE_NAME, *_TWO_NAMES, *_SYMLINKS, *_OPENS, *_DESCRIPTORS, *_SOCKETS, "socket", "execve")
_OPERATION = {"fchmod": "chmod", "fchmodat": "chmod", "fchdir": "chdir", "mkdirat": "mkdir",
              "renameat": "rename", "renameat2": "rename", "linkat": "link", "symlinkat": "symlink",
              "utimensat": "utimens"}  # fmt: skip
_COMMON_FAMILIES = (1, 2, 10)


@frozen
class Told:
    """One operation: `path` and `path2` are absolute where there is a folder to start from."""

    name: str
    outcome: str
    path: bytes | None = None
    path2: bytes | None = None
    flags: tuple[str, ...] = ()
    address: str | None = None


@frozen
class Account:
    """What one witness tells: operations by host thread, wait status by host process."""

    operations: Mapping[int, Counter[Told]]
    ends: Mapping[int, int]


def by_ebpf(measured: Measured) -> Account:
    """From the records of the run, by the product's own way."""
    records = [r for r in measured.observation.records if not r.setup and r.role is not Role.HARNESS]
    processes = read_processes(records)
    threads: dict[int, Counter[Told]] = {}
    for operation in build_operations(records, processes):
        told = _of_operation(operation)
        if told is not None:
            threads.setdefault(operation.first.tid, Counter())[told] += 1
    ends = {p.pid: p.exit_status for p in processes.every if p.end_ns is not None}
    return Account(threads, ends)


def _of_operation(operation: Operation) -> Told | None:
    if operation.name == "exec":
        # strace knows the name that was asked for, not the program that it led to
        return Told("exec", operation.outcome, _shared(operation.called or operation.path))
    if operation.first.kind in (Kind.SOCK, Kind.NET):
        if operation.name == "socket" and operation.first.args[0] in _COMMON_FAMILIES:
            return None
        address = _shared_text(operation.address.text) if operation.address is not None else None
        return Told(operation.name, operation.outcome, address=address)
    name = "open" if operation.name == "create" else operation.name
    if "exclusive" in operation.flags and operation.done and name == "open":
        assert operation.name == "create", operation
    return Told(name, operation.outcome, _shared(operation.path), _shared(operation.path2), operation.flags)


def _shared(path: bytes | None) -> bytes | None:
    return None if path is None else _without_numbers(path)


def _shared_text(text: str) -> str:
    return _without_numbers(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def by_strace(threads: Mapping[int, Thread]) -> Account:
    """From strace's lines, by a way of its own: names are joined and made normal here."""
    leaders = {number for number, thread in threads.items() if thread.status is not None}
    folders = dict.fromkeys(threads, b"/workspace")
    operations: dict[int, Counter[Told]] = {}
    started: set[int] = set()
    left = [min(threads)]
    threads_only: set[int] = set()
    order: list[int] = []
    while left:
        number = left.pop(0)
        if number in started:
            continue
        started.add(number)
        order.append(number)
        folder = folders[number]
        for line in threads[number].lines:
            if line.name in CLONES:
                if line.result > 0:
                    made = line.thread or line.result
                    folders[made] = folder
                    left.append(made)
                    if _is_thread(line):
                        threads_only.add(made)
                continue
            told = _of_line(line, folder)
            if told is not None:
                operations.setdefault(number, Counter())[told] += 1
            if line.name == "openat" and line.arguments[1] == b"." and line.opened:
                folder = line.opened.path  # where the agent says that it is now
    ends = {n: threads[n].status or 0 for n in leaders if n not in threads_only}
    return Account(operations, ends)


def _is_thread(line: Line) -> bool:
    flags = line.arguments[0]["flags"] if line.name == "clone3" else line.named.get("flags", 0)
    return bool(flags & 0x10000)  # CLONE_THREAD


def _of_line(line: Line, folder: bytes) -> Told | None:
    name, given = line.name, line.arguments
    outcome = syscalls.outcome_of(line.result)
    operation = _OPERATION.get(name, name)
    if name == "execve":
        return Told("exec", outcome, _joined(None, given[0], folder))
    if name in _OPENS:
        return _opened(line, folder, outcome)
    if name in _ONE_NAME:
        if name == "unlinkat":
            operation = "rmdir" if given[2] & 0x200 else "unlink"
        return Told(operation, outcome, _named(_ONE_NAME[name], given, folder, line.result))
    if name in _TWO_NAMES:
        first, second = (_named(place, given, folder, line.result) for place in _TWO_NAMES[name])
        exchange = name == "renameat2" and given[4] & 2
        return Told(operation, outcome, first, second, ("exchange",) if exchange else ())
    if name in _SYMLINKS:
        path = _named(_SYMLINKS[name], given, folder, line.result)
        text = given[0]
        return Told(operation, outcome, path, _normal(text) if text else None)
    if name in _DESCRIPTORS:
        held = given[0]
        path = held.path if isinstance(held, Descriptor) else None
        if path is not None and not path.startswith(b"/"):
            path = b"detached:/"
        return Told(operation, outcome, path)
    return _socket(line, outcome, folder)


def _opened(line: Line, folder: bytes, outcome: str) -> Told:
    given = line.arguments
    at, name, flags_at = _OPENS[line.name]
    flags = 0o1101 if flags_at is None else given[flags_at]
    if isinstance(flags, dict):
        flags = flags["flags"]
    names = tuple(text for bit, text in syscalls.FLAG_NAMES if flags & bit == bit)
    if line.opened is not None:
        unlinked = ("unlinked",) if line.opened.deleted else ()
        path = line.opened.path
        if unlinked and b"/#" in path:
            path = path.partition(b"/#")[0] + b"/#tmpfile"
        return Told("open", outcome, _without_numbers(path), flags=names + unlinked)
    return Told("open", outcome, _named((at, name), given, folder, line.result), flags=names)


def _named(place: tuple[int | None, int], given: tuple[Any, ...], folder: bytes, result: int) -> bytes | None:
    at, name = place
    base = given[at] if at is not None else None
    return _joined(base, given[name], folder)


def _joined(base: Any, name: bytes | None, folder: bytes) -> bytes | None:
    if not name:
        return None
    if name.startswith(b"/"):
        return _normal(name)
    if base is None or (isinstance(base, Descriptor) and base.number == -100):
        start = base.path if isinstance(base, Descriptor) else folder
    elif isinstance(base, Descriptor):
        start = base.path
    else:
        return _normal(name)
    if not start.startswith(b"/"):  # a socket, say: no folder at all
        return b"detached:" + _normal(b"/" + name)
    return _normal(start + b"/" + name)


def _without_numbers(path: bytes) -> bytes:
    """Which process a path of /proc belongs to is told by eBPF alone, strace has its number."""
    return re.sub(rb"^/proc/(?:\d+|self|<[^>]*>)(?=/|$)", b"/proc/<process>", path)


def _normal(path: bytes) -> bytes:
    absolute, kept = path.startswith(b"/"), list[bytes]()
    for part in path.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b".." and kept and kept[-1] != b"..":
            kept.pop()
        elif part != b".." or not absolute:
            kept.append(part)
    joined = b"/".join(kept)
    return _without_numbers(b"/" + joined) if absolute else joined or b"."


def _socket(line: Line, outcome: str, folder: bytes) -> Told | None:
    given = line.arguments
    if line.name == "socket":
        return None if given[0] in _COMMON_FAMILIES else Told("socket", outcome)
    value = (
        given[1].get("msg_name")
        if line.name == "sendmsg"
        else given[4]
        if line.name == "sendto"
        else given[1]
    )
    if not isinstance(value, dict):
        return None
    return Told(line.name, outcome, address=_address(value, folder))


def _address(value: dict[str, Any], folder: bytes) -> str | None:
    family = value["sa_family"]
    if family == 1:
        path: bytes = value.get("sun_path") or b""
        if path.startswith(b"\0"):
            return "@" + path[1:].decode("utf-8", "backslashreplace")
        name = _normal(path if path.startswith(b"/") else folder + b"/" + path)
        return name.decode("utf-8", "backslashreplace")
    if family == 2:
        return f"{ipaddress.ip_address(value['sin_addr'])}:{int.from_bytes(value['sin_port'], 'big')}"
    if family == 10:
        host = ipaddress.IPv6Address(value["sin6_addr"])
        port = int.from_bytes(value["sin6_port"], "big")
        return f"{host.ipv4_mapped}:{port}" if host.ipv4_mapped else f"[{host}]:{port}"
    return None


def differences(ebpf: Account, strace: Account) -> list[str]:
    """What one told and the other did not; empty when they agree."""
    found = []
    for thread in sorted({*ebpf.operations, *strace.operations}):
        ours, theirs = ebpf.operations.get(thread, Counter()), strace.operations.get(thread, Counter())
        found += [f"{thread}: only eBPF: {told}" for told in (ours - theirs).elements()]
        found += [f"{thread}: only strace: {told}" for told in (theirs - ours).elements()]
    for process in sorted({*ebpf.ends, *strace.ends}):
        if ebpf.ends.get(process) != strace.ends.get(process):
            found.append(f"{process}: ended {ebpf.ends.get(process)} and {strace.ends.get(process)}")
    return found
