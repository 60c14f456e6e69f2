"""What the two kernel layers say of each other, and of what was declared: classes, events, the v1 surface."""

import re
from collections.abc import Iterator

from harness.bundle.contents import Contents
from harness.bundle.kernel_lines import V0Fact
from harness.bundle.line_classes import LineClasses
from harness.bundle.meaning_layers import short
from harness.bundle.problem import Problem
from harness.contracts import companion
from harness.contracts.canonical import sha256_of, to_bytes
from harness.contracts.companion import (
    AccountingV1,
    CapabilitySurfaceV1,
    KernelEventV1,
    ProcessTreeV1,
    RunSpecDocV1,
)
from harness.contracts.converter import unstructure
from harness.contracts.kernel_event import EXEC, OPENAT
from harness.contracts.manifest import KERNEL
from harness.evidence.addresses import FAMILIES
from harness.evidence.classify import EventClass
from harness.evidence.host_view import place_at
from harness.evidence.kernel_v0 import BOTH_NAMES, NETWORK_IDS, OTHER_IDS
from harness.evidence.model import Role
from harness.evidence.operations import FILE_TYPES, SEEN, UNKNOWN_RESULT, access_of, flag_names
from harness.evidence.surface_v1 import is_network, surface_v1, wants_change
from harness.evidence.syscalls import (
    ACCESS,
    FLAG_NAMES,
    MODE_ARGUMENT,
    O_CREAT,
    O_TMPFILE,
    OPERATIONS,
    is_outcome,
)
from harness.evidence.temporary import final

_FLAGS = (*(name for _, name in FLAG_NAMES), "unlinked")
_OPENS = frozenset({"open", "create"})
_OPERATIONS = frozenset(OPERATIONS.values()) | {"cgroup_attach", "compat_syscall"}
_NUMBERED = re.compile(r"(?:syscall|hook)_[0-9]{1,10}")
_NUMBERED_FAMILY = re.compile(r"af_[0-9]{1,10}")
_MODE = re.compile(r"[0-7]{4}")
_ROLES = frozenset({Role.SUBJECT.value, Role.TOOLS.value})
Key = tuple[object, ...]


def surface_v1_problems(contents: Contents) -> Iterator[Problem]:
    """companion/surface.json is what its kernel layer and the policy layer give, byte for byte."""
    wanted = surface_v1(contents.run_id, contents.v1.lines(), contents.policy)
    if to_bytes(unstructure(wanted)) == contents.members[companion.SURFACE]:
        return
    claimed = contents.document(companion.SURFACE, CapabilitySurfaceV1)
    have, want = unstructure(claimed), unstructure(wanted)
    for key in ("paths", "network", "execs", "tools", "telemetry"):
        ours, theirs = [to_bytes(entry) for entry in want[key]], [to_bytes(entry) for entry in have[key]]
        for entry in sorted(set(ours) - set(theirs)):
            yield _surface(key, short_bytes(entry), "not there")
        for entry in sorted(set(theirs) - set(ours)):
            yield _surface(key, "no such entry", short_bytes(entry))
        if ours != theirs and set(ours) == set(theirs):
            yield _surface(
                key, "entries sorted, each once", f"another order: {sha256_of(to_bytes(have[key]))}"
            )


def short_bytes(entry: bytes) -> str:
    return entry[:400].decode("utf-8", "replace")


def line_problems(contents: Contents) -> Iterator[Problem]:
    """Each line's words are of the vocabulary, and its class is the one that such an operation has."""
    spec = contents.document(companion.RUNSPEC, RunSpecDocV1)
    classes = LineClasses(spec, contents.document(companion.PROCESSES, ProcessTreeV1).processes)
    books = contents.document(companion.ACCOUNTING, AccountingV1)
    for line in contents.v1.lines():
        where = _shown(line)
        for word, good in (("role", line.role in _ROLES), ("outcome", _outcome_fits(line))):
            if not good:
                yield _line(where, f"a known {word}", getattr(line, word))
        for what, good in _details(line):
            if not good:
                yield _line(where, what, short(unstructure(line))[60:])
        for text, hexed in ((line.path, line.path_hex), (line.path2, line.path2_hex)):
            if hexed is not None and not _hex_fits(text, hexed):
                yield _line(where, "a hex form of its name", hexed)
        wanted = classes.of(line)
        if books.host_view is not None and _is_host_view(line):
            wanted = frozenset()
        if line.event_class not in wanted:
            yield _line(
                where, " or ".join(sorted(wanted)) or "a class that is only counted", line.event_class
            )


def _is_host_view(line: KernelEventV1) -> bool:
    """Of what failed, the name as the program wrote it is not told, and that decides."""
    looked = line.operation == "open" and line.access == "read" and line.outcome == "ok"
    return (
        looked
        and line.path is not None
        and not wants_change("read", line.flags or ())
        and (place_at(line.path.encode()) is not None)
    )


def _outcome_fits(line: KernelEventV1) -> bool:
    if line.operation in ("cgroup_attach", "compat_syscall"):
        return line.outcome == SEEN
    unseen = is_network(line) or line.path is None  # a hook, or a call's start, without its return
    return is_outcome(line.outcome) or (line.outcome == UNKNOWN_RESULT and unseen)


def _details(line: KernelEventV1) -> Iterator[tuple[str, bool]]:
    """What stands there only for some operations, and in what words."""
    opened, done = line.access is not None, line.outcome == "ok"
    network = is_network(line)
    yield "a known operation", {line.operation} <= _OPENS if opened else _known(line.operation)
    yield "a known access", line.access in (None, "path", *ACCESS)
    yield "known flags in their order", line.flags is None or _flags_fit(line)
    moded = line.operation == "create" or line.operation in MODE_ARGUMENT
    yield (
        "an octal mode where there is one",
        moded == (_octal(line) is not None) and moded == (line.mode is not None),
    )
    yield (
        "a file's type",
        line.file_type is None or (opened and done and line.file_type in FILE_TYPES.values()),
    )
    ran = line.operation == "exec" and done
    yield "argv of what ran", ran == (line.argv is not None) and (ran or not (line.called or line.argv_cut))
    yield "a cut that is true or not there", line.argv_cut in (None, True)
    yield "an address of a socket", network or line.address is None
    yield "a family and an address, or none", (line.family is None) == (line.address is None)
    yield "a known family", line.family is None or _family(line.family)
    yield "no path beside an address", not network or (line.path is None and line.path2 is None)


def _known(operation: str) -> bool:
    numbered = _NUMBERED.fullmatch(operation) is not None
    return numbered or (operation in _OPERATIONS and operation not in _OPENS)


def _family(name: str) -> bool:
    return name in FAMILIES.values() or _NUMBERED_FAMILY.fullmatch(name) is not None


def _octal(line: KernelEventV1) -> int | None:
    return int(line.mode, 8) if line.mode is not None and _MODE.fullmatch(line.mode) else None


def _flags_fit(line: KernelEventV1) -> bool:
    if line.operation == "rename":
        return line.flags == ("exchange",)
    if line.operation == "bind":  # of a unix socket that is a file
        return line.flags == ("create",) and line.family == "unix" and (line.address or "").startswith("/")
    in_order = tuple(name for name in _FLAGS if name in (line.flags or ()))
    return line.access is not None and line.flags == in_order != ()


def _hex_fits(text: str | None, hexed: str) -> bool:
    try:
        raw = bytes.fromhex(hexed)
    except ValueError:
        return False
    lossy = raw.decode("utf-8", "replace")
    return raw.hex() == hexed and lossy == text and lossy.encode() != raw


def v0_problems(contents: Contents) -> Iterator[Problem]:
    """layers/kernel.ndjson holds what the companion's evidence gives in v0's words, and nothing else."""
    told: dict[Key, set[str]] = {}
    created: dict[Key, set[int]] = {}
    opened: set[Key] = set()
    for line in contents.v1.lines():
        if line.event_class == EventClass.EVIDENCE:
            for key in _keys_of_line(line):
                told.setdefault(key, set()).add(line.outcome)
                mode = _octal(line)
                if line.operation == "create" and mode is not None:
                    created.setdefault(key, set()).add(mode)
                else:
                    opened.add(key)
    said: dict[Key, set[str | None]] = {}
    modes: dict[Key, set[int]] = {}
    for fact in contents.v0.facts():
        key = _key_of_fact(fact)
        said.setdefault(key, set()).add(fact.outcome)
        modes.setdefault(key, set()).add((fact.mode or 0) & 0o7777)
        if fact.mode and not (fact.flags or 0) & (O_CREAT | O_TMPFILE):
            yield _v0(key, "mode 0 without creation", str(fact.mode))
    for key in told.keys() - said.keys():
        yield _v0(key, f"an event, as in {companion.KERNEL}", "none")
    for key in said.keys() - told.keys():
        yield _v0(key, f"no such event: {companion.KERNEL} has none", "one")
    for key in said.keys() & told.keys():
        if key[0] not in NETWORK_IDS.values() and not said[key] <= told[key]:
            yield _v0(key, f"outcome {' or '.join(sorted(told[key]))}", ", ".join(map(str, said[key])))
        wanted = created.get(key, set())
        if not wanted <= modes[key] or (wanted and key not in opened and modes[key] != wanted):
            yield _v0(key, f"modes {short(sorted(wanted))}", short(sorted(modes[key])))


def _keys_of_line(line: KernelEventV1) -> Iterator[Key]:
    done, path = line.outcome == "ok", line.path and final(line.path)
    if line.access is not None:
        flags = tuple(name for name in line.flags or () if name != "unlinked")
        yield OPENAT, path, line.access, flags, done
    elif line.operation == "exec":
        yield EXEC, path, done
    elif line.operation in NETWORK_IDS:
        if line.family in ("inet", "inet6"):
            yield NETWORK_IDS[line.operation], line.address
    elif line.operation in OTHER_IDS:
        yield OTHER_IDS[line.operation], path, done
        if line.operation in BOTH_NAMES and line.path2 is not None:
            yield OTHER_IDS[line.operation], line.path2, done


def _key_of_fact(fact: V0Fact) -> Key:
    done = fact.outcome == "ok"
    if fact.event_type == OPENAT:
        flags = fact.flags or 0
        return OPENAT, fact.value, access_of(flags), flag_names(flags), done
    if fact.event_type in NETWORK_IDS.values():
        return fact.event_type, fact.value
    return fact.event_type, fact.value, done


def _shown(line: KernelEventV1) -> str:
    return f"{line.role} {line.operation} {line.path2 or line.path or line.address or ''}".rstrip()


def _line(where: str, expected: str, actual: str) -> Problem:
    return Problem("ContractKernelLineMismatch", companion.KERNEL, where, expected, actual)


def _v0(key: Key, expected: str, actual: str) -> Problem:
    where = " ".join(str(part) for part in key[:2])
    return Problem("ContractKernelLayerMismatch", KERNEL, f"event {where}", expected, actual)


def _surface(key: str, expected: str, actual: str) -> Problem:
    return Problem("ContractSurfaceMismatch", companion.SURFACE, f"/{key}", expected, actual)
