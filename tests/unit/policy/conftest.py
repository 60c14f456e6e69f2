"""The real chain: recorder on this side, proxy and bridges as they ship, a real MCP server."""

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from harness.evidence.model import ChannelLog
from harness.policy import SHIPPED_FILES
from harness.recorder.channel import Channel, Recorder, listening

DEBIAN = "/usr/bin/python3.11"
PYTHON = DEBIAN if Path(DEBIAN).exists() else shutil.which("python3.11") or sys.executable
KEY = "dev.assay.runner/tool_call_id"
SOURCE = "assay://runner-spike/run_x"
POLICY = """
schema = "assay.runner.policy.v1"
base = "/workspace"

[[rule]]
id = "secrets"
effect = "deny"
tools = ["*"]
paths = ["/workspace/secret", "/workspace/secret/**"]

[[rule]]
id = "reads"
effect = "allow"
tools = ["read_*"]
paths = ["/workspace/**"]

[[rule]]
id = "probes"
effect = "allow"
tools = ["echo", "big", "slow", "meet", "fail", "error", "crash", "deaf", "child", "ask"]
"""


def flags() -> list[str]:
    return [PYTHON, "-I", "-S", "-B"]


class Bridge:
    """One bridge process, as an agent's MCP client would start it."""

    def __init__(self, argv: list[str]) -> None:
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self._rest = b""

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    def raw(self, data: bytes) -> None:
        while data:
            data = data[self.stdin.write(data) :]

    def send(self, **message: Any) -> None:
        self.raw(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def call(
        self,
        request_id: object,
        tool: str,
        arguments: object = None,
        tool_call_id: object = "tc",
        **meta: Any,
    ) -> None:
        meta_ = meta if tool_call_id is None else {KEY: tool_call_id, **meta}
        params = {"name": tool, "arguments": arguments or {}, "_meta": meta_}
        self.send(id=request_id, method="tools/call", params=params)

    def line(self, timeout: float = 60) -> bytes:
        """The next line without newline; b"" at the end of the stream."""
        assert self.process.stdout is not None
        end = time.monotonic() + timeout
        while b"\n" not in self._rest:
            ready = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]
            if not ready:
                raise TimeoutError(f"no line within {timeout} s; have {self._rest[:200]!r}")
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                assert not self._rest, self._rest
                return b""
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def receive(self, timeout: float = 60) -> dict[str, Any]:
        line = self.line(timeout)
        assert line, "the connection ended"
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    def silent(self, seconds: float) -> bool:
        """True if nothing arrives in that time."""
        assert self.process.stdout is not None
        return not self._rest and not select.select([self.process.stdout], [], [], seconds)[0]

    def close(self) -> int:
        if not self.stdin.closed:
            self.stdin.close()
        return self.process.wait(60)

    def dispose(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class Rig:
    """A recorder, a proxy and any number of bridges below one folder."""

    def __init__(self, folder: Path, installed: Path) -> None:
        self.folder = folder
        self.installed = installed
        self.policy = folder / "policy.toml"
        self.policy.write_text(POLICY)
        self.listen = folder / "mcp.sock"
        self.decisions = folder / "decisions.sock"
        self.server_log = folder / "server.ndjson"
        self.recorder: Recorder | None = None
        self.proxy: subprocess.Popen[bytes] | None = None
        self.bridges: list[Bridge] = []
        self._log: ChannelLog | None = None

    def proxy_argv(self, *server: str, legacy: bool = False) -> list[str]:
        argv = [*flags(), str(self.installed / "proxy.py")]
        argv += ["--decisions", str(self.decisions), "--source", SOURCE]
        return [*argv, *(["--legacy"] if legacy else []), "--", *server]

    def server_argv(self, *options: str) -> list[str]:
        return [*flags(), str(Path(__file__).with_name("echo_server.py")), str(self.server_log), *options]

    def handed_over(self) -> tuple[int, int]:
        """What the host hands to the proxy: the listening socket and the open policy."""
        return listening(self.listen, mode=0o666).detach(), os.open(self.policy, os.O_RDONLY)

    def stand_in(self) -> socket.socket:
        """Starts the proxy with another host than ours: its end of the decision channel."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.decisions))
            listener.listen()
            self.proxy = subprocess.Popen(self.proxy_argv(*self.server_argv()), stderr=subprocess.PIPE)
            host, _ = listener.accept()
        handed = self.handed_over()
        socket.send_fds(host, [b"\0"], handed)
        for descriptor in handed:
            os.close(descriptor)
        return host

    def record(self, *, acknowledge: bool = True) -> Recorder:
        handed = self.handed_over()
        self.recorder = Recorder(
            [Channel("decisions", self.decisions, acknowledge=acknowledge, exclusive=True, hand_over=handed)]
        )
        return self.recorder

    def start(
        self, *, legacy: bool = False, acknowledge: bool = True, server: list[str] | None = None
    ) -> "Rig":
        recorder = self.recorder or self.record(acknowledge=acknowledge)
        argv = self.proxy_argv(*(server or self.server_argv()), legacy=legacy)
        self.proxy = subprocess.Popen(argv, stderr=subprocess.PIPE)
        assert recorder.wait_for("decisions", "assay.proxy.ready", 60), "proxy is not ready"
        return self

    def bridge(self) -> Bridge:
        self.bridges.append(Bridge([*flags(), str(self.installed / "bridge.py"), str(self.listen)]))
        return self.bridges[-1]

    def wait_for(self, event_type: str) -> None:
        assert self.recorder is not None
        assert self.recorder.wait_for("decisions", event_type, 60), f"no {event_type}"

    def stop(self) -> ChannelLog:
        """Hang up, as the harness does; the proxy must end by itself, and well."""
        assert self.recorder is not None
        assert self.proxy is not None
        assert self.proxy.poll() is None, "the proxy died"
        self.recorder.hang_up("decisions")
        assert self.proxy.wait(10) == 0
        self._log = self.recorder.close()["decisions"]
        return self._log

    def events(self, event_type: str = "") -> list[dict[str, Any]]:
        """All events of a type, with `stamp`, the recorder's time; stops the run first if need be."""
        log = self._log or self.stop()
        events = [{**json.loads(line.data), "stamp": line.time_ns} for line in log.lines]
        return [event for event in events if event["type"].endswith(event_type)]

    def data(self, event_type: str) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events(event_type)]

    def received(self) -> list[dict[str, Any]]:
        """What the servers logged; `message` is the parsed line."""
        if not self.server_log.exists():
            return []
        entries = [json.loads(line) for line in self.server_log.read_text().splitlines()]
        return [{**entry, "message": json.loads(entry["line"] or "null")} for entry in entries]

    def forwarded(self) -> list[Any]:
        return [entry["message"] for entry in self.received() if entry["what"] == "line"]

    def dispose(self) -> None:
        for bridge in self.bridges:
            bridge.dispose()
        if self.recorder is not None:
            self.recorder.close()
        if self.proxy is not None:
            self.proxy.kill()
            self.proxy.wait()
            if self.proxy.stderr is not None:
                self.proxy.stderr.close()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/opt/assay exactly as it is shipped, somewhere else."""
    root = tmp_path_factory.mktemp("image")
    for target, source in SHIPPED_FILES.items():
        path = root / target.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
    return root / "opt/assay"


@pytest.fixture(scope="session")
def make_rig(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Rig]]:
    rigs: list[Rig] = []

    def make() -> Rig:
        rigs.append(Rig(tmp_path_factory.mktemp("rig"), installed))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.dispose()


@pytest.fixture
def rig(installed: Path, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, installed)
    yield rig
    rig.dispose()
