"""Every record in exactly one class, so that the classes add up to the records (design §4).

Precedence, first match wins:

  sentinel           records of the harness's own process in the slice
  setup              before the role's start boundary: the container runtime's work
  process            forks and exits; they are the process tree
  tripwire           what must not happen: a cgroup move, a successful io_uring call, a 32-bit call
  io_uring_refused   io_uring calls that the seccomp profile refused
  unaddressed        sends that name nobody, and making sockets of the usual families
  directory_change   chdir, fchdir
  declared_plumbing  what the run itself needs: harness.evidence.plumbing
  volatile_look      reads of a file of /proc or /sys that were declared to vary from run to run
  host_view          reads of kernel files that say how large the host is (harness.evidence.host_view)
  image_runtime      a look (no write intent) inside a runtime root: at what stands in the image's file
                     list, or for what is not there
  loader .. dev      opens that the v0 taxonomy leaves out (contracts §4.6)
  evidence           everything else
  left_out           beyond a bound (harness.contracts.bounds): counted, and looked at by nobody
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

from attrs import Factory, frozen

from harness.evidence.host_view import place_of
from harness.evidence.image import MOUNTS, WRITABLE, ImageFiles
from harness.evidence.model import Flag, KernelRecord, Kind, Role
from harness.evidence.operations import Operation, addressed, build_operations
from harness.evidence.paths import below, magic, normal, within
from harness.evidence.plumbing import Plumbing
from harness.evidence.processes import Processes
from harness.evidence.programs import Program
from harness.evidence.temporary import temporary_names, with_told_names
from harness.evidence.volatile import Volatile


class EventClass(StrEnum):
    SENTINEL = "sentinel"
    SETUP = "setup"
    PROCESS = "process"
    TRIPWIRE = "tripwire"
    IO_URING_REFUSED = "io_uring_refused"
    UNADDRESSED = "unaddressed"
    DIRECTORY_CHANGE = "directory_change"
    DECLARED_PLUMBING = "declared_plumbing"
    VOLATILE_LOOK = "volatile_look"
    HOST_VIEW = "host_view"
    IMAGE_RUNTIME = "image_runtime"
    LOADER = "loader"
    LOCALE = "locale"
    INTERPRETER = "interpreter"
    DEPENDENCY_TREE = "dependency_tree"
    PROCFS = "procfs"
    SYSFS = "sysfs"
    DEV = "dev"
    EVIDENCE = "evidence"
    LEFT_OUT = "left_out"


# Contracts §4.6, both columns, without the one rule that names a folder of one host.
_EXACT = {
    b"/etc/ld.so.cache": EventClass.LOADER,
    b"/etc/localtime": EventClass.LOCALE,
    b"/etc/ssl/openssl.cnf": EventClass.INTERPRETER,
    b"/usr/pyvenv.cfg": EventClass.INTERPRETER,
    b"/usr/bin/pyvenv.cfg": EventClass.INTERPRETER,
    b"/usr/bin/python3._pth": EventClass.INTERPRETER,
    b"/usr/bin/python3.12._pth": EventClass.INTERPRETER,
    b"/usr/bin/pybuilddir.txt": EventClass.INTERPRETER,
}
_PREFIXES = {
    b"/lib/": EventClass.LOADER,
    b"/lib32/": EventClass.LOADER,
    b"/lib64/": EventClass.LOADER,
    b"/usr/lib/": EventClass.LOADER,
    b"/usr/local/lib/": EventClass.LOADER,
    b"/usr/share/locale/": EventClass.LOCALE,
    b"/usr/local/share/locale/": EventClass.LOCALE,
    b"/proc/": EventClass.PROCFS,
    b"/sys/": EventClass.SYSFS,
    b"/dev/": EventClass.DEV,
}
_HOST_VIEWS = (b"/dev", b"/proc", b"/sys")  # names in them are the kernel's, but for links to anywhere
_REFUSED = frozenset({"EACCES", "EPERM"})  # it is there
_BUILDS = (b"/build/", b"/debug/", b"/release/")
_TREE = frozenset({Kind.FORK, Kind.EXIT})
_TRIPPING = frozenset({Kind.ATTACH, Kind.COMPAT})
TELEMETRY = frozenset(_EXACT.values()) | frozenset(_PREFIXES.values()) | {EventClass.DEPENDENCY_TREE}
# Counted only: they vary between runs of the same thing, or say nothing about capabilities.
UNTOLD = frozenset(
    {
        EventClass.SENTINEL,
        EventClass.SETUP,
        EventClass.PROCESS,
        EventClass.IO_URING_REFUSED,
        EventClass.UNADDRESSED,
        EventClass.VOLATILE_LOOK,
        EventClass.HOST_VIEW,
        EventClass.IMAGE_RUNTIME,
        EventClass.LEFT_OUT,
    }
)


@frozen
class Context:
    """What was declared before the run.

    runtime_roots  folders of the immutable image; "/": whatever is in its file list
    programs       those of the run itself, as the kernel will tell them
    sockets        the files of the control folder that the subject may connect to
    image          what is in the image; None: not known, and nothing is taken for a part of it
    volatile       globs for names that the agent makes up anew in each run, and the files of /proc and
                   /sys that it may look at or not
    """

    runtime_roots: tuple[str, ...] = ()
    programs: tuple[Program, ...] = ()
    sockets: tuple[str, ...] = ()
    image: ImageFiles | None = None
    volatile: tuple[str, ...] = ()

    @property
    def lookup_roots(self) -> tuple[str, ...]:
        """Where a missing name says nothing. In an image as a whole it says what was sought."""
        return tuple(root for root in self.runtime_roots if root != "/")


@frozen
class Classified:
    """`operations` with their classes in ring order; `counts` in records, of every class.

    volatile   operations whose name became a glob, by glob; looks at a declared file, by its name
    host_view  looks of that class, by place
    temporary  names of the moment, and what stands for them in the operations
    """

    operations: tuple[tuple[Operation, EventClass], ...]
    counts: Mapping[EventClass, int]
    volatile: Mapping[str, int] = Factory(dict)
    host_view: Mapping[str, int] = Factory(dict)
    temporary: Mapping[bytes, bytes] = Factory(dict)

    def of(self, *classes: EventClass) -> tuple[Operation, ...]:
        return tuple(operation for operation, found in self.operations if found in classes)

    @property
    def main(self) -> tuple[Operation, ...]:
        """What a person wants to know of: evidence, and writes that v0 calls telemetry."""
        return tuple(op for op, found in self.operations if is_main(op, found))


def is_main(operation: Operation, found: EventClass) -> bool:
    return found is EventClass.EVIDENCE or (found in TELEMETRY and operation.write)


def classify(records: Iterable[KernelRecord], processes: Processes, context: Context) -> Classified:
    """Put every record into its class, by itself or with the operation it belongs to."""
    counts = dict.fromkeys(EventClass, 0)
    measured = []
    for record in records:
        alone = _class_of_record(record)
        if alone is None:
            measured.append(record)
        else:
            counts[alone] += 1
    operations = []
    volatile, plumbing = Volatile(context.volatile), Plumbing(context.programs)
    looks = Counter[str]()
    built = build_operations(measured, processes)
    temporary = {name: told for name, told in temporary_names(built).items() if not volatile.declared(name)}
    for original in built:
        operation = with_told_names(original, temporary) if temporary else original
        found = class_of(operation, context, plumbing)
        counts[found] += len(operation.records)
        if found is EventClass.HOST_VIEW:
            looks[place_of(operation) or ""] += 1
        operations.append((volatile.told(operation), found))
    return Classified(tuple(operations), counts, volatile.counts, dict(sorted(looks.items())), temporary)


def _class_of_record(record: KernelRecord) -> EventClass | None:
    """The class of a record that belongs to no operation."""
    if record.role is Role.HARNESS:
        return EventClass.SENTINEL
    if record.setup:
        return EventClass.SETUP
    return EventClass.PROCESS if record.kind in _TREE else None


def class_of(operation: Operation, context: Context, plumbing: Plumbing) -> EventClass:
    kind = operation.records[-1].kind
    if kind in _TRIPPING:
        return EventClass.TRIPWIRE
    if kind is Kind.URING:
        return EventClass.TRIPWIRE if operation.done else EventClass.IO_URING_REFUSED
    if kind is Kind.SOCK and not addressed(operation):
        return EventClass.UNADDRESSED
    if operation.name == "chdir":
        return EventClass.DIRECTORY_CHANGE
    if _is_plumbing(operation, context, plumbing):
        return EventClass.DECLARED_PLUMBING
    if kind is Kind.OPEN and operation.path is not None:
        return _class_of_open(operation, operation.path, context)
    return EventClass.EVIDENCE


def _class_of_open(operation: Operation, path: bytes, context: Context) -> EventClass:
    if _is_volatile_look(operation, path, context):
        return EventClass.VOLATILE_LOOK
    if place_of(operation) is not None:
        return EventClass.HOST_VIEW
    if not operation.write and not below(path, MOUNTS) and within(path, *context.runtime_roots):
        return EventClass.IMAGE_RUNTIME if _is_image(operation, path, context) else EventClass.EVIDENCE
    place = path if operation.done else _place(operation, context)
    if place is None or below(place, WRITABLE):
        return EventClass.EVIDENCE
    return v0_telemetry(path) or EventClass.EVIDENCE


def _is_image(operation: Operation, path: bytes, context: Context) -> bool:
    """Is what was looked at a part of the image, or what was not found not there?

    A file that has no name any more is not: nothing can be removed from an image.
    """
    if operation.done:
        return context.image is not None and context.image.has(path) and "unlinked" not in operation.flags
    place = _place(operation, context)
    sought = place is not None and within(place, *context.lookup_roots) and not below(place, MOUNTS)
    return sought and operation.outcome not in _REFUSED


def _place(operation: Operation, context: Context) -> bytes | None:
    """Where the name of a failed open leads, as far as that is certain.

    Its text is the program's own: links in it, and ".." behind them, lead elsewhere than they say.
    """
    record, path = operation.records[-1], operation.path
    raw = record.raw
    if not raw or record.flags & Flag.DETACHED or path is None:
        return None
    if not raw.startswith(b"/"):
        raw = record.walked + b"/" + raw
    if below(path, _HOST_VIEWS):
        straight = b".." not in raw.split(b"/") and not magic(normal(raw))
        return path if straight else None
    return context.image.place(raw) if context.image is not None else None


def v0_telemetry(path: bytes) -> EventClass | None:
    """The class of an opened path that v0 leaves out, None for evidence.

    Its names are those of what is installed: what anybody may have written himself is none of it.
    """
    if below(path, WRITABLE):
        return None
    return v0_taxonomy(path)


def v0_taxonomy(path: bytes) -> EventClass | None:
    """Contracts §4.6 to the letter, wherever it is."""
    if path in _EXACT:
        return _EXACT[path]
    for prefix, found in _PREFIXES.items():
        if path.startswith(prefix):
            return found
    shared_object = path.endswith(b".so") or b".so." in path
    rustup = shared_object and b"/.rustup/toolchains/" in path
    built = shared_object and b"/target/" in path and any(part in path for part in _BUILDS)
    return EventClass.DEPENDENCY_TREE if b"/node_modules/" in path or rustup or built else None


def _is_volatile_look(operation: Operation, path: bytes, context: Context) -> bool:
    """The agent reads, or fails to, what says how the machine is: garbage collectors do when they see fit."""
    looks = operation.role is Role.SUBJECT and operation.name == "open" and not operation.write
    return looks and path.startswith((b"/proc/", b"/sys/")) and os.fsdecode(path) in context.volatile


def _is_plumbing(operation: Operation, context: Context, plumbing: Plumbing) -> bool:
    if operation.name == "exec":
        if not operation.done:
            return False
        path, argv = operation.path or b"", operation.argv or ()
        return plumbing.executed(operation.process, path, argv, cut=operation.argv_cut)
    if operation.name != "connect" or operation.address is None or operation.address.family != "unix":
        return False
    socket = operation.address.text
    return plumbing.may_connect(operation.process, socket, context.sockets, done=operation.done)
