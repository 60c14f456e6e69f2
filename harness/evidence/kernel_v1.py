"""companion/kernel.ndjson: the full story as a sorted set of distinct operations (design §6)."""

from attrs import evolve

from harness.contracts.canonical import to_bytes
from harness.contracts.companion import KernelEventV1
from harness.contracts.converter import unstructure
from harness.evidence.classify import UNTOLD, Classified, EventClass
from harness.evidence.operations import Operation
from harness.evidence.paths import hex_if_lossy, text


def kernel_events_v1(run_id: str, classified: Classified) -> list[KernelEventV1]:
    """Every operation of the classes that may be told, each once, sorted by its canonical bytes."""
    told = {_line(run_id, op, found) for op, found in classified.operations if found not in UNTOLD}
    in_order = sorted(told, key=lambda line: to_bytes(unstructure(line)))
    return [evolve(line, seq=seq) for seq, line in enumerate(in_order)]


def _line(run_id: str, operation: Operation, found: EventClass) -> KernelEventV1:
    path, path2 = operation.path, operation.path2
    return KernelEventV1(
        run_id=run_id,
        seq=0,
        role=operation.role.value,
        process=operation.process,
        operation=operation.name,
        outcome=operation.outcome,
        event_class=found.value,
        path=None if path is None else text(path),
        path_hex=None if path is None else hex_if_lossy(path),
        path2=None if path2 is None else text(path2),
        path2_hex=None if path2 is None else hex_if_lossy(path2),
        access=operation.access,
        flags=operation.flags or None,
        mode=None if operation.mode is None else f"{operation.mode:04o}",
        file_type=operation.file_type,
        called=None if operation.called is None else text(operation.called),
        argv=None if operation.argv is None else tuple(text(argument) for argument in operation.argv),
        argv_cut=True if operation.argv_cut else None,
        family=None if operation.address is None else operation.address.family,
        address=None if operation.address is None else operation.address.text,
    )
