"""For an added capability one operation of head that shows it, and the tool call it belongs to."""

from collections.abc import Iterator

from harness.bundle.reader import Archive
from harness.compare.capabilities import (
    EXECS,
    NETWORK,
    PATHS,
    Rename,
    exec_name,
    network_name,
    place_of,
    same,
)
from harness.compare.members import document, lines
from harness.contracts.companion import (
    ATTRIBUTION,
    KERNEL,
    AttributedCall,
    AttributedEvidence,
    AttributionV1,
    ExecCapability,
    KernelEventV1,
    NetworkCapability,
)
from harness.contracts.difference import Example, Granularity

OK = "ok"
# v0 category -> the v1 category whose operations show it.
_AS_V1 = {"filesystem_paths": PATHS, "process_execs": EXECS, "network_endpoints": NETWORK}
_OPERATIONS = {
    "create": {"create", "mkdir", "mknod", "symlink", "memfd_create", "rename", "link"},
    "replace": {"rename"},
    "delete": {"unlink", "rmdir", "rename"},
    "execute": {"exec"},
    "write": {"truncate"},
}
_ACCESS = {"read": {"read", "read_write", "unknown"}, "write": {"write", "read_write"}}
_Key = tuple[str | None, ...]


class Examples:
    """Reads head's companion once; without one there are no examples."""

    def __init__(self, archive: Archive, granularity: Granularity, rename: Rename = same) -> None:
        self._by_name: dict[tuple[str, str], list[KernelEventV1]] = {}
        self._calls: tuple[AttributedCall, ...] = ()
        self._found: dict[_Key, Example] = {}
        self._place = granularity is Granularity.PREFIX
        self._rename = rename
        if granularity is Granularity.CLASS or not {ATTRIBUTION, KERNEL} <= archive.members.keys():
            return
        attribution = document(archive, ATTRIBUTION, AttributionV1)
        self._calls = attribution.calls
        self._found = _attributed(attribution)
        for event in lines(archive, KERNEL, KernelEventV1):
            if _event_key(event) in self._found:
                for category, name in self._names(event):
                    self._by_name.setdefault((category, name), []).append(event)

    def of(self, category: str, name: str, aspect: str = "") -> Example | None:
        """For `aspect` ("write by subject"), or whatever shows the name; a success where there is one."""
        if category in ("tools", "mcp_tools", "policy_decisions"):
            return self._call(category, name, aspect)
        action, _, role = aspect.rpartition("by ")
        events = self._by_name.get((_AS_V1.get(category, category), name), ())
        wanted = [event for event in events if role in ("", event.role)]
        if not wanted:
            return None
        best = min(
            wanted, key=lambda event: (not _shows(event, action.strip()), event.outcome != OK, event.seq)
        )
        return self._found[_event_key(best)]

    def _call(self, category: str, name: str, aspect: str) -> Example | None:
        for call in self._calls:
            told = f"{call.decision}:{call.tool}" if category == "policy_decisions" else call.tool
            if told == name and aspect in ("", call.decision):
                return Example(
                    role="tools",
                    process="proxy",
                    operation="tool call",
                    outcome=call.decision,
                    match="exact",
                    tool_call_ids=(call.tool_call_id,),
                )
        return None

    def _names(self, event: KernelEventV1) -> Iterator[tuple[str, str]]:
        for category, name in dict.fromkeys(_plain_names(event, self._rename)):
            yield category, place_of(category, name) if self._place else name


def _plain_names(event: KernelEventV1, rename: Rename) -> Iterator[tuple[str, str]]:
    """As surfaces of both contracts name what the event touched."""
    for path, raw in ((event.path, event.path_hex), (event.path2, event.path2_hex), (event.called, None)):
        if path is not None:
            yield PATHS, rename(path) + (f" [bytes {raw}]" if raw else "")
    if event.operation == "exec" and event.path is not None:
        program = ExecCapability(
            path=event.path, called=event.called, argv=event.argv or None, result="", roles=()
        )
        yield EXECS, exec_name(program)
        yield EXECS, event.path
    if event.address is not None or event.family is not None:
        family = event.family or "unknown"
        yield (
            NETWORK,
            network_name(
                NetworkCapability(
                    operation=event.operation, family=family, address=event.address or "", result="", roles=()
                )
            ),
        )
        yield NETWORK, event.address or ""


def _shows(event: KernelEventV1, action: str) -> bool:
    if event.operation in _OPERATIONS.get(action, ()) or event.access in _ACCESS.get(action, ()):
        return True
    flags = event.flags or ()
    return (action == "create" and "create" in flags and event.outcome != OK) or (
        action == "write" and "truncate" in flags
    )


def _attributed(attribution: AttributionV1) -> dict[_Key, Example]:
    found: dict[_Key, Example] = {}
    for call in attribution.calls:
        for one in call.evidence:
            key = _key(one)
            before = found[key].tool_call_ids if key in found else ()
            found[key] = _example(one, (*before, call.tool_call_id))
    for one in attribution.ambiguous:
        found.setdefault(_key(one), _example(one, one.candidates or ()))
    for one in attribution.unattributed:
        found.setdefault(_key(one), _example(one, ()))
    return found


def _example(one: AttributedEvidence, calls: tuple[str, ...]) -> Example:
    return Example(
        role=one.role,
        process=one.process,
        operation=one.operation,
        outcome=one.outcome,
        match=one.match,
        tool_call_ids=calls,
    )


def _key(one: AttributedEvidence) -> _Key:
    return (one.role, one.process, one.operation, one.outcome, one.path, one.path2, one.address)


def _event_key(event: KernelEventV1) -> _Key:
    return (
        event.role,
        event.process,
        event.operation,
        event.outcome,
        event.path,
        event.path2,
        event.address,
    )
