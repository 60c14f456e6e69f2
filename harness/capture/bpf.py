"""bpf(2), as far as capture needs it: maps, programs, and the places that programs are hooked to.

Commands, attributes and constants: include/uapi/linux/bpf.h. Every descriptor closes on exec. A call
that fails is an OSError with the kernel's errno.
"""

import ctypes
import errno
import fcntl
import os
import resource
import struct
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

_SYS_BPF, _SYS_PERF_EVENT_OPEN = 321, 298  # x86-64
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _MAP_NEXT_KEY = 0, 1, 2, 3, 4
_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _INFO_BY_FD, _RAW_TRACEPOINT_OPEN = 5, 8, 9, 15, 17
_PER_CPU = frozenset({5, 6, 10})  # PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH
_ALLOW_MULTI = 2  # BPF_F_ALLOW_MULTI
_SLEEPABLE = 1 << 4  # BPF_F_SLEEPABLE
RAW_TRACEPOINT, TRACEPOINT, CGROUP_SOCK_ADDR = 17, 5, 18  # enum bpf_prog_type
_RETURN_0 = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
# include/uapi/linux/perf_event.h: PERF_TYPE_TRACEPOINT, PERF_ATTR_SIZE_VER5, and what a descriptor is asked
_TRACEPOINT_EVENT, _EVENT_SIZE, _CLOSE_ON_EXEC = 2, 112, 8
_ENABLE, _SET_BPF = 0x2400, 0x40042408
_MAP_INFO, _PROG_INFO_SIZE, _RECURSION_MISSES_AT = struct.Struct("=6I16s"), 232, 208
_LOG_SIZE = 1 << 24
_CPUS = Path("/sys/devices/system/cpu")
_POSSIBLE = _CPUS / "possible"

_libc = ctypes.CDLL(None, use_errno=True)


class ProgramRefusedError(OSError):
    """The verifier did not take a program; `log` is all that it said, and it may be long."""

    def __init__(self, refused: OSError, name: str, log: str) -> None:
        super().__init__(refused.errno, f"{refused.strerror}: {name}: {_reason(log)}")
        self.log = log


@frozen
class MapKind:
    """What a map is made from: enum bpf_map_type, sizes in bytes, number of entries, BPF_F_* flags."""

    name: str
    type: int
    key_size: int
    value_size: int
    entries: int
    flags: int


@frozen
class Map:
    """A map of the kernel, by its descriptor. Keys and values are bytes of the kind's sizes."""

    descriptor: int
    kind: MapKind

    @classmethod
    def create(cls, kind: MapKind) -> "Map":
        sizes = struct.pack("=5I", kind.type, kind.key_size, kind.value_size, kind.entries, kind.flags)
        return cls(_bpf(_MAP_CREATE, sizes + struct.pack("=2I16s", 0, 0, kind.name.encode()[:15])), kind)

    def update(self, key: bytes, value: bytes) -> None:
        self._entry(_MAP_UPDATE, key, ctypes.create_string_buffer(value, self.kind.value_size))

    def delete(self, key: bytes) -> None:
        """Remove the entry, if it is there."""
        try:
            self._entry(_MAP_DELETE, key, None)
        except FileNotFoundError:
            pass

    def values(self, key: bytes) -> list[bytes]:
        """The value, or one value for each possible CPU."""
        if self.kind.type not in _PER_CPU:
            step, count = self.kind.value_size, 1
        else:
            step, count = (self.kind.value_size + 7) & ~7, possible_cpus()
        found = ctypes.create_string_buffer(step * count)
        self._entry(_MAP_LOOKUP, key, found)
        return [found.raw[step * i : step * i + self.kind.value_size] for i in range(count)]

    def keys(self) -> Iterator[bytes]:
        """All keys; what is added or removed meanwhile may be missed or told twice."""
        key: bytes | None = None
        while True:
            following = ctypes.create_string_buffer(self.kind.key_size)
            try:
                self._entry(_MAP_NEXT_KEY, key, following)
            except FileNotFoundError:
                return
            yield following.raw
            key = following.raw

    def clear(self) -> None:
        """Remove every entry; for maps whose entries can be removed."""
        for key in list(self.keys()):
            self.delete(key)

    def _entry(self, command: int, key: bytes | None, value: "ctypes.Array[ctypes.c_char] | None") -> None:
        held = None if key is None else ctypes.create_string_buffer(key, self.kind.key_size)
        places = [0 if one is None else ctypes.addressof(one) for one in (held, value)]
        _bpf(command, struct.pack("=IIQQQ", self.descriptor, 0, *places, 0))


def lift_memory_limit() -> None:
    """Before Linux 5.11 maps count as locked memory of their maker."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError):
        pass  # without CAP_SYS_RESOURCE; a newer kernel does not look at it


def map_kind(descriptor: int) -> MapKind:
    """What the map of this descriptor was made from."""
    info = _info(descriptor, _MAP_INFO.size + 16)
    kind, _, key_size, value_size, entries, flags, name = _MAP_INFO.unpack_from(info)
    return MapKind(name.partition(b"\0")[0].decode(), kind, key_size, value_size, entries, flags)


def load_program(
    kind: int, name: str, instructions: bytes, *, expected_attach: int = 0, flags: int = 0
) -> int:
    """Descriptor of the loaded program (enum bpf_prog_type, enum bpf_attach_type, BPF_F_* flags).

    ProgramRefusedError if it was the verifier that refused.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    terms = ctypes.create_string_buffer(b"GPL")

    def load(log: "ctypes.Array[ctypes.c_char] | None") -> int:
        wants = (1, len(log), ctypes.addressof(log)) if log is not None else (0, 0, 0)
        places = (ctypes.addressof(code), ctypes.addressof(terms))
        head = (kind, len(instructions) // 8, *places, *wants, 0, flags)
        return _bpf(_PROG_LOAD, struct.pack("=IIQQIIQII16sII", *head, name.encode()[:15], 0, expected_attach))

    try:
        return load(None)
    except OSError as refused:
        log = ctypes.create_string_buffer(_LOG_SIZE)
        try:
            return load(log)
        except OSError:
            raise ProgramRefusedError(refused, name, log.value.decode(errors="replace")) from None


def _reason(log: str) -> str:
    """The line of a verifier's log that says why: the last but for its statistics."""
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith("processed ")]
    return lines[-1].strip() if lines else "the verifier said nothing"


def has_sleepable_tracepoints() -> bool:
    """Does this kernel take programs for tracepoints that may sleep? It is asked by loading one."""
    try:
        os.close(load_program(RAW_TRACEPOINT, "may_sleep", _RETURN_0, flags=_SLEEPABLE))
    except OSError:
        return False
    return True


def open_raw_tracepoint(name: str, program: int) -> int:
    """Hook the program to a raw tracepoint for as long as the descriptor is open."""
    named = ctypes.create_string_buffer(name.encode())
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("=QII", ctypes.addressof(named), program, 0))


def open_tracepoint(folder: Path, program: int) -> int:
    """Hook the program to a classic tracepoint, by its folder in tracefs, as long as the descriptor is open.

    The event is one of one CPU, as perf_event_open(2) wants it; the program runs on all of them.
    """
    number = int((folder / "id").read_text(encoding="ascii"))
    event = struct.pack("=IIQQ", _TRACEPOINT_EVENT, _EVENT_SIZE, number, 1).ljust(_EVENT_SIZE, b"\0")
    held = ctypes.create_string_buffer(event, len(event))
    descriptor = int(_libc.syscall(_SYS_PERF_EVENT_OPEN, held, -1, _online_cpu(), -1, _CLOSE_ON_EXEC))
    if descriptor < 0:
        raise _failed()
    try:
        fcntl.ioctl(descriptor, _SET_BPF, program)
        fcntl.ioctl(descriptor, _ENABLE, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def attach_to_cgroup(program: int, cgroup: int, kind: int) -> None:
    """Hook the program (enum bpf_attach_type) to a cgroup's directory, beside what others hooked there."""
    _bpf(_PROG_ATTACH, struct.pack("=4I", cgroup, program, kind, _ALLOW_MULTI))


def detach_from_cgroup(program: int, cgroup: int, kind: int) -> None:
    """Take it off again."""
    _bpf(_PROG_DETACH, struct.pack("=4I", cgroup, program, kind, 0))


def recursion_misses(program: int) -> int:
    """Events that the kernel skipped because this program was already running on that CPU.

    OSError by a kernel that does not count them (before 5.12): none would be noticed there.
    """
    info = _info(program, _PROG_INFO_SIZE)
    if len(info) < _RECURSION_MISSES_AT + 8:
        raise OSError(errno.ENOTSUP, "this kernel does not count the events that it skips")
    return int(struct.unpack_from("=Q", info, _RECURSION_MISSES_AT)[0])


def possible_cpus() -> int:
    """How many values a per-CPU entry has (Documentation/admin-guide/cputopology.rst: "0-3,8")."""
    parts = [part.partition("-") for part in _POSSIBLE.read_text(encoding="ascii").strip().split(",")]
    return max(int(last or first) for first, _, last in parts) + 1


def _online_cpu() -> int:
    """The first CPU that is on: not always number 0."""
    return int((_CPUS / "online").read_text(encoding="ascii").replace("-", ",").split(",")[0])


def _info(descriptor: int, size: int) -> bytes:
    """As much of the struct as this kernel has; it says how much."""
    info = ctypes.create_string_buffer(size)
    asked = ctypes.create_string_buffer(struct.pack("=IIQ", descriptor, size, ctypes.addressof(info)), 16)
    _call(_INFO_BY_FD, asked)
    return info.raw[: struct.unpack_from("=I", asked, 4)[0]]


def _bpf(command: int, attributes: bytes) -> int:
    return _call(command, ctypes.create_string_buffer(attributes, len(attributes)))


def _call(command: int, attributes: "ctypes.Array[ctypes.c_char]") -> int:
    result = int(_libc.syscall(_SYS_BPF, command, attributes, len(attributes)))
    if result < 0:
        raise _failed()
    return result


def _failed() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
