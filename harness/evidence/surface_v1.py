"""companion/surface.json: per name what was done to it, done or only attempted, and by which role.

Made from the lines of companion/kernel.ndjson, and of nothing else: whoever has the lines can make it again.
"""

from collections.abc import Iterable, Iterator, Mapping

from attrs import frozen

from harness.contracts.companion import (
    Action,
    CapabilitySurfaceV1,
    ExecCapability,
    KernelEventV1,
    NetworkCapability,
    PathCapability,
    ToolCapability,
)
from harness.contracts.policy_event import PolicyEvent
from harness.contracts.rules import sorted_unique
from harness.evidence.classify import TELEMETRY, EventClass
from harness.evidence.paths import normal
from harness.evidence.temporary import TEMPORARY, is_temporary

DONE, ATTEMPTED = "done", "attempted"
_ORDER = ("read", "write", "create", "replace", "delete", "execute", "metadata")
_READS = frozenset({"read", "read_write", "unknown"})
_WRITES = frozenset({"write", "read_write"})
_CHANGING = frozenset({"create", "truncate", "tmpfile"})
# Operation -> what it does to its first name, and to its second one.
_ON_NAMES: Mapping[str, tuple[str, str | None]] = {
    "unlink": ("delete", None),
    "rmdir": ("delete", None),
    "rename": ("delete", "create"),
    "link": ("metadata", "create"),
    "symlink": ("create", None),  # its second name is what it says, and may not exist
    "mkdir": ("create", None),
    "mknod": ("create", None),
    "memfd_create": ("create", None),
    "truncate": ("write", None),
    "exec": ("execute", None),
    "chmod": ("metadata", None),
    "chown": ("metadata", None),
    "utimens": ("metadata", None),
    "setxattr": ("metadata", None),
    "removexattr": ("metadata", None),
    "chroot": ("metadata", None),
    "name_to_handle": ("metadata", None),
}
_NETWORK = frozenset({"socket", "connect", "bind", "sendto", "sendmsg"})


@frozen
class _Name:
    text: str
    hex: str | None

    @property
    def raw(self) -> bytes:
        return self.text.encode() if self.hex is None else bytes.fromhex(self.hex)


@frozen
class _Touch:
    name: _Name
    action: str
    role: str
    done: bool


def surface_v1(
    run_id: str, lines: Iterable[KernelEventV1], policy_events: Iterable[PolicyEvent]
) -> CapabilitySurfaceV1:
    """The surface of all that is neither plumbing nor counted only."""
    main: set[_Touch] = set()
    quiet: set[_Touch] = set()
    network: dict[tuple[str, str, str], set[tuple[str, bool]]] = {}
    execs: dict[tuple[str, str, tuple[str, ...]], set[tuple[str, bool]]] = {}
    for line in lines:
        if not is_main(line):
            if line.event_class in TELEMETRY:
                quiet.update(_touches(line))
            continue
        main.update(_touches(line))
        if is_network(line):
            peer = (line.operation, line.family or "unknown", line.address or "")
            network.setdefault(peer, set()).add((line.role, _done(line)))
        if line.operation == "exec":
            program = (line.path or "", line.called or "", line.argv or ())
            execs.setdefault(program, set()).add((line.role, _done(line)))
    return CapabilitySurfaceV1(
        run_id=run_id,
        paths=_paths(main),
        network=tuple(
            NetworkCapability(operation=key[0], family=key[1], address=key[2], result=result, roles=roles)
            for key in sorted(network)
            for result, roles in _by_result(network[key])
        ),
        execs=tuple(
            ExecCapability(path=path, called=called or None, argv=argv or None, result=result, roles=roles)
            for path, called, argv in sorted(execs)
            for result, roles in _by_result(execs[path, called, argv])
        ),
        tools=_tools(policy_events),
        telemetry=_paths(quiet),
    )


def is_main(line: KernelEventV1) -> bool:
    """What a person wants to know of: evidence, and writes that v0 calls telemetry."""
    if line.event_class == EventClass.EVIDENCE:
        return True
    changing = line.access is None or wants_change(line.access, line.flags or ())
    return line.event_class in TELEMETRY and changing


def wants_change(access: str, flags: Iterable[str]) -> bool:
    """Does an open ask for more than looking: write access, creation, truncation?"""
    return access != "path" and (access != "read" or not _CHANGING.isdisjoint(flags))


def is_network(line: KernelEventV1) -> bool:
    return line.operation in _NETWORK or line.operation.startswith("hook_") or line.family is not None


def _done(line: KernelEventV1) -> bool:
    return line.outcome == "ok"


def _paths(touches: Iterable[_Touch]) -> tuple[PathCapability, ...]:
    by_name: dict[_Name, list[_Touch]] = {}
    for touch in touches:
        by_name.setdefault(touch.name, []).append(touch)
    return tuple(
        PathCapability(path=name.text, path_hex=name.hex, actions=_actions(by_name[name]))
        for name in sorted(by_name, key=lambda name: name.raw)
    )


def _actions(touches: Iterable[_Touch]) -> tuple[Action, ...]:
    found = list(touches)
    actions = []
    for name in _ORDER:
        for result, roles in _by_result((t.role, t.done) for t in found if t.action == name):
            actions.append(Action(action=name, result=result, roles=roles))
    return tuple(actions)


def _by_result(outcomes: Iterable[tuple[str, bool]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Roles that did it, then roles that only tried."""
    every = list(outcomes)
    done = {role for role, success in every if success}
    tried = {role for role, _ in every} - done
    if done:
        yield DONE, tuple(sorted(done))
    if tried:
        yield ATTEMPTED, tuple(sorted(tried))


def _touches(line: KernelEventV1) -> Iterator[_Touch]:
    if line.operation == "bind" and "create" in (line.flags or ()):
        yield _Touch(_Name(line.address or "", None), "create", line.role, _done(line))
    first = None if line.path is None else _Name(line.path, line.path_hex)
    second = None if line.path2 is None else _Name(line.path2, line.path2_hex)
    if first is None and second is None:
        return
    if first is not None and is_temporary(first.text, TEMPORARY):
        # Told of the name that stays alone: how it came to be there is in the lines.
        if second is not None and line.operation in ("rename", "link"):
            yield _Touch(
                second, "replace" if line.operation == "rename" else "create", line.role, _done(line)
            )
        return
    if line.access is not None:
        pairs = [(first, action) for action in _open_actions(line)]
    else:
        on_first, on_second = _ON_NAMES.get(line.operation, ("metadata", None))
        pairs = [(first, on_first), (second, on_second or "")]
        if line.called is not None and line.called.startswith("/"):
            called = normal(line.called.encode()).decode()
            pairs.append((_Name(called, None), "execute"))  # a script, or a link to the program
        if line.operation == "rename" and "exchange" in (line.flags or ()):
            pairs += [(first, "create"), (second, "delete")]
    for name, action in pairs:
        if name is not None and action:
            yield _Touch(name, action, line.role, _done(line))


def _open_actions(line: KernelEventV1) -> Iterator[str]:
    flags = line.flags or ()
    if line.access == "path":
        yield "metadata"
        return
    if line.access in _READS:
        yield "read"
    if line.access in _WRITES or "truncate" in flags:
        yield "write"
    # Without success the file may or may not have been there: then asking for it is the attempt.
    asked = not _done(line) and "create" in flags
    if line.operation == "create" or asked or "tmpfile" in flags:
        yield "create"


def _tools(policy_events: Iterable[PolicyEvent]) -> tuple[ToolCapability, ...]:
    decisions: dict[str, set[str]] = {}
    for event in policy_events:
        decisions.setdefault(event.tool, set()).add(event.decision)
    return tuple(
        ToolCapability(tool=tool, decisions=sorted_unique(decisions[tool]))
        for tool in sorted(decisions, key=str.encode)
    )
