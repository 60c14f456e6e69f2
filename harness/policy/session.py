"""One bridge connection and the MCP server that serves it.

Stdlib only, shipped beside the proxy. Both directions are queues of (gate, line): a line passes
when the decision channel has got far enough, and never overtakes an earlier one. What is done with
a line is decided in judge.py.
"""

import os
import select
import sys
import time
from _socket import SHUT_WR, socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from harness.policy import wire
from harness.policy.decisions import DecisionChannel
from harness.policy.lines import LineBuffer, Overlong
from harness.policy.refusals import Refusals
from harness.policy.server import Server

HIGH_WATER = 1 << 20  # bytes waiting for a peer before its writers are no longer read
GRACE_S = 2.0  # for a server to end after its stdin and the bridge's connection were closed
MAX_REQUEST = 1 << 20
MAX_RESPONSE = 64 << 20
MAX_IN_FLIGHT = 256  # requests without an answer, on one connection
_CHUNK = 65536


class _Held(NamedTuple):
    gate: int
    line: bytes
    message: wire.Message | None = None


class _Pending(NamedTuple):
    method: str
    tool_call_id: str | None


class Session:
    """`over` once the connection is closed and the server reaped; `number` is the connection's."""

    def __init__(
        self,
        connection: socket,
        decisions: DecisionChannel,
        server: Server,
        refusals: Refusals,
        number: int,
    ) -> None:
        connection.setblocking(False)
        self.connection: socket | None = connection
        self.decisions = decisions
        self.server = server
        self.refusals = refusals
        self.number = number
        self.pid: int | None = None
        self.deadline: float | None = None  # time.monotonic() at which the server is killed
        self.in_flight: dict[wire.RequestId, _Pending] = {}  # forwarded requests without an answer
        self.asked: set[wire.RequestId] = set()  # requests of the server
        self._started = False
        self._killed_for = ""
        self._cut_off = False  # the connection was closed because the server says no more
        self._stdin: int | None = None
        self._stdout: int | None = None
        self._client_lines = LineBuffer(MAX_REQUEST, look=True)
        self._server_lines = LineBuffer(MAX_RESPONSE)
        self._client_ended = False  # the bridge sends no more
        self._client_deaf = False  # the bridge reads no more
        self._to_server: deque[_Held] = deque()
        self._to_client: deque[_Held] = deque()
        self._server_out = bytearray()
        self._client_out = bytearray()

    @property
    def over(self) -> bool:
        return self.connection is None and self.pid is None

    def on_client_line(self, line: bytes | Overlong) -> None:
        """One line of the bridge."""
        raise NotImplementedError

    def on_server_line(self, line: bytes | Overlong) -> None:
        """One line of the server."""
        raise NotImplementedError

    def refuse(self, refused: wire.Refused) -> None:
        """Tell the host and the client that a line was not forwarded."""
        self.refusals.add(refused)
        text = f"refused by the policy proxy: {refused.reason}"
        request_id = refused.request_id
        if isinstance(request_id, str | int | float) and request_id in self.in_flight:
            request_id = None  # it would be read as the answer to the request that has the id
        self.answer(wire.error(refused.code, text, request_id))

    def check_ids(self, message: wire.Message) -> None:
        """Refused if an id would make it unclear what answers what."""
        if message.kind == "response":
            if message.id not in self.asked:
                raise wire.Refused("unexpected_response", wire.INVALID_REQUEST)
            self.asked.discard(message.id)
        elif message.id is not None and message.id in self.in_flight:
            raise wire.Refused("id_in_use", wire.INVALID_REQUEST, message.id, message.method)
        elif message.id is not None and len(self.in_flight) >= MAX_IN_FLIGHT:
            raise wire.Refused("too_many_in_flight", wire.INVALID_REQUEST, message.id, message.method)

    def forward(self, message: wire.Message, gate: int, tool_call_id: str | None = None) -> None:
        """Queue for the server, until `gate` lines are acknowledged by the host."""
        if message.id is not None and message.kind != "response":
            self.in_flight[message.id] = _Pending(message.method, tool_call_id)
        self._to_server.append(_Held(gate, message.line, message))

    def answer(self, line: bytes) -> None:
        """Queue for the bridge, until all that the host was told so far has left."""
        self._to_client.append(_Held(self.decisions.lines, line))

    def watch(self, watch: Callable[[int, int, Callable[[int], object]], None], *, calm: bool) -> None:
        """Register what this session waits for; `calm`: the host keeps up."""
        served = not self._started or self._stdout is not None
        waiting = len(self._server_out) + sum(len(held.line) for held in self._to_server)
        backed_up = len(self._client_out) + sum(len(held.line) for held in self._to_client) >= HIGH_WATER
        if self.connection is not None:
            read = calm and served and not (self._client_ended or backed_up) and waiting < HIGH_WATER
            events = (select.POLLIN if read else 0) | (select.POLLOUT if self._client_out else 0)
            if events or not self._client_deaf:  # a known hang-up would be reported for ever
                watch(self.connection.fileno(), events, self._on_client)
        if self._stdout is not None and calm and not backed_up:
            watch(self._stdout, select.POLLIN, lambda _: self._read_server())
        if self._stdin is not None and self._server_out:
            watch(self._stdin, select.POLLOUT, lambda _: self._write_server())

    def settle(self) -> None:
        """Let pass what may pass, and close what has ended."""
        while self._to_server and self._to_server[0].gate <= self.decisions.acknowledged:
            self._server_out += self._to_server.popleft().line
        while self._to_client and self._to_client[0].gate <= self.decisions.sent:
            self._client_out += self._to_client.popleft().line
        if self._server_out and not self._started:
            self._start()
        self._write_server()
        self._write_client()
        if self._client_ended and not self._to_server and not self._server_out:
            self._close_stdin()
        if self._client_ended and self._client_deaf:
            self._close_connection()
        flushed = not self._to_client and not self._client_out
        served = self._stdout is None if self._started else self._client_ended and not self._to_server
        if flushed and served:
            self._close_connection()
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.kill("server_did_not_end")

    def server_ended(self, *, killed: bool) -> None:
        """Called while the server is a zombie: all that it wrote is in the pipe already."""
        self.kill()
        while self._stdout is not None and self._read_server():
            pass
        self._close_stdin()
        self._close_stdout()
        self.pid = None
        self.deadline = None
        reason = self._killed_for if killed else ""
        if reason or self._cut_off or self._in_service():
            self.tell_end(reason or "server_exited")

    def _in_service(self) -> bool:
        """A server that ends because its client has gone is no news."""
        return not self._client_deaf and (not self._client_ended or bool(self.in_flight))

    def tell_end(self, reason: str) -> None:
        """Tell the host why the client has no server any more."""
        self.decisions.emit("assay.server.ended", connection=self.number, reason=reason)

    def kill(self, reason: str = "") -> None:
        """Kill the server's process group; the host is told the reason when it is dead."""
        self._killed_for = self._killed_for or reason
        self.deadline = None
        if self.pid is not None:
            self.server.kill(self.pid)

    def deny_held(self) -> None:
        """The host is gone: calls that wait for it are denied, as far as the bridge still listens."""
        for held in self._to_server:
            if held.message is not None and held.message.call is not None:
                text = "denied by the policy proxy: decisions are not recorded any more"
                self._client_out += wire.denial(held.message, "recorder_gone", text)
        self._write_client()

    def _start(self) -> None:
        self._started = True
        try:
            self.pid, self._stdin, self._stdout = self.server.start()
        except OSError as error:
            sys.stderr.write(f"assay-proxy: cannot start {self.server.argv[0]}: {error.strerror}\n")
            self.tell_end("server_not_started")

    def _on_client(self, events: int) -> None:
        if self.connection is None:
            return
        if events & (select.POLLHUP | select.POLLERR):
            self._client_deaf = True
        if events & select.POLLIN:
            self._read_client(self.connection)

    def _read_client(self, connection: socket) -> None:
        try:
            data = connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data, self._client_deaf = b"", True
        for line in self._client_lines.feed(data):
            self.on_client_line(line)
        if not data:
            self._client_ended = True
            if len(self._client_lines):
                self.refuse(wire.Refused("incomplete_line", wire.PARSE_ERROR))

    def _read_server(self) -> bool:
        """One read; False when there is nothing more for now."""
        if self._stdout is None:
            return False
        try:
            data = os.read(self._stdout, _CHUNK)
        except BlockingIOError:
            return False
        for line in self._server_lines.feed(data):
            self.on_server_line(line)
        if not data:
            self._close_stdout()
            self._close_stdin()
        return bool(data)

    def _write_server(self) -> None:
        try:
            while self._server_out and self._stdin is not None:
                del self._server_out[: os.write(self._stdin, self._server_out[:_CHUNK])]
        except BlockingIOError:
            pass
        except OSError:  # a server that reads no more can serve no more
            self._server_out.clear()
            self._close_stdin()
            self.kill("server_reads_no_more")

    def _write_client(self) -> None:
        try:
            while self._client_out and self.connection is not None and not self._client_deaf:
                del self._client_out[: self.connection.send(self._client_out[:_CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            self._client_deaf = True
        if self._client_deaf:
            self._client_out.clear()
            self._to_client.clear()

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def _close_stdout(self) -> None:
        if self._stdout is not None:
            os.close(self._stdout)
            self._stdout = None

    def _close_connection(self) -> None:
        if self.connection is not None:
            self._cut_off = self._started and self._in_service()
            self.refusals.flush()
            with suppress(OSError):
                self.connection.shutdown(SHUT_WR)
            self.connection.close()
            self.connection = None
            self._client_deaf = True
            self._close_stdin()
            if self.pid is not None:  # nobody hears its answers any more
                self.deadline = time.monotonic() + GRACE_S
