"""One line of layers/kernel.ndjson (contracts §2.4, §4.2)."""

from enum import StrEnum
from types import MappingProxyType

from attrs import frozen

from harness.contracts.converter import Natural, constant, nullable, omittable
from harness.contracts.rules import RuleError, RunId

SCHEMA = "assay.runner.kernel_event.v0"

OPENAT = 1
CONNECT = 2
EXEC = 4
SENDTO = 6
SENDMSG = 7
FILE_BLOCKED = 10
CONNECT_BLOCKED = 20
FIRST_OTHER_OPERATION = 200  # ids from here on are ours: operations outside v0's vocabulary

EVENT_KINDS = MappingProxyType(
    {
        OPENAT: "openat",
        CONNECT: "connect",
        EXEC: "exec",
        SENDTO: "sendto",
        SENDMSG: "sendmsg",
        FILE_BLOCKED: "file_blocked",
        CONNECT_BLOCKED: "connect_blocked",
    }
)
# open(2): O_CREAT, O_TRUNC, O_APPEND, O_EXCL, in the contract's order
_OPERATIONS = ((0o100, "create"), (0o1000, "truncate"), (0o2000, "append"), (0o400, "exclusive"))


class AccessMode(StrEnum):
    READ = "read"
    WRITE = "write"
    READ_WRITE = "read_write"
    UNKNOWN = "unknown"


class Status(StrEnum):
    SUCCESS = "success"
    ERROR = "error"


def kind_of(event_type: int) -> str:
    return EVENT_KINDS.get(event_type, f"event_{event_type}")


def access_mode(flags: int) -> AccessMode:
    """From the low two bits of the open flags."""
    return tuple(AccessMode)[flags & 3]


def operation_flags(flags: int) -> tuple[str, ...] | None:
    """None when empty: the key is then left out."""
    return tuple(name for bit, name in _OPERATIONS if flags & bit) or None


def status_of(return_value: int) -> Status:
    return Status.SUCCESS if return_value >= 0 else Status.ERROR


@frozen(kw_only=True)
class KernelEvent:
    """`pid` is the thread group id, `return_value` the signed syscall result, `value` the path
    or endpoint."""

    schema: str = constant(SCHEMA)
    run_id: RunId
    seq: Natural
    pid: Natural
    event_type: Natural
    kind: str
    value: str | None = nullable()
    cgroup_id: Natural | None = omittable()
    network_destination: str | None = omittable()
    network_port: Natural | None = omittable()
    rule_id: Natural | None = omittable()
    flags: Natural | None = omittable()
    mode: Natural | None = omittable()
    resolve: Natural | None = omittable()
    return_value: int | None = omittable()
    access_mode: AccessMode | None = omittable()
    operation_flags: tuple[str, ...] | None = omittable()
    status: Status | None = omittable()

    def validate(self) -> None:
        """RuleError when a derived key does not follow from what it is derived from."""
        access = None if self.flags is None else access_mode(self.flags)
        operations = None if self.flags is None else operation_flags(self.flags)
        status = None if self.return_value is None else status_of(self.return_value)
        for key, observed, derived in (
            ("kind", self.kind, kind_of(self.event_type)),
            ("access_mode", self.access_mode, access),
            ("operation_flags", self.operation_flags, operations),
            ("status", self.status, status),
        ):
            if observed != derived:
                raise RuleError("DerivedKeyMismatch", f"/{key}", f"is {observed!r}, follows as {derived!r}")
        if self.resolve == 0:
            raise RuleError("ZeroResolve", "/resolve", "is left out when zero")


def open_event(
    *,
    run_id: str,
    seq: int,
    pid: int,
    value: str | None,
    flags: int,
    mode: int,
    resolve: int,
    return_value: int,
) -> KernelEvent:
    """An open with all that follows from its arguments and result."""
    return KernelEvent(
        run_id=run_id,
        seq=seq,
        pid=pid,
        event_type=OPENAT,
        kind=kind_of(OPENAT),
        value=value,
        flags=flags,
        mode=mode,
        resolve=resolve or None,
        return_value=return_value,
        access_mode=access_mode(flags),
        operation_flags=operation_flags(flags),
        status=status_of(return_value),
    )


def other_event(
    *,
    run_id: str,
    seq: int,
    pid: int,
    event_type: int,
    value: str | None,
    return_value: int | None = None,
) -> KernelEvent:
    """Any other operation; `return_value` None when the result is not known."""
    return KernelEvent(
        run_id=run_id,
        seq=seq,
        pid=pid,
        event_type=event_type,
        kind=kind_of(event_type),
        value=value,
        return_value=return_value,
        status=None if return_value is None else status_of(return_value),
    )
