"""Streamable HTTP in front of MCP servers on stdio: the conformance suite speaks HTTP only.

One process of `command` a session. A POST with a request is answered by a stream of events: what the server
says until its answer goes to the request that was sent last. Calls get a tool call id, as agents' shims give.
"""

import json
import queue
import subprocess
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "dev.assay.runner/tool_call_id"
SESSION = "Mcp-Session-Id"
LOCAL = ("localhost", "127.0.0.1", "[::1]")
Message = dict[str, Any]


class Session:
    """One server process, and the streams that wait for its answers."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._streams: dict[object, queue.Queue[Message | None]] = {}
        self._calls = 0
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, message: Message) -> None:
        with self._lock:
            if message.get("method") == "tools/call":
                self._calls += 1
                message["params"].setdefault("_meta", {})[KEY] = f"tc_{self._calls}"
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def ask(self, message: Message) -> Iterator[Message]:
        """What the server says until it has answered, the answer last."""
        waiting: queue.Queue[Message | None] = queue.Queue()
        self._streams[message["id"]] = waiting
        self.send(message)
        while (said := waiting.get(timeout=30)) is not None:
            yield said
            if "method" not in said:
                return

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "method" in said:
                if streams := list(self._streams.values()):
                    streams[-1].put(said)
            elif (waiting := self._streams.pop(said.get("id"), None)) is not None:
                waiting.put(said)
        for waiting in self._streams.values():
            waiting.put(None)


class Adapter(ThreadingHTTPServer):
    """Serves `command` at `url` from construction until `end`."""

    daemon_threads = True

    def __init__(self, command: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.command = command
        self.sessions: dict[str, Session] = {}
        self.url = f"http://localhost:{self.server_address[1]}/mcp"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is no error of the adapter's: the suite tells what failed."""

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        for session in self.sessions.values():
            session.close()


class _Handler(BaseHTTPRequestHandler):
    server: Adapter
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        host = self.headers.get("Host", "").rpartition(":")[0]
        origin = self.headers.get("Origin", "http://localhost").split("//")[-1].rsplit(":", 1)[0]
        if host not in LOCAL or origin not in LOCAL:
            return self._empty(403)
        message = json.loads(body)
        name = self.headers.get(SESSION, "")
        if message.get("method") == "initialize":
            name = uuid.uuid4().hex
            self.server.sessions[name] = Session(self.server.command)
        session = self.server.sessions.get(name)
        if session is None:
            return self._empty(404)
        if "method" in message and "id" in message:
            return self._stream(name, session.ask(message))
        session.send(message)
        return self._empty(202)

    def do_GET(self) -> None:
        self._empty(405)

    def do_DELETE(self) -> None:
        session = self.server.sessions.pop(self.headers.get(SESSION, ""), None)
        if session is not None:
            session.close()
        self._empty(200)

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _empty(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _stream(self, name: str, messages: Iterator[Message]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header(SESSION, name)
        self.send_header("Connection", "close")
        self.end_headers()
        for message in messages:
            self.wfile.write(b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n")
            self.wfile.flush()
        self.close_connection = True
