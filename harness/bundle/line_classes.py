"""The classes that a line of companion/kernel.ndjson may have, from all that the archive tells of it.

As harness.evidence.classify has them. What it knows and an archive does not, the image's file list and
what came first, leaves a line two of them; a class that is only counted has no lines.
"""

from collections.abc import Iterable

from harness.bundle.plumbing_before import classes_of_open, is_plumbing
from harness.contracts.companion import KernelEventV1, ProcessNode, RunSpecDocV1
from harness.evidence.addresses import COMMON, FAMILIES
from harness.evidence.classify import TELEMETRY, EventClass, v0_telemetry
from harness.evidence.control import DECISIONS_SOCKET, MCP_SOCKET, SDK_SOCKET
from harness.evidence.image import MOUNTS
from harness.evidence.model import Role
from harness.evidence.paths import below, within
from harness.evidence.plumbing import ONCE, part_of, subject_sockets
from harness.evidence.programs import BRIDGE, PROXY, Program
from harness.evidence.surface_v1 import wants_change

Classes = frozenset[str]
_COMMON_FAMILIES = frozenset(FAMILIES[number] for number in COMMON)
_PLUMBING: Classes = frozenset({EventClass.DECLARED_PLUMBING})
_EVIDENCE: Classes = frozenset({EventClass.EVIDENCE})


class LineClasses:
    """For the lines of one archive."""

    def __init__(self, spec: RunSpecDocV1, processes: Iterable[ProcessNode]) -> None:
        self._spec = spec
        self._known_image = spec.image_files_sha256 is not None
        self._sockets = subject_sockets(tools=spec.tools_server is not None, sdk="sdk" in spec.witnesses)
        self._parts = _parts(spec, processes)

    def of(self, line: KernelEventV1) -> Classes:
        """Empty for an operation that is counted and not told."""
        if line.operation in ("cgroup_attach", "compat_syscall"):
            return frozenset({EventClass.TRIPWIRE})
        if line.operation.startswith("io_uring"):
            return frozenset({EventClass.TRIPWIRE} if line.outcome == "ok" else ())
        if line.operation == "socket" and line.family in _COMMON_FAMILIES:
            return frozenset()
        if line.operation == "chdir":
            return frozenset({EventClass.DIRECTORY_CHANGE})
        if self._spec.programs is None:
            if is_plumbing(line, self._spec.plumbing, self._spec.runtime_roots):
                return _PLUMBING
        elif plumbing := self._plumbing(line):
            return plumbing
        if line.access is None or line.path is None:
            return _EVIDENCE
        return self._open(line, line.path)

    def _open(self, line: KernelEventV1, name: str) -> Classes:
        path = name.encode() if line.path_hex is None else bytes.fromhex(line.path_hex)
        looks, roots = not wants_change(line.access or "", line.flags or ()), self._spec.runtime_roots
        told = line.role != Role.SUBJECT or "*" in name or name not in self._spec.volatile
        if looks and line.operation == "open" and name.startswith(("/proc/", "/sys/")) and not told:
            return frozenset()
        volatile = line.role == Role.SUBJECT and name in self._spec.volatile  # its own name decided
        if self._spec.programs is None:
            known = self._known_image
            return classes_of_open(line, path, roots, looks=looks, known=known, volatile=volatile)
        if looks and not below(path, MOUNTS) and within(path, *roots):
            return _EVIDENCE
        if volatile:
            return frozenset({EventClass.EVIDENCE, *TELEMETRY})
        found = frozenset({v0_telemetry(path) or EventClass.EVIDENCE})
        return found if line.outcome == "ok" else found | _EVIDENCE

    def _plumbing(self, line: KernelEventV1) -> Classes:
        """Empty if the line cannot be plumbing."""
        parts = self._parts.get(line.process, ())
        if line.operation == "exec" and line.outcome == "ok":
            told = (line.path or "", line.argv or (), bool(line.argv_cut))
            same = [(at, part) for at, (part, execution) in enumerate(parts) if execution == told and part]
            counts = [part not in ONCE or at == 0 for at, part in same]
            plumbing, evidence = any(counts), not all(counts)
            return (_PLUMBING if plumbing else frozenset()) | (_EVIDENCE if evidence else frozenset())
        if line.operation != "connect" or line.family != "unix" or line.address is None:
            return frozenset()
        has = {part for at, (part, _) in enumerate(parts) if part not in ONCE or at == 0}
        if line.address == SDK_SOCKET and line.role == Role.SUBJECT and SDK_SOCKET in self._sockets:
            return _PLUMBING
        bridged = line.address == MCP_SOCKET and MCP_SOCKET in self._sockets and BRIDGE in has
        proxied = line.address == DECISIONS_SOCKET and line.outcome == "ok" and PROXY in has
        only = len(parts) == 1  # else another program of the process may have done it
        return (_PLUMBING | (frozenset() if only else _EVIDENCE)) if bridged or proxied else frozenset()


Told = tuple[str, tuple[str, ...], bool]


def _parts(
    spec: RunSpecDocV1, processes: Iterable[ProcessNode]
) -> dict[str, tuple[tuple[str | None, Told], ...]]:
    """Per process its executions in order, each with the declared program that it is."""
    programs = tuple(
        Program(p.part, p.path.encode(), tuple(word.encode() for word in p.argv)) for p in spec.programs or ()
    )
    found = {}
    for node in processes:
        told = [(image.path, image.argv, bool(image.argv_cut)) for image in node.execs]
        found[node.process] = tuple((_part(node.process, one, programs), one) for one in told)
    return found


def _part(process: str, told: Told, programs: tuple[Program, ...]) -> str | None:
    path, argv, cut = told
    words = tuple(word.encode() for word in argv)
    return None if cut else part_of(process, path.encode(), words, programs)
