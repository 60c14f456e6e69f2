"""A surface of either contract as one shape, so that there is one comparison.

Category -> name -> what is done to it, by whom -> "done" or "attempted".
"""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from harness.contracts import companion_policy
from harness.contracts.baseline import Capabilities
from harness.contracts.companion import (
    CapabilitySurfaceV1,
    ExecCapability,
    NetworkCapability,
    PolicyEventV1,
)
from harness.contracts.surface import DIMENSIONS, CapabilitySurface

PATHS, NETWORK, EXECS, TOOLS = "paths", "network", "execs", "tools"
ASKED, REFUSED = "asked", "refused"
CATEGORIES_V1 = (PATHS, NETWORK, EXECS, TOOLS)
CATEGORIES_PROXY = (ASKED, REFUSED)  # what the policy proxy told beside tool calls
CATEGORIES = (*CATEGORIES_V1, *CATEGORIES_PROXY, *DIMENSIONS)  # in the order in which they are told
DONE = "done"
CALLED = "called"
_ABOUT = {
    companion_policy.LIMITED: "a connection",
    companion_policy.KILLED: "a server, killed",
    companion_policy.ENDED: "a server, ended by itself",
}
_NOTHING: dict[str, str] = {}  # v0 says no more of a name than that it is there

Rename = Callable[[str], str]


def same(name: str) -> str:
    return name


def of_v0(surface: CapabilitySurface, rename: Rename = same) -> Capabilities:
    """The five categories of v0; filesystem paths pass through `rename`."""
    return {
        category: {
            rename(name) if category == "filesystem_paths" else name: _NOTHING
            for name in getattr(surface, category)
        }
        for category in DIMENSIONS
    }


def of_v1(surface: CapabilitySurfaceV1, rename: Rename = same) -> Capabilities:
    """The four categories of v1, without telemetry as v0 (contracts §4.6); paths pass through `rename`."""
    result: dict[str, dict[str, dict[str, str]]] = {category: {} for category in CATEGORIES_V1}
    for path in surface.paths:
        # Bytes that are no UTF-8 show as U+FFFD: their hex keeps two such names apart.
        name = rename(path.path) + (f" [bytes {path.path_hex}]" if path.path_hex else "")
        for action in path.actions:
            _add(
                result[PATHS], name, ((f"{action.action} by {role}", action.result) for role in action.roles)
            )
    for one in surface.network:
        _add(result[NETWORK], network_name(one), ((f"by {role}", one.result) for role in one.roles))
    for program in surface.execs:
        _add(result[EXECS], exec_name(program), ((f"by {role}", program.result) for role in program.roles))
    for tool in surface.tools:
        _add(result[TOOLS], tool.tool, ((decision, CALLED) for decision in tool.decisions))
    return result


def of_proxy(events: Iterable[PolicyEventV1]) -> Capabilities:
    """Resources and prompts that were asked for, and what was refused, limited or ended, and why."""
    result: dict[str, dict[str, dict[str, str]]] = {category: {} for category in CATEGORIES_PROXY}
    for event in events:
        if event.event != companion_policy.DECIDED:
            name = _ABOUT.get(event.event) or event.method or "no method"
            _add(result[REFUSED], name, [(event.reason, CALLED)])
        elif event.method != companion_policy.CALL:
            _add(result[ASKED], f"{event.method} {event.name}", [(event.decision or "", CALLED)])
        elif event.tool_call_id is None:
            _add(result[REFUSED], f"{event.method} {event.name}", [(event.reason, CALLED)])
    return result


def network_name(one: NetworkCapability) -> str:
    return f"{one.operation} {one.family} {one.address}".rstrip()


def exec_name(program: ExecCapability) -> str:
    """The program, then its arguments as a shell would take them; argv[0] only where it says more."""
    argv = program.argv or ()
    words = [program.path, *argv[1:]]
    called = {program.called or program.path, argv[0] if argv else program.path} - {program.path}
    return shlex.join(words) + (f" (called {shlex.join(sorted(called))})" if called else "")


def by_place(capabilities: Capabilities) -> Capabilities:
    """Names of one place merged; see `place_of`."""
    result: dict[str, dict[str, dict[str, str]]] = {}
    for category, names in capabilities.items():
        merged = result.setdefault(category, {})
        for name, aspects in names.items():
            _add(merged, place_of(category, name), aspects.items())
    return result


def counts(capabilities: Capabilities) -> Mapping[str, Mapping[str, int]]:
    """category -> what is done, by whom ("names" in v0) -> to how many names."""
    return {
        category: Counter(aspect for aspects in names.values() for aspect in aspects or ("names",))
        for category, names in capabilities.items()
    }


def place_of(category: str, name: str) -> str:
    """Where a name is: a path's folder, a program without its arguments, an address without its port."""
    if category in (PATHS, "filesystem_paths"):
        return name.rpartition("/")[0] + "/" if "/" in name else name
    if category == EXECS:
        return shlex.split(name)[0]
    if category in (NETWORK, "network_endpoints"):
        host, colon, port = name.rpartition(":")
        return host if colon and port.isdigit() else name
    return name


def _add(names: dict[str, dict[str, str]], name: str, aspects: Iterable[tuple[str, str]]) -> None:
    """Merge: what was done by anyone of these is done, even if others only tried."""
    known = names.setdefault(name, {})
    for aspect, value in aspects:
        if known.get(aspect) != DONE:
            known[aspect] = value


def sorted_capabilities(capabilities: Capabilities) -> Capabilities:
    """Every table in the order of its keys' UTF-8 bytes, which is that of their code points."""
    return {
        category: {name: dict(sorted(names[name].items())) for name in sorted(names)}
        for category, names in capabilities.items()
    }
