"""Where the members of an archive are in its decoded bytes: a tar file's headers, or a folder's files.

No member is ever written to a path of its own choosing.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

from harness.bundle.layout import BLOCK, END, FIELDS, MAX_NAME, MEMBER_ORDER, header, padding
from harness.bundle.payload import Limits, Payload, gunzip
from harness.bundle.problem import BrokenError, Problem
from harness.contracts.manifest import MANIFEST, V0_MEMBERS

MAX_MEMBERS = 64  # far more than there are names, so that a tar of a million headers ends early


@frozen
class Slot:
    """One member: `size` bytes from `offset` of the payload on."""

    name: str
    offset: int
    size: int


class Members(Mapping[str, bytes]):
    """Member -> its bytes, in the archive's order; `chunks` for those that are too large to hold."""

    def __init__(self, payload: Payload, slots: tuple[Slot, ...]) -> None:
        self._payload = payload
        self._slots = {slot.name: slot for slot in slots}

    def __getitem__(self, name: str) -> bytes:
        slot = self._slots[name]
        return self._payload.read(slot.offset, slot.size)

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, name: object) -> bool:
        return name in self._slots

    def size(self, name: str) -> int:
        return self._slots[name].size

    def chunks(self, name: str) -> Iterator[bytes]:
        slot = self._slots[name]
        return self._payload.chunks(slot.offset, slot.size)


class Bounded:
    """Stage 1: sizes, names, counts and the compression ratio are within bounds; nothing more is known.

    `odd` is what the walk could not follow or read, for the next stage to report.
    """

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.place = str(path)
        limits = limits or Limits()
        problems: list[Problem] = []
        if path.is_dir():
            self.tar = False
            self.payload = Payload(limits.in_memory)
            self.slots, self.odd = _copied(path, self.payload, limits, problems)
        else:
            self.tar = True
            with path.open("rb") as stream:
                self.payload = gunzip(stream, limits)
            self.slots, self.odd = _walked(self.payload, limits, problems)
        if problems:
            raise BrokenError(problems)


class Structured:
    """Stage 2: a tar of exactly our form (contracts §1.2), all v0 members, in order, once, and no others."""

    def __init__(self, bounded: Bounded) -> None:
        slots = bounded.slots
        problems = list(_header_problems(bounded)) if bounded.tar else []
        problems += bounded.odd
        problems += _order_problems([slot.name for slot in slots])
        if not bounded.odd:
            problems += _missing_problems({slot.name for slot in slots})
        if problems:
            raise BrokenError(problems)
        self.place = bounded.place
        self.members = Members(bounded.payload, slots)


def _walked(
    payload: Payload, limits: Limits, problems: list[Problem]
) -> tuple[tuple[Slot, ...], tuple[Problem, ...]]:
    """Header after header, as far as names and sizes can be read."""
    slots: list[Slot] = []
    odd: list[Problem] = []
    offset = 0
    while (block := payload.read(offset, BLOCK)) != bytes(BLOCK):
        found = _header(block, offset, odd)
        if found is None:
            break
        name, size = found
        problems += _name_problems(name)
        if size > limits.of_member(name):
            text = f"has {size} bytes, more than {limits.of_member(name)}"
            problems.append(Problem("LimitFileSize", name, "", "", text))
        if len(slots) == MAX_MEMBERS:
            problems.append(Problem("LimitMembers", name, "", "", f"more than {MAX_MEMBERS} members"))
        if problems:
            break
        slots.append(Slot(name, offset + BLOCK, size))
        offset += BLOCK + size
        if offset > payload.size:
            odd.append(Problem("IntegrityTar", name, "", "", "is cut short"))
            break
        if any(payload.read(offset, padding(size))):
            odd.append(Problem("IntegrityTar", name, "", "", "is badly padded"))
        offset += padding(size)
    else:
        if payload.size - offset != len(END) or payload.read(offset, len(END)) != END:
            odd.append(Problem("IntegrityTar", "", "", "", "does not end with exactly two zero blocks"))
    return tuple(slots), tuple(odd)


def _header(block: bytes, offset: int, odd: list[Problem]) -> tuple[str, int] | None:
    """Name and size of the member that a header announces; None, and a problem, if it says neither."""
    raw = block[:MAX_NAME].rstrip(b"\0")
    digits = block[124:135]
    if len(block) < BLOCK:
        text = f"ends within a header at byte {offset}"
    elif not raw or not all(0x20 < byte < 0x7F for byte in raw):
        text = f"a member has the impossible name {raw!r}"
    elif not all(byte in b"01234567" for byte in digits):
        text = f"member {raw.decode('ascii')} has no octal size"
    else:
        return raw.decode("ascii"), int(digits, 8)
    odd.append(Problem("IntegrityTar", "", "", "", text))
    return None


def _name_problems(name: str) -> Iterator[Problem]:
    if name.startswith("/"):
        yield Problem("SecurityAbsolutePath", name, "", "", "an absolute path")
    elif ".." in name.split("/"):
        yield Problem("SecurityPathTraversal", name, "", "", "leads out of the archive")


def _header_problems(bounded: Bounded) -> Iterator[Problem]:
    """Each header must be, byte for byte, the one that such a member has."""
    for slot in bounded.slots:
        block, wanted = bounded.payload.read(slot.offset - BLOCK, BLOCK), header(slot.name, slot.size)
        if block != wanted:
            differing = [at for at in range(BLOCK) if block[at] != wanted[at]]
            fields = {[label for start, label in FIELDS if start <= at][-1] for at in differing}
            # The checksum differs with any other field: name the cause.
            label = ", ".join(sorted(fields - {"checksum"}) or fields)
            yield Problem("IntegrityTar", slot.name, "", "", f"header field {label} is not as fixed")


def _order_problems(names: list[str]) -> Iterator[Problem]:
    seen: list[str] = []
    for name in names:
        if name in seen:
            yield Problem("ContractDuplicateFile", name, "", "", "is there twice")
        elif name not in MEMBER_ORDER:
            yield Problem("ContractUnexpectedFile", name, "", "", "is no member that is known")
        elif not seen and name != MANIFEST:
            yield Problem("ContractMissingManifest", name, "", MANIFEST, f"{name} as the first member")
        elif seen and MEMBER_ORDER.index(name) < max(_place(other) for other in seen):
            yield Problem("ContractFileOrder", name, "", "", f"comes after {seen[-1]}")
        seen.append(name)


def _place(name: str) -> int:
    return MEMBER_ORDER.index(name) if name in MEMBER_ORDER else -1


def _missing_problems(names: set[str]) -> Iterator[Problem]:
    for name in V0_MEMBERS:
        if name not in names:
            code = "ContractMissingManifest" if name == MANIFEST else "ContractMissingFile"
            yield Problem(code, name, "", "a member of that name", "none")


def _copied(
    path: Path, payload: Payload, limits: Limits, problems: list[Problem]
) -> tuple[tuple[Slot, ...], tuple[Problem, ...]]:
    """Regular files at known places and nothing else; links are not followed."""
    folders = {name.rpartition("/")[0] for name in MEMBER_ORDER} - {""}
    odd: list[Problem] = []
    found: dict[str, Path] = {}
    for base in ("", *sorted(folders)):
        folder = path / base
        if base and not os.path.lexists(folder):
            continue
        if base and (folder.is_symlink() or not folder.is_dir()):
            odd.append(Problem("ContractUnexpectedFile", base, "", "", "is no folder of its own"))
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                name = f"{base}/{entry.name}" if base else entry.name
                if name in MEMBER_ORDER:
                    found[name] = folder / entry.name
                elif name not in folders:
                    odd.append(Problem("ContractUnexpectedFile", repr(name), "", "", "is no member"))
                if len(odd) > MAX_MEMBERS:
                    return (), tuple(odd)
    slots = []
    for name in MEMBER_ORDER:
        if name in found:
            slots.append(Slot(name, payload.size, _copy(found[name], name, payload, limits, problems, odd)))
        if problems:
            break
    return tuple(slots), tuple(odd)


def _copy(
    path: Path, name: str, payload: Payload, limits: Limits, problems: list[Problem], odd: list[Problem]
) -> int:
    # Not blocking: a fifo must not hang the reader before it is seen to be none of ours.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        odd.append(Problem("ContractUnexpectedFile", name, "", "", "is no regular file"))
        return 0
    with os.fdopen(descriptor, "rb") as stream:
        size, limit = 0, limits.of_member(name)
        while data := stream.read(1 << 18):
            size += len(data)
            if size > limit:
                problems.append(Problem("LimitFileSize", name, "", "", f"has more than {limit} bytes"))
                return 0
            if payload.size + len(data) > limits.decoded:
                text = f"holds more than {limits.decoded} bytes"
                problems.append(Problem("LimitDecodeBytes", "", "", "", text))
                return 0
            payload.append(data)
    return size
