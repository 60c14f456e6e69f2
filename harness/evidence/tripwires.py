"""What nobody in a run's containers has to do: told like everything else, and the run is not clean.

From the lines of companion/kernel.ndjson alone, so that whoever has the archive finds the same.

  control_touched:<role>  the run's control folder, other than the declared programs use it
  proxy_looked_at         the proxy's /proc entries, by another program of the tools
  roles_crossed           a socket file that the other container listens at
"""

import re
from collections.abc import Iterable, Iterator

from harness.contracts.companion import KernelEventV1
from harness.evidence.classify import EventClass
from harness.evidence.control import CONTROL
from harness.evidence.model import Role
from harness.evidence.paths import within
from harness.evidence.plumbing import FIRST_OF_TOOLS

CODES = ("control_touched:", "proxy_looked_at", "roles_crossed")
# Anywhere in a name: /proc/self/root/proc/1 is the same place.
_PROXY_ENTRY = re.compile(rf"(?:^|/)proc/(?:1|<{re.escape(FIRST_OF_TOOLS)}>)(?:/|$)")
_REACHES = frozenset({"connect", "sendto", "sendmsg"})
_NAMES_ANEW = frozenset({"rename", "link"})
_ELSEWHERE = "detached:"  # the kernel's walk ended outside of the process's root


def tripped(lines: Iterable[KernelEventV1]) -> set[str]:
    """The codes above, of all that is told of a run."""
    seen = [line for line in lines if line.event_class != EventClass.DECLARED_PLUMBING]
    codes = {f"control_touched:{line.role}" for line in seen if _touches_control(line)}
    if any(_looks_at_the_proxy(line) for line in seen):
        codes.add("proxy_looked_at")
    if _crossed(seen):
        codes.add("roles_crossed")
    return codes


def _names(line: KernelEventV1) -> Iterator[str]:
    yield from (name for name in (line.path, line.path2, _socket_file(line)) if name is not None)


def _socket_file(line: KernelEventV1) -> str | None:
    """The file that a unix socket operation names; None for an abstract name, or none."""
    named = line.family == "unix" and line.address not in (None, "", "(autobind)")
    return line.address if named and not (line.address or "").startswith("@") else None


def _touches_control(line: KernelEventV1) -> bool:
    return any(within(name.removeprefix(_ELSEWHERE).encode(), CONTROL) for name in _names(line))


def _looks_at_the_proxy(line: KernelEventV1) -> bool:
    others = line.role == Role.TOOLS and line.process != FIRST_OF_TOOLS
    return others and any(_PROXY_ENTRY.search(name) for name in _names(line))


def _crossed(lines: list[KernelEventV1]) -> bool:
    """Does a role reach a socket file that it did not make itself, or that both made?"""
    done = [line for line in lines if line.outcome == "ok"]
    made = {role.value: _made(done, role.value) for role in (Role.SUBJECT, Role.TOOLS)}
    for line in done:
        name = _socket_file(line)
        if name is None or line.operation not in _REACHES or within(name.encode(), CONTROL):
            continue
        others = set().union(*(names for role, names in made.items() if role != line.role))
        if name not in made.get(line.role, ()) or name in others or name.startswith(_ELSEWHERE):
            return True
    return False


def _made(done: Iterable[KernelEventV1], role: str) -> set[str]:
    """Names of the socket files that a role bound, and those that it gave them afterwards."""
    own = [line for line in done if line.role == role]
    names = {name for line in own if line.operation == "bind" and (name := _socket_file(line))}
    given = [(line.path, line.path2) for line in own if line.operation in _NAMES_ANEW]
    while True:
        more = {new for old, new in given if old in names and new is not None} - names
        if not more:
            return names
        names |= more
