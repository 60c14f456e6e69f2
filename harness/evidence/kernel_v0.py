"""layers/kernel.ndjson: what the reference would have retained, from our operations (contracts §2.4).

Only class evidence is retained, once for each distinct kind, value, arguments, success and role: a
count of lines that enters health and correlation must not depend on how often a file was read.
"""

from collections.abc import Iterator

from harness.contracts.kernel_event import (
    CONNECT,
    EXEC,
    FIRST_OTHER_OPERATION,
    OPENAT,
    SENDMSG,
    SENDTO,
    KernelEvent,
    open_event,
    other_event,
)
from harness.evidence.classify import Classified, EventClass
from harness.evidence.model import Kind
from harness.evidence.operations import UNKNOWN_RESULT, Operation, open_arguments
from harness.evidence.paths import text
from harness.evidence.temporary import final

NETWORK_IDS = {"connect": CONNECT, "sendto": SENDTO, "sendmsg": SENDMSG}
# Operations outside v0's vocabulary: `event_<id>`, value is the path. Ids are never used again.
OTHER_IDS = {
    name: FIRST_OTHER_OPERATION + offset
    for offset, name in enumerate(
        (
            "unlink", "rmdir", "rename", "link", "symlink", "mkdir", "mknod", "truncate", "chmod", "chown",
            "utimens", "setxattr", "removexattr", "chroot", "name_to_handle",
        )
    )
}  # fmt: skip
BOTH_NAMES = frozenset({"rename", "link"})  # one line for each name


def kernel_events_v0(run_id: str, classified: Classified) -> list[KernelEvent]:
    """The retained events in ring order, seq from 0."""
    events: list[KernelEvent] = []
    seen: set[tuple[object, ...]] = set()
    for operation in classified.of(EventClass.EVIDENCE):
        for event_type, value in _values(operation):
            arguments = open_arguments(operation.first) if event_type == OPENAT else ()
            succeeded = operation.records[-1].result >= 0
            key = (event_type, value, arguments, succeeded, operation.role)
            if key not in seen:
                seen.add(key)
                events.append(_event(run_id, len(events), operation, event_type, value))
    return events


def _values(operation: Operation) -> Iterator[tuple[int, str | None]]:
    name = operation.name
    path = None if operation.path is None else final(text(operation.path))
    if operation.first.kind is Kind.OPEN:
        yield OPENAT, path
    elif name == "exec":
        yield EXEC, path
    elif name in NETWORK_IDS:
        if operation.address is not None and operation.address.inet:
            yield NETWORK_IDS[name], operation.address.text
    elif name in OTHER_IDS:
        yield OTHER_IDS[name], path
        if name in BOTH_NAMES and operation.path2 is not None:
            yield OTHER_IDS[name], text(operation.path2)


def _event(run_id: str, seq: int, operation: Operation, event_type: int, value: str | None) -> KernelEvent:
    result = operation.records[-1].result
    if event_type == OPENAT:
        flags, mode, resolve = open_arguments(operation.first)
        return open_event(
            run_id=run_id, seq=seq, pid=operation.first.pid, value=value,
            flags=flags, mode=mode, resolve=resolve, return_value=result,
        )  # fmt: skip
    known = None if operation.outcome == UNKNOWN_RESULT else result
    return other_event(
        run_id=run_id, seq=seq, pid=operation.first.pid, event_type=event_type,
        value=value, return_value=known,
    )  # fmt: skip
