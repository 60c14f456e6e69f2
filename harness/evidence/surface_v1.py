"""companion/surface.json: per name what was done to it, done or only attempted, and by which role."""

from collections.abc import Iterable, Iterator, Mapping

from attrs import frozen

from harness.contracts.companion import (
    Action,
    CapabilitySurfaceV1,
    ExecCapability,
    NetworkCapability,
    PathCapability,
    ToolCapability,
)
from harness.contracts.policy_event import PolicyEvent
from harness.contracts.rules import sorted_unique
from harness.evidence.classify import TELEMETRY, Classified
from harness.evidence.model import Kind, Role
from harness.evidence.operations import Operation
from harness.evidence.paths import hex_if_lossy, normal, text

DONE, ATTEMPTED = "done", "attempted"
_ORDER = ("read", "write", "create", "delete", "execute", "metadata")
_READS = frozenset({"read", "read_write", "unknown"})
_WRITES = frozenset({"write", "read_write"})
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
_EXCHANGE = 2  # renameat2(2), RENAME_EXCHANGE: both names stay


@frozen
class _Touch:
    path: bytes
    action: str
    role: Role
    done: bool


def surface_v1(
    run_id: str, classified: Classified, policy_events: Iterable[PolicyEvent]
) -> CapabilitySurfaceV1:
    """The surface of all that is neither plumbing nor counted only."""
    main = classified.main
    quiet = [op for op in classified.of(*TELEMETRY) if not op.write]
    return CapabilitySurfaceV1(
        run_id=run_id,
        paths=_paths(main),
        network=_network(main),
        execs=_execs(main),
        tools=_tools(policy_events),
        telemetry=_paths(quiet),
    )


def _paths(operations: Iterable[Operation]) -> tuple[PathCapability, ...]:
    touches = {touch for operation in operations for touch in _touches(operation)}
    by_path: dict[bytes, list[_Touch]] = {}
    for touch in touches:
        by_path.setdefault(touch.path, []).append(touch)
    return tuple(
        PathCapability(path=text(path), path_hex=hex_if_lossy(path), actions=_actions(by_path[path]))
        for path in sorted(by_path)
    )


def _actions(touches: Iterable[_Touch]) -> tuple[Action, ...]:
    found = list(touches)
    actions = []
    for name in _ORDER:
        for result, roles in _by_result((t.role, t.done) for t in found if t.action == name):
            actions.append(Action(action=name, result=result, roles=roles))
    return tuple(actions)


def _by_result(outcomes: Iterable[tuple[Role, bool]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Roles that did it, then roles that only tried."""
    every = list(outcomes)
    done = {role.value for role, success in every if success}
    tried = {role.value for role, _ in every} - done
    if done:
        yield DONE, tuple(sorted(done))
    if tried:
        yield ATTEMPTED, tuple(sorted(tried))


def _touches(operation: Operation) -> Iterator[_Touch]:
    if operation.path is None and operation.path2 is None:
        return
    if operation.first.kind is Kind.OPEN:
        pairs = [(operation.path, action) for action in _open_actions(operation)]
    else:
        first, second = _ON_NAMES.get(operation.name, ("metadata", None))
        pairs = [(operation.path, first), (operation.path2, second or "")]
        if operation.called is not None and operation.called.startswith(b"/"):
            pairs.append((normal(operation.called), "execute"))  # a script, or a link to the program
        if operation.name == "rename" and operation.first.args[0] & _EXCHANGE:
            pairs += [(operation.path, "create"), (operation.path2, "delete")]
    for path, action in pairs:
        if path is not None and action:
            yield _Touch(path, action, operation.role, operation.done)


def _open_actions(operation: Operation) -> Iterator[str]:
    if operation.access == "path":
        yield "metadata"
        return
    if operation.access in _READS:
        yield "read"
    if operation.access in _WRITES or "truncate" in operation.flags:
        yield "write"
    # Without success the file may or may not have been there: then asking for it is the attempt.
    asked = not operation.done and "create" in operation.flags
    if operation.name == "create" or asked or "tmpfile" in operation.flags:
        yield "create"


def _network(operations: Iterable[Operation]) -> tuple[NetworkCapability, ...]:
    found: dict[tuple[str, str, str], list[tuple[Role, bool]]] = {}
    for op in operations:
        if op.first.kind in (Kind.SOCK, Kind.NET):
            family, address = ("unknown", "") if op.address is None else (op.address.family, op.address.text)
            found.setdefault((op.name, family, address), []).append((op.role, op.done))
    return tuple(
        NetworkCapability(operation=key[0], family=key[1], address=key[2], result=result, roles=roles)
        for key in sorted(found)
        for result, roles in _by_result(found[key])
    )


def _execs(operations: Iterable[Operation]) -> tuple[ExecCapability, ...]:
    found: dict[tuple[bytes, bytes, tuple[bytes, ...]], list[Operation]] = {}
    for op in operations:
        if op.name == "exec":
            key = (op.path or b"", op.called or b"", op.argv or ())
            found.setdefault(key, []).append(op)
    return tuple(
        ExecCapability(
            path=text(path),
            called=text(called) if called else None,
            argv=tuple(text(argument) for argument in argv) or None,
            result=result,
            roles=roles,
        )
        for path, called, argv in sorted(found)
        for result, roles in _by_result((op.role, op.done) for op in found[path, called, argv])
    )


def _tools(policy_events: Iterable[PolicyEvent]) -> tuple[ToolCapability, ...]:
    decisions: dict[str, set[str]] = {}
    for event in policy_events:
        decisions.setdefault(event.tool, set()).add(event.decision)
    return tuple(
        ToolCapability(tool=tool, decisions=sorted_unique(decisions[tool]))
        for tool in sorted(decisions, key=str.encode)
    )
