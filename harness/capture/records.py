"""From ring bytes to KernelRecord: the layout is read from bpf/record.h, never repeated here."""

import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path

from attrs import Factory, frozen

from harness.contracts.bounds import MAX_NAME_BYTES
from harness.evidence.model import ENTRY, KernelRecord, Kind, Role

Keep = Callable[[KernelRecord], bool]
RECORD_H = Path(__file__).resolve().parents[2] / "bpf" / "record.h"
_C_TYPES = {"u64": "Q", "s64": "q", "u32": "I", "u16": "H", "u8": "B"}
_BUSY, _DISCARD, _LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1  # BPF_RINGBUF_*_BIT, uapi/linux/bpf.h
_HEAD = struct.Struct("<I")
_ROLES = (Role.HARNESS, Role.SUBJECT, Role.TOOLS)


@frozen
class Layout:
    """struct record as Python's struct format, with the constants of the header file."""

    header: struct.Struct
    names: tuple[str, ...]
    constants: Mapping[str, int]
    kinds: Mapping[int, Kind]


def read_layout(path: Path = RECORD_H) -> Layout:
    """Parse the #defines and `struct record`; ValueError if a field has an unknown type."""
    text = path.read_text(encoding="utf-8")
    constants = {name: int(value) for name, value in re.findall(r"^#define (\w+) (\d+)", text, re.MULTILINE)}
    body = re.search(r"^struct record \{(.*?)^\};", text, re.MULTILINE | re.DOTALL)
    if body is None:
        raise ValueError(f"{path}: no struct record")
    form, names = "<", []
    for ctype, name, length in re.findall(r"^\s+(\w+) (\w+)(?:\[(\d+)\])?;", body[1], re.MULTILINE):
        if ctype == "char" and length:
            form += f"{length}s"
        elif ctype in _C_TYPES and not length:
            form += _C_TYPES[ctype]
        else:
            raise ValueError(f"{path}: field {name} has a type that records do not have")
        names.append(name)
    kinds = {
        value: Kind(name.removeprefix("KIND_").lower())
        for name, value in constants.items()
        if name.startswith("KIND_")
    }
    return Layout(struct.Struct(form), tuple(names), constants, kinds)


LAYOUT = read_layout()
_FIELDS = [
    *(
        "time_ns",
        "a0",
        "a1",
        "a2",
        "result",
        "pid",
        "tid",
        "vpid",
        "vtid",
        "file_flags",
        "inode_mode",
        "flags",
    ),
    *("walked_len", "raw_len", "syscall", "kind", "where", "comm"),
]
if list(LAYOUT.names) != _FIELDS:
    raise ValueError(f"{RECORD_H} and records.py disagree about struct record")
_ROLE, _SETUP, _PART2, _ENTRY = (
    LAYOUT.constants[f"WHERE_{name}"] for name in ("ROLE", "SETUP", "PART2", "ENTRY")
)
# Every value of `where` as (role, setup, part), None without a role.
_PLACES = tuple(
    (_ROLES[where & _ROLE], bool(where & _SETUP), ENTRY if where & _ENTRY else int(bool(where & _PART2)))
    if where & _ROLE < len(_ROLES)
    else None
    for where in range(256)
)


@frozen
class Decoded:
    """Kept records in ring order, how many there were, and how many could not be read.

    left_out  those that were to be kept, but for a bound
    """

    records: tuple[KernelRecord, ...]
    total: int
    errors: int
    left_out: Mapping[Kind, int] = Factory(dict)


class _Names(dict[bytes, bytes]):
    """Each name once, however many records have it; `length` of all together."""

    length = 0

    def __missing__(self, name: bytes) -> bytes:
        self.length += len(name)
        self[name] = name
        return name


def everything(_: KernelRecord) -> bool:
    """Keeps every record."""
    return True


def decode(data: bytes | mmap, keep: Keep = everything, *, most_names: int = MAX_NAME_BYTES) -> Decoded:
    """Decode a run's ring bytes. A record that does not fit its own lengths counts as an error.

    `keep` is shown every record; what it declines costs no memory. Beyond `most_names` bytes of names, each
    counted once, records that have any are counted only.
    """
    records: list[KernelRecord] = []
    names, left_out = _Names(), Counter[Kind]()
    held: Callable[[bytes], bytes] = names.__getitem__
    total = errors = 0
    for payload in payloads(data):
        record = _record(total, payload, held)
        if record is None:
            errors += 1
            continue
        total += 1
        if names.length > most_names:
            held = bytes
        if keep(record):
            if held is bytes and (record.walked or record.raw):
                left_out[record.kind] += 1
            else:
                records.append(record)
    return Decoded(tuple(records), total, errors, left_out)


@contextmanager
def spooled(path: Path) -> Iterator[bytes | mmap]:
    """The bytes of a spool file, mapped, because a long run's need not fit into memory twice."""
    if not path.exists() or not path.stat().st_size:  # nothing can be mapped
        yield b""
        return
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        yield data


def payloads(data: bytes | mmap) -> Iterator[bytes]:
    """The committed records of ring bytes: 8-byte header, payload, padding to 8 (kernel ringbuf.c)."""
    at, end = 0, len(data)
    while at + 8 <= end:
        (head,) = _HEAD.unpack_from(data, at)
        length = head & _LENGTH
        if not head & (_BUSY | _DISCARD):
            yield data[at + 8 : at + 8 + length]
        at += (length + 15) & ~7


def _record(seq: int, payload: bytes, held: Callable[[bytes], bytes]) -> KernelRecord | None:
    size = LAYOUT.header.size
    if len(payload) < size:
        return None
    fields = LAYOUT.header.unpack_from(payload)
    time_ns, a0, a1, a2, result, pid, tid, vpid, vtid = fields[:9]
    file_flags, inode_mode, flags, walked_len, raw_len, syscall, number, where, comm = fields[9:]
    kind, place = LAYOUT.kinds.get(number), _PLACES[where]
    if len(payload) != size + walked_len + raw_len or kind is None or place is None:
        return None
    role, setup, part = place
    return KernelRecord(  # by position: half the time, and there may be millions
        seq, time_ns, kind, syscall, role, setup, pid, tid, vpid, vtid, result, flags, part,
        held(payload[size : size + walked_len]), held(payload[size + walked_len :]), (a0, a1, a2),
        file_flags, inode_mode, comm.split(b"\0", 1)[0],
    )  # fmt: skip
