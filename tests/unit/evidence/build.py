"""Kernel records and observations by hand, and a whole S5-like run in any order the kernel could give."""

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harness.evidence.assemble import RunContext
from harness.evidence.classify import Classified, Context, classify
from harness.evidence.image import ImageFiles, RunImage
from harness.evidence.model import (
    CaptureAccounting,
    ChannelLog,
    Flag,
    KernelRecord,
    Kind,
    KindCounters,
    NetworkSeal,
    Observation,
    Role,
    RoleOutcome,
    StampedLine,
)
from harness.evidence.processes import Processes, read_processes
from harness.evidence.programs import Program
from harness.spec import RunSpec

RUN_ID = "run_test"
ROOTS = ("/opt", "/usr", "/lib", "/lib64")
AGENT = ("/opt/node/bin/node", "/opt/app/agent.mjs")
PYTHON = "/usr/bin/python3.11"
BRIDGE = (PYTHON, "-I", "-S", "-B", "/opt/assay/bridge.py", "/run/assay/mcp/mcp.sock")
PROXY = (PYTHON, "-I", "-S", "-B", "/opt/assay/proxy.py", "--", "/opt/node/bin/node", "/opt/app/server.mjs")
SERVER = ("/opt/node/bin/node", "/opt/app/server.mjs")
PLUMBING = {Role.SUBJECT: (AGENT, BRIDGE), Role.TOOLS: (PROXY, SERVER)}


def program(part: str, *argv: str, path: str = "") -> Program:
    return Program(part, (path or argv[0]).encode(), tuple(word.encode() for word in argv))


PROGRAMS = (
    program("entry", *AGENT),
    program("bridge", *BRIDGE),
    program("proxy", *PROXY),
    program("server", *SERVER),
)
FILES = ImageFiles(
    "sha256:" + "3" * 64,
    frozenset(
        path.encode()
        for path in (
            "/etc", "/lib", "/lib64", "/opt", "/opt/app", "/opt/app/agent.mjs", "/opt/app/server.mjs",
            "/opt/node", "/opt/node/bin", "/opt/node/bin/node", "/usr", "/usr/bin", "/usr/lib", "/usr/lib/x",
            "/usr/lib/libc.so.6", "/usr/lib/python3.11", "/usr/lib/python3.11/encodings",
            "/usr/lib/python3.11/encodings/__init__.py",
        )
    ),
)  # fmt: skip
SOCKETS = ("/run/assay/mcp/mcp.sock", "/run/assay/sdk/sdk.sock")
IMAGE = RunImage("openai-agents", "sha256:" + "0" * 64, ROOTS, files=FILES)
CONTEXT = Context(ROOTS, PROGRAMS, SOCKETS, FILES)
OPENAT, OPENAT2, CREAT = 257, 437, 85


class Trace:
    """Records in ring order, a microsecond apart; every method appends one and returns it.

    Host pids are 1000 plus the in-container pid for the subject, 2000 plus it for the tools.
    """

    def __init__(self) -> None:
        self.records: list[KernelRecord] = []

    def add(self, kind: Kind, role: Role = Role.SUBJECT, vpid: int = 1, **fields: Any) -> KernelRecord:
        number = len(self.records)
        pid = vpid + (2000 if role is Role.TOOLS else 1000)
        known: dict[str, Any] = {
            "seq": number, "time_ns": 1000 * (number + 1), "syscall": 0, "setup": False,
            "pid": pid, "tid": pid, "vpid": vpid, "vtid": vpid, "result": 0, "flags": 0,
        }  # fmt: skip
        record = KernelRecord(kind=kind, role=role, **(known | fields))
        self.records.append(record)
        return record

    def exec(self, argv: Sequence[str], *, path: str = "", called: str = "", **fields: Any) -> KernelRecord:
        raw = b"\0".join(argument.encode() for argument in ((called or argv[0]), *argv))
        walked = (path or argv[0]).encode()
        known: dict[str, Any] = {"syscall": 59, "walked": walked, "raw": raw, "flags": Flag.OBJECT}
        return self.add(Kind.EXEC, **(known | fields))

    def opened(self, path: str | bytes, how: int = 0, fd: int = 3, **fields: Any) -> KernelRecord:
        walked = path.encode() if isinstance(path, str) else path
        known: dict[str, Any] = {
            "syscall": OPENAT,
            "walked": walked,
            "args": (how, 0, 0),
            "result": fd,
            "flags": Flag.OBJECT,
        }
        return self.add(Kind.OPEN, **(known | fields))

    def failed_open(self, name: str, errno: int = 2, how: int = 0, **fields: Any) -> KernelRecord:
        known: dict[str, Any] = {
            "syscall": OPENAT,
            "raw": name.encode(),
            "args": (how, 0, 0),
            "result": -errno,
        }
        return self.add(Kind.OPEN, **(known | fields))

    def named(self, syscall: int, name: str, result: int = 0, **fields: Any) -> KernelRecord:
        known: dict[str, Any] = {"syscall": syscall, "raw": name.encode(), "result": result}
        return self.add(Kind.PATH, **(known | fields))

    def fork(self, child: int, role: Role = Role.SUBJECT, vpid: int = 1, **fields: Any) -> KernelRecord:
        host = child + (2000 if role is Role.TOOLS else 1000)
        return self.add(Kind.FORK, role, vpid, **({"args": (child, 1, host)} | fields))

    def exit(self, role: Role = Role.SUBJECT, vpid: int = 1, status: int = 0, **fields: Any) -> KernelRecord:
        return self.add(Kind.EXIT, role, vpid, **({"args": (status, 1, 0)} | fields))

    def sock(self, syscall: int, address: bytes = b"", result: int = 0, **fields: Any) -> KernelRecord:
        known: dict[str, Any] = {
            "syscall": syscall,
            "raw": address,
            "result": result,
            "args": (7, len(address), 0),
        }
        return self.add(Kind.SOCK, **(known | fields))

    def net(self, hook: int, address: bytes, port: int, **fields: Any) -> KernelRecord:
        return self.add(Kind.NET, **({"raw": address, "args": (hook, port, 0)} | fields))

    def processes(self) -> Processes:
        return read_processes(self.records)

    def classified(self, context: Context = CONTEXT) -> Classified:
        return classify(self.records, self.processes(), context)


def unix(path: str) -> bytes:
    return b"\1\0" + path.encode() + b"\0"


def inet(host: Sequence[int], port: int) -> bytes:
    return b"\2\0" + port.to_bytes(2, "big") + bytes(host) + bytes(8)


def accounting_of(records: Sequence[KernelRecord], **fields: Any) -> CaptureAccounting:
    """Books that balance for these records."""
    kinds = {kind: sum(record.kind is kind for record in records) for kind in Kind}
    known: dict[str, Any] = {
        "kinds": {kind: KindCounters(seen=count, submitted=count) for kind, count in kinds.items()},
        "received": len(records), "received_bytes": 128 * len(records), "decoded": len(records),
        "decode_errors": 0, "recursion_misses": 0, "sentinels_expected": 2, "sentinels_seen": 2,
        "boundaries": frozenset({Role.SUBJECT, Role.TOOLS}), "ring_bytes": 1 << 23, "ring_high_water": 4096,
        "freezes": 0, "frozen_ns": 0,
    }  # fmt: skip
    return CaptureAccounting(**(known | fields))


def seal(role: Role, **fields: Any) -> NetworkSeal:
    known: dict[str, Any] = {"links_start": ("lo",), "links_end": ("lo",), "foreign_routes": (), "packets": 0}
    return NetworkSeal(role=role, **(known | fields))


def log(*lines: bytes | Mapping[str, Any], **fields: Any) -> ChannelLog:
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    stamped = tuple(StampedLine(at, data) for at, data in enumerate(encoded))
    return ChannelLog(stamped, **({"connections": 1} | fields))


def log_of(lines: Sequence[StampedLine]) -> ChannelLog:
    """A log of lines that are stamped already."""
    return ChannelLog(tuple(lines), connections=1)


def cloud_event(kind: str, **data: Any) -> dict[str, Any]:
    source = f"assay://runner-spike/{RUN_ID}"
    return {"specversion": "1.0", "id": "evt_1", "type": kind, "source": source, "data": data}


def decision(
    name: str | None, at: int, *, paths: Iterable[str] = (), tool: str = "read_file", verdict: str = "allow",
    request: object = 1, connection: int = 1,
) -> dict[str, Any]:  # fmt: skip
    return cloud_event(
        "assay.tool.decision", tool=tool, decision=verdict, tool_call_id=name, request_id=request,
        connection=connection, paths=list(paths), monotonic_ns=at,
    )  # fmt: skip


def answer(name: str, at: int, request: object = 1, connection: int = 1) -> dict[str, Any]:
    data = {"tool_call_id": name, "request_id": request, "connection": connection, "monotonic_ns": at}
    return cloud_event("assay.tool.answered", **data)


def sdk_event(seq: int, event_type: str, call: str | None = None) -> dict[str, Any]:
    event = {
        "schema": "assay.runner.sdk_event.v0", "run_id": RUN_ID, "seq": seq, "event_type": event_type,
        "source": "fixture", "sdk_name": "@openai/agents", "sdk_version": "0.20.0",
    }  # fmt: skip
    return event | ({"tool_call_id": call, "tool": "read_file"} if call else {})


SDK_LINES = (
    sdk_event(0, "tool_call_started", "tc_1"),
    sdk_event(1, "tool_call_completed", "tc_1"),
    sdk_event(2, "run_finished"),
)


def context(**fields: Any) -> RunContext:
    known: dict[str, Any] = {
        "spec": RunSpec(command=AGENT, run_id=RUN_ID, agent_shim="openai-agents", env={"B": "2", "A": "1"}),
        "fixture": "openai-agents", "image": IMAGE, "deadline_s": 60.0,
        "witnesses": ("kernel", "policy", "sdk"),
        "plumbing": PLUMBING, "programs": PROGRAMS, "policy_sha256": "sha256:" + "1" * 64,
        "tools_server": SERVER,
        "workspace": "ro", "inputs": {"policy-input.txt": "sha256:" + "2" * 64},
    }  # fmt: skip
    return RunContext(**(known | fields))


def observe(records: Sequence[KernelRecord], **fields: Any) -> Observation:
    """A clean observation around these records; the policy allowed one call, the SDK reported it."""
    known: dict[str, Any] = {
        "records": tuple(records), "accounting": accounting_of(records),
        "decisions": log(decision("tc_1", 0)), "sdk_events": log(*SDK_LINES),
        "subject": RoleOutcome(0, None, 1, 100), "tools": RoleOutcome(0, None, 1, 200),
        "timed_out": False, "survivors": 0, "elapsed_ms": 1234,
        "seals": (seal(Role.SUBJECT), seal(Role.TOOLS)), "host": {"kernel": "6.1"},
    }  # fmt: skip
    return Observation(**(known | fields))


# One run, told per process; `Run` renders it in any order and with any numbers that a kernel may give.

Step = Callable[["Run", int, int], None]  # (run, in-container pid, thread)


class Run:
    """An S5-like run whose pids, threads, descriptors, times and interleaving come from `seed`."""

    def __init__(self, seed: int, *, hidden_write: bool = False) -> None:
        self.random = random.Random(seed)
        self.trace = Trace()
        self.lines: list[dict[str, Any]] = []
        self.now = self.random.randrange(10**9)
        self.vpids: dict[str, int] = {"subject.0": 1, "tools.0": 1}
        self.done: set[str] = set()
        self._setup()
        queues = {name: list(steps) for name, steps in self._script(hidden_write).items()}
        while any(queues.values()):
            ready = [n for n, steps in queues.items() if steps and self._may(n, steps[0])]
            name = self.random.choice(ready)
            self._do(name, queues[name].pop(0))
        self._sentinels()

    def observation(self, **fields: Any) -> Observation:
        known: dict[str, Any] = {"decisions": log(*self.lines), "elapsed_ms": self.random.randrange(1, 9999)}
        return observe(self.trace.records, **(known | fields))

    def put(self, name: str, method: str, *arguments: Any, **fields: Any) -> None:
        role = Role(name.split(".", maxsplit=1)[0])
        vpid = self.vpids[name]
        before = len(self.trace.records)
        getattr(self.trace, method)(*arguments, role=role, vpid=vpid, **fields)
        for index in range(before, len(self.trace.records)):
            self.now += self.random.randrange(1, 5000)
            thread = self.random.choice((0, 0, 70, 71))  # worker threads
            record = self.trace.records[index]
            host = record.pid + 7919 * (1 + self.vpids["shift"])
            args = record.args
            if record.kind is Kind.FORK:
                args = (args[0], args[1], args[2] + 7919 * (1 + self.vpids["shift"]))
            self.trace.records[index] = record._replace(
                time_ns=self.now, pid=host, tid=host + 100000 * thread, vtid=vpid + thread, args=args
            )

    def _setup(self) -> None:
        self.vpids["shift"] = self.random.randrange(3)
        self._sentinels()
        for role in (Role.SUBJECT, Role.TOOLS):
            for number in range(self.random.randrange(1, 6)):
                self.trace.opened(f"/var/lib/merged/{number}", role=role, setup=True, comm=b"runc:[2:INIT]")

    def _sentinels(self) -> None:
        self.trace.failed_open("/assay-sentinel", role=Role.HARNESS, vpid=500)

    def _may(self, name: str, step: tuple[str, Any]) -> bool:
        return name in self.vpids and (step[0] != "after" or step[1] in self.done)

    def _do(self, name: str, step: tuple[str, Any]) -> None:
        action, value = step
        if action == "fork":
            self.vpids[value] = self.random.randrange(6, 60)
            self.put(name, "fork", self.vpids[value])
        elif action == "say":
            self.now += self.random.randrange(1, 100)
            self.lines.append(value(self.now))
        elif action == "done":
            self.done.add(value)
        elif action != "after":
            arguments, fields = value
            self.put(name, action, *(a(self) if callable(a) else a for a in arguments), **fields)

    def _script(self, hidden_write: bool) -> dict[str, list[tuple[str, Any]]]:
        def do(method: str, *arguments: Any, **fields: Any) -> tuple[str, Any]:
            return method, (arguments, fields)

        fd = self.random.randrange(3, 30)
        created = {"fd": fd, "flags": Flag.OBJECT | Flag.CREATED}
        hidden = (
            [do("opened", "/workspace/hidden-write-output.txt", 0o1101, **created)] if hidden_write else []
        )
        reads = self.random.randrange(1, 4)  # a node start reads them two or three times

        def own(label: str, file: str) -> Callable[[Run], str]:
            return lambda run: f"/proc/{run.vpids[label]}/{file}"

        return {
            "subject.0": [
                do("exec", AGENT),
                *[do("opened", own("subject.0", "maps"), fd=fd) for _ in range(reads)],
                *[do("opened", "/opt/node/bin/node", fd=fd) for _ in range(reads - 1)],
                do("failed_open", "/etc/localtime"),
                do("failed_open", "/sys/fs/cgroup//memory/memory.limit_in_bytes"),
                do("add", Kind.URING, syscall=425, result=-38),
                do("sock", 42, unix("/run/assay/sdk/sdk.sock")),
                do("opened", "/workspace/openai-agents-input.txt", 0o2000000, fd=fd),
                ("fork", "subject.0.0"),
                ("after", "answered"),
                *hidden,
                ("after", "bridge ended"),
                do("exit"),
            ],
            "subject.0.0": [
                do("opened", "/dev/null", fd=fd),
                do("exec", BRIDGE),
                do("opened", "/usr/lib/python3.11/encodings/__init__.py", fd=fd),
                ("after", "listening"),
                do("sock", 42, unix("/run/assay/mcp/mcp.sock")),
                ("done", "connected"),
                ("after", "answered"),
                do("exit", status=self.random.choice((0, 9, 15))),
                ("done", "bridge ended"),
            ],
            "tools.0": [
                do("exec", PROXY),
                do("sock", 42, unix("/run/assay/decisions/decisions.sock")),
                ("done", "listening"),
                ("after", "connected"),
                ("fork", "tools.0.0"),
                ("after", "server up"),
                ("say", lambda at: decision("tc_1", at, paths=["/workspace/policy-input.txt"])),
                ("done", "decided"),
                ("after", "read"),
                ("say", lambda at: answer("tc_1", at)),
                ("done", "answered"),
                do("exit"),
            ],
            "tools.0.0": [
                do("exec", SERVER),
                do("opened", own("tools.0.0", "cgroup"), fd=fd),
                do("opened", "/opt/app/server.mjs", fd=fd),
                ("done", "server up"),
                ("after", "decided"),
                do("opened", "/workspace/policy-input.txt", 0o2000000, fd=fd),
                ("done", "read"),
                ("after", "answered"),
                do("exit", status=self.random.choice((0, 9))),
            ],
        }
