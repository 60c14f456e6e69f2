"""Which lines of companion/kernel.ndjson were plumbing and the image's before programs were resolved.

Archives without `programs` in companion/runspec.json went by what a program was called, by names below the
control folder, and by v0's taxonomy wherever a file was. They stay what they were.
"""

from collections.abc import Mapping

from harness.contracts.companion import KernelEventV1
from harness.evidence.classify import TELEMETRY, EventClass, v0_taxonomy
from harness.evidence.control import CONTROL
from harness.evidence.model import Role
from harness.evidence.paths import within
from harness.evidence.plumbing import FIRST_OF_TOOLS

Commands = Mapping[str, tuple[tuple[str, ...], ...]]  # role -> argv of each
Classes = frozenset[str]


def is_plumbing(line: KernelEventV1, commands: Commands, roots: tuple[str, ...]) -> bool:
    if line.operation == "exec":
        declared = commands.get(line.role, ())
        return line.outcome == "ok" and any(_runs(line, command, roots) for command in declared)
    target = line.path if line.family is None else line.address if line.family == "unix" else None
    if target is None or not within(target.encode(), CONTROL):
        return False
    if line.role == Role.TOOLS:
        return line.process == FIRST_OF_TOOLS
    return line.role == Role.SUBJECT and line.operation == "connect"


def classes_of_open(
    line: KernelEventV1, path: bytes, roots: tuple[str, ...], *, looks: bool, known: bool, volatile: bool
) -> Classes:
    """`known`: the image's file list was; `volatile`: the name is a declared glob."""
    if looks and within(path, *roots):
        return frozenset({EventClass.EVIDENCE} if known and line.outcome == "ok" else ())
    if volatile:
        return frozenset({EventClass.EVIDENCE, *TELEMETRY})
    return frozenset({v0_taxonomy(path) or EventClass.EVIDENCE})


def _runs(line: KernelEventV1, command: tuple[str, ...], roots: tuple[str, ...]) -> bool:
    called, argv = line.called or line.path or "", line.argv or ()
    script = len(argv) - len(command) in (1, 2) and called == command[0]
    if line.argv_cut or not (argv == command or (script and argv[-len(command) :] == command)):
        return False
    if "/" in command[0]:
        return called == command[0]
    rooted = within((line.path or "").encode(), *roots)
    return rooted and called.rsplit("/", 1)[-1] == command[0]
