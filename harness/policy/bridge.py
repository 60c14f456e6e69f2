"""The bridge: stands where the agent's MCP client expects a server, and connects it to the proxy.

    python3.11 -I -S -B bridge.py SOCKET

Copies stdin to the socket and the socket to stdout, judges nothing. Ends with 0 when the proxy or
the agent is done, 1 if the proxy cannot be reached, 2 for bad arguments.
"""

import os
import select
import sys
import time
from _socket import AF_UNIX, SHUT_WR, SOCK_STREAM, socket  # `socket` costs several times as much to load

CONNECT_S = 5.0
RETRY_S = 0.01
CHUNK = 65536


def connect(path: str) -> socket:
    """Wait for the proxy's socket, at most CONNECT_S seconds; then OSError."""
    end = time.monotonic() + CONNECT_S
    while True:
        connection = socket(AF_UNIX, SOCK_STREAM)
        try:
            connection.connect(path)
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if time.monotonic() >= end:
                raise
        time.sleep(RETRY_S)


class Copier:
    """Both directions at once, each with a chunk of its own, so that neither can block the other."""

    def __init__(self, connection: socket) -> None:
        self.connection = connection
        self.to_proxy = self.to_agent = b""
        self.reading_agent = self.reading_proxy = True

    def run(self) -> None:
        """Until the proxy has said all, or the agent hears nothing any more."""
        end = self.connection.fileno()
        for fd in (0, 1, end):
            os.set_blocking(fd, False)
        while self.reading_proxy or self.to_agent:
            poller = select.poll()
            if self.reading_agent and not self.to_proxy:
                poller.register(0, select.POLLIN)
            events = select.POLLOUT if self.to_proxy else 0
            if self.reading_proxy and not self.to_agent:
                events |= select.POLLIN
            if events:
                poller.register(end, events)
            # Also without data: a reader that has gone is reported.
            poller.register(1, select.POLLOUT if self.to_agent else 0)
            ready = dict(poller.poll())
            if 1 in ready and not self.to_agent:
                return
            try:
                if 1 in ready:
                    self.to_agent = self.to_agent[os.write(1, self.to_agent) :]
            except BlockingIOError:
                pass
            except OSError:
                return
            if 0 in ready:
                self._read_agent()
            if end in ready:
                self._talk(ready[end] & ~select.POLLOUT)

    def _read_agent(self) -> None:
        try:
            self.to_proxy = os.read(0, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.to_proxy = b""
        if not self.to_proxy:
            self.reading_agent = False
            try:
                self.connection.shutdown(SHUT_WR)
            except OSError:
                pass  # the proxy has closed already

    def _talk(self, readable: int) -> None:
        try:
            if self.to_proxy:
                self.to_proxy = self.to_proxy[self.connection.send(self.to_proxy) :]
        except BlockingIOError:
            pass
        except OSError:  # the proxy reads no more, but may have answers left
            self.to_proxy, self.reading_agent = b"", False
        if readable and self.reading_proxy and not self.to_agent:
            try:
                self.to_agent = self.connection.recv(CHUNK)
                self.reading_proxy = bool(self.to_agent)
            except BlockingIOError:
                pass
            except OSError:
                self.reading_proxy = False


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        sys.stderr.write("usage: bridge.py SOCKET\n")
        return 2
    try:
        connection = connect(argv[0])
    except OSError as error:
        sys.stderr.write(f"assay-bridge: no policy proxy at {argv[0]}: {error.strerror or error}\n")
        return 1
    Copier(connection).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
