"""Who is who: every process by its place in the fork tree, because pid numbers vary.

The first process of a role's container is `subject.0` or `tools.0`; the n-th new process that it
forks, in kernel time order, is `subject.0.n`. Threads are no processes. A name ends with the exit
of its process, since pid numbers are used again.
"""

from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field, frozen

from harness.contracts.bounds import MAX_NAME_BYTES
from harness.contracts.companion import ExecImage, ProcessNode, ProcessTreeV1
from harness.evidence.model import Flag, KernelRecord, Kind, Role, TooMuchError
from harness.evidence.paths import path_of, text

UNKNOWN = "?"
FIRST_PID = 1  # of a container
ENDED_BY_CONTAINER = (15, 9)  # SIGTERM, SIGKILL


@frozen
class Execution:
    """One successful execution: `path` the program file, `called` the name that was asked for."""

    path: bytes | None
    called: bytes
    argv: tuple[bytes, ...]
    argv_cut: bool


@define
class Process:
    """One process; start and end in kernel time, `end_ns` None while it lives."""

    label: str
    role: Role
    pid: int
    vpid: int
    start_ns: int
    parent: str | None = None
    end_ns: int | None = None
    exit_status: int = 0  # as in task_struct: code << 8 | signal
    children: int = 0
    executions: list[Execution] = field(factory=list)

    def lives_at(self, time_ns: int) -> bool:
        return self.start_ns <= time_ns and (self.end_ns is None or time_ns <= self.end_ns)


@frozen
class Processes:
    """All processes of a run that were seen to start, by host pid and by in-container pid."""

    every: tuple[Process, ...]
    by_pid: Mapping[int, tuple[Process, ...]]
    by_vpid: Mapping[tuple[Role, int], tuple[Process, ...]]
    unlabelled: int  # records after the start boundary of a process that is in neither

    def label(self, record: KernelRecord) -> str:
        """The name of the record's process, UNKNOWN when it was not seen to start."""
        return _at(self.by_pid.get(record.pid, ()), record.time_ns)

    def seen_from(self, record: KernelRecord, number: int) -> str:
        """What in-container pid `number` means to the record's process: `self`, `<label>`, `<?>`."""
        if number in (record.vpid, record.vtid):
            return "self"
        return f"<{_at(self.by_vpid.get((record.role, number), ()), record.time_ns)}>"


def _at(candidates: Sequence[Process], time_ns: int) -> str:
    for process in reversed(candidates):
        if process.lives_at(time_ns):
            return process.label
    return UNKNOWN


def read_processes(records: Iterable[KernelRecord]) -> Processes:
    """The process tree of both roles from fork, exec and exit records, in any order.

    TooMuchError for a line of children so long that its names, which grow with it, would fill the memory.
    """
    measured = [r for r in records if not r.setup and r.role is not Role.HARNESS]
    in_time = sorted(measured, key=lambda r: (r.time_ns, r.seq))
    every: list[Process] = []
    alive: dict[int, Process] = {}
    ended: dict[int, Process] = {}
    roots: set[Role] = set()

    names = 0

    def start(process: Process) -> None:
        nonlocal names
        names += len(process.label)
        if names > MAX_NAME_BYTES:
            raise TooMuchError("bytes of process names", MAX_NAME_BYTES)
        every.append(process)
        alive[process.pid] = process

    for record in in_time:
        if record.vpid == FIRST_PID and record.pid not in alive and record.role not in roots:
            roots.add(record.role)
            start(Process(f"{record.role}.0", record.role, record.pid, FIRST_PID, record.time_ns))
        current = alive.get(record.pid)
        if current is None:
            # Threads that exit at once may each find that no other is left: all of these are the end.
            if record.kind is Kind.EXIT and record.pid in ended:
                ended[record.pid].end_ns = record.time_ns
            continue
        if record.kind is Kind.FORK and record.args[1]:
            start(_child(current, record))
            current.children += 1
        elif record.kind is Kind.EXIT and record.args[1]:
            current.end_ns = record.time_ns
            current.exit_status = record.args[0]
            ended[record.pid] = alive.pop(record.pid)
    processes = _indexed(every, measured)
    for record in in_time:
        if is_execution(record):
            _add_execution(processes, record)
    return processes


def is_execution(record: KernelRecord) -> bool:
    """A successful execution, as against a failed execve."""
    return record.kind is Kind.EXEC and record.result >= 0


def execution(record: KernelRecord, processes: Processes) -> Execution:
    """What an execution record says: `raw` is the called name, NUL, then argv split by NULs."""
    called, _, arguments = record.raw.partition(b"\0")
    cut = bool(record.flags & Flag.ARGS_CUT)
    if not cut:
        arguments = arguments.removesuffix(b"\0")
    argv = tuple(arguments.split(b"\0")) if b"\0" in record.raw and arguments else ()
    path = path_of(record, lambda number: processes.seen_from(record, number))
    return Execution(path, called, argv, cut)


def process_tree(run_id: str, processes: Processes) -> ProcessTreeV1:
    """companion/processes.json."""
    in_order = sorted(processes.every, key=lambda p: (p.role.value, _place(p.label)))
    return ProcessTreeV1(run_id=run_id, processes=tuple(_node(process) for process in in_order))


def exec_image(execution: Execution) -> ExecImage:
    path = execution.path or b""
    return ExecImage(
        path=text(path),
        called=text(execution.called) if execution.called != path else None,
        argv=tuple(text(argument) for argument in execution.argv),
        argv_cut=True if execution.argv_cut else None,
    )


def _child(parent: Process, fork: KernelRecord) -> Process:
    vpid, _, pid = fork.args
    label = f"{parent.label}.{parent.children}"
    return Process(label, parent.role, pid, vpid, fork.time_ns, parent=parent.label)


def _indexed(every: list[Process], measured: list[KernelRecord]) -> Processes:
    by_pid: dict[int, list[Process]] = {}
    by_vpid: dict[tuple[Role, int], list[Process]] = {}
    for process in every:
        by_pid.setdefault(process.pid, []).append(process)
        by_vpid.setdefault((process.role, process.vpid), []).append(process)
    pids = {pid: tuple(found) for pid, found in by_pid.items()}
    unlabelled = sum(_at(pids.get(r.pid, ()), r.time_ns) == UNKNOWN for r in measured)
    vpids = {key: tuple(found) for key, found in by_vpid.items()}
    return Processes(tuple(every), pids, vpids, unlabelled)


def _add_execution(processes: Processes, record: KernelRecord) -> None:
    for process in reversed(processes.by_pid.get(record.pid, ())):
        if process.lives_at(record.time_ns):
            process.executions.append(execution(record, processes))
            return


def _place(label: str) -> list[int]:
    return [int(step) for step in label.split(".")[1:]]


def _node(process: Process) -> ProcessNode:
    signal = process.exit_status & 0x7F
    code = process.exit_status >> 8 & 0xFF
    ended = process.end_ns is not None
    raced = process.parent is not None and (signal in ENDED_BY_CONTAINER or process.exit_status == 0)
    told = ended and not raced
    return ProcessNode(
        process=process.label,
        role=process.role.value,
        parent=process.parent,
        execs=tuple(exec_image(execution) for execution in process.executions),
        exit_code=code if told and not signal else None,
        signal=signal if told and signal else None,
    )
