"""Every record in exactly one class, so that the classes add up to the records (design §4).

Precedence, first match wins:

  sentinel           records of the harness's own process in the slice
  setup              before the role's start boundary: the container runtime's work
  process            forks and exits; they are the process tree
  tripwire           what must not happen: a cgroup move, a successful io_uring call, a 32-bit call
  io_uring_refused   io_uring calls that the seccomp profile refused
  unaddressed        sends that name nobody, and making sockets of the usual families
  directory_change   chdir, fchdir
  declared_plumbing  what the run itself needs: see `_is_plumbing`
  volatile_look      reads of a file of /proc or /sys that were declared to vary from run to run
  host_view          reads of kernel files that say how large the host is (harness.evidence.host_view)
  image_runtime      a look (no write intent) inside a runtime root: one that failed, or one at what
                     stands in the image's file list, if that is known
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
from harness.evidence.model import KernelRecord, Kind, Role
from harness.evidence.operations import Operation, addressed, build_operations
from harness.evidence.paths import within
from harness.evidence.processes import Processes
from harness.evidence.volatile import Volatile

Command = tuple[str, ...]


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

    runtime_roots      folders of the immutable image
    plumbing_commands  per role, argv of entry point, bridge, proxy and MCP server
    control_prefix     folder of the run's own sockets and of the policy
    image_files        every path of the image, as the kernel names it; None: not known
    volatile           globs for names that the agent makes up anew in each run, and the files of /proc and
                       /sys that it may look at or not
    """

    runtime_roots: tuple[str, ...] = ()
    plumbing_commands: Mapping[Role, tuple[Command, ...]] = Factory(dict)
    control_prefix: str = "/run/assay"
    image_files: frozenset[bytes] | None = None
    volatile: tuple[str, ...] = ()


@frozen
class Classified:
    """`operations` with their classes in ring order; `counts` in records, of every class.

    volatile   operations whose name became a glob, by glob; looks at a declared file, by its name
    host_view  looks of that class, by place
    """

    operations: tuple[tuple[Operation, EventClass], ...]
    counts: Mapping[EventClass, int]
    volatile: Mapping[str, int] = Factory(dict)
    host_view: Mapping[str, int] = Factory(dict)

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
    volatile = Volatile(context.volatile)
    looks = Counter[str]()
    for operation in build_operations(measured, processes):
        found = class_of(operation, context)
        counts[found] += len(operation.records)
        if found is EventClass.HOST_VIEW:
            looks[place_of(operation) or ""] += 1
        operations.append((volatile.told(operation), found))
    return Classified(tuple(operations), counts, volatile.counts, dict(sorted(looks.items())))


def _class_of_record(record: KernelRecord) -> EventClass | None:
    """The class of a record that belongs to no operation."""
    if record.role is Role.HARNESS:
        return EventClass.SENTINEL
    if record.setup:
        return EventClass.SETUP
    return EventClass.PROCESS if record.kind in _TREE else None


def class_of(operation: Operation, context: Context) -> EventClass:
    kind = operation.records[-1].kind
    if kind in _TRIPPING:
        return EventClass.TRIPWIRE
    if kind is Kind.URING:
        return EventClass.TRIPWIRE if operation.done else EventClass.IO_URING_REFUSED
    if kind is Kind.SOCK and not addressed(operation):
        return EventClass.UNADDRESSED
    if operation.name == "chdir":
        return EventClass.DIRECTORY_CHANGE
    if _is_plumbing(operation, context):
        return EventClass.DECLARED_PLUMBING
    if kind is Kind.OPEN and operation.path is not None:
        return _class_of_open(operation, operation.path, context)
    return EventClass.EVIDENCE


def _class_of_open(operation: Operation, path: bytes, context: Context) -> EventClass:
    if _is_volatile_look(operation, path, context):
        return EventClass.VOLATILE_LOOK
    if place_of(operation) is not None:
        return EventClass.HOST_VIEW
    if not operation.write and within(path, *context.runtime_roots):
        return EventClass.IMAGE_RUNTIME if _may_be_image(operation, context) else EventClass.EVIDENCE
    return v0_telemetry(path) or EventClass.EVIDENCE


def _may_be_image(operation: Operation, context: Context) -> bool:
    """Is what was looked at in a runtime root a part of the image? A file that has no name any more is
    not: nothing can be removed from an image."""
    if context.image_files is None or not operation.done:
        return True
    return operation.path in context.image_files and "unlinked" not in operation.flags


def v0_telemetry(path: bytes) -> EventClass | None:
    """The class of an opened path that v0 leaves out, None for evidence."""
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


def _is_plumbing(operation: Operation, context: Context) -> bool:
    """The run's own needs, and no more: a declared command by its whole argv and its program; below
    the control folder anything the proxy does, and connections of the subject. A server that talks
    to the recorder, or an agent that lays hands on a socket file, is evidence.
    """
    if operation.name == "exec":
        declared = context.plumbing_commands.get(operation.role, ())
        return operation.done and any(_runs(operation, command, context) for command in declared)
    target = _control_target(operation)
    if target is None or not within(target, context.control_prefix):
        return False
    if operation.role is Role.TOOLS:
        return operation.process == f"{Role.TOOLS}.0"
    return operation.role is Role.SUBJECT and operation.name == "connect"


def _control_target(operation: Operation) -> bytes | None:
    if operation.address is None:
        return operation.path
    return operation.address.text.encode() if operation.address.family == "unix" else None


def _runs(operation: Operation, command: Command, context: Context) -> bool:
    """argv can say anything, so the program must be the declared one too: by its name, which the
    read-only image fixes, or, for a name without a folder, by being found in a runtime root."""
    called = operation.first.raw.partition(b"\0")[0]
    wanted = tuple(argument.encode() for argument in command)
    argv = operation.argv or ()
    script = len(argv) - len(wanted) in (1, 2) and called == wanted[0]  # "#!" puts the interpreter first
    if operation.argv_cut or not (argv == wanted or (script and argv[-len(wanted) :] == wanted)):
        return False
    if b"/" in wanted[0]:
        return called == wanted[0]
    program = operation.path or b""
    rooted = within(program, *context.runtime_roots)
    return rooted and called.rsplit(b"/", 1)[-1] == wanted[0]
