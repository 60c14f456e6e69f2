"""What the run itself needs its containers to do, and no more (docs/adr/0008).

A declared program is plumbing by the file that the kernel executed and the arguments that it then had, in
the process whose program it is to be. A socket of the control folder is plumbing for the program that it
is made for. Whatever else is done is told, whoever does it and whatever it is called.
"""

import re
from collections.abc import Collection

from harness.evidence.control import DECISIONS_SOCKET, MCP_SOCKET, SDK_SOCKET
from harness.evidence.model import Role
from harness.evidence.programs import BRIDGE, ENTRY, PROXY, SERVER, Program

FIRST_OF_SUBJECT, FIRST_OF_TOOLS = f"{Role.SUBJECT}.0", f"{Role.TOOLS}.0"
_SERVER_PROCESS = re.compile(rf"{Role.TOOLS}\.0\.[0-9]+")  # the proxy's children
# Parts that are a process's first program, or they are not the run's own.
ONCE = frozenset({ENTRY, PROXY, SERVER})


def part_of(process: str, path: bytes, argv: tuple[bytes, ...], programs: Collection[Program]) -> str | None:
    """The part that such an execution in this process may be; None: it is no declared program."""
    for program in programs:
        if (path, argv) == (program.path, program.argv) and _fits(program.part, process):
            return program.part
    return None


def _fits(part: str, process: str) -> bool:
    if part == BRIDGE:
        return process.startswith(f"{Role.SUBJECT}.")
    if part == SERVER:
        return _SERVER_PROCESS.fullmatch(process) is not None
    return process == {ENTRY: FIRST_OF_SUBJECT, PROXY: FIRST_OF_TOOLS}.get(part)


class Plumbing:
    """Follows a run's executions in their order: what part of the run itself each process runs."""

    def __init__(self, programs: Collection[Program]) -> None:
        self._programs = programs
        self._running: dict[str, str | None] = {}

    def executed(self, process: str, path: bytes, argv: tuple[bytes, ...], *, cut: bool) -> bool:
        """A process has executed this; is it plumbing?"""
        part = None if cut else part_of(process, path, argv, self._programs)
        if part in ONCE and process in self._running:
            part = None
        self._running[process] = part
        return part is not None

    def may_connect(self, process: str, socket: str, sockets: Collection[str], *, done: bool) -> bool:
        """Is it plumbing that a process connects to this file? `sockets` are those of the run's subject."""
        part = self._running.get(process)
        if process.startswith(f"{Role.TOOLS}."):
            return socket == DECISIONS_SOCKET and part == PROXY and done
        if socket not in sockets:
            return False
        return socket == SDK_SOCKET or (socket == MCP_SOCKET and part == BRIDGE)


def subject_sockets(*, tools: bool, sdk: bool) -> tuple[str, ...]:
    """The sockets that the subject of such a run has."""
    return (MCP_SOCKET,) * tools + (SDK_SOCKET,) * sdk
