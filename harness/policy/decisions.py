"""The proxy's end of the decision channel: CloudEvents lines out, one byte of acknowledgement back.

Stdlib only, shipped beside the proxy. Event shape: contracts §5.1.
"""

import select
import time
from _socket import socket
from collections import deque

from harness.policy import wire

MAX_LINE = 1 << 20  # what the host's recorder takes


class DecisionChannel:
    """Never blocks. `gone` as soon as the host cannot be told any more, or breaks the protocol."""

    def __init__(self, connection: socket, source: str) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._source = source
        self._out = bytearray()
        self._written = 0  # bytes since the start
        self._ends: deque[int] = deque()  # where each line that is not wholly written ends
        self.lines = 0  # emitted so far
        self.acknowledged = 0
        self.gone = False
        self._broken = False

    @property
    def sent(self) -> int:
        """Lines that have left this process."""
        return self.lines - len(self._ends)

    @property
    def backlog(self) -> int:
        """Bytes that have not."""
        return len(self._out)

    def emit(self, kind: str, **data: object) -> None:
        """Queue one event and send what can be sent; OverflowError if its line would be too long."""
        now = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        event = {
            "specversion": "1.0",
            "id": f"evt_{self.lines + 1:06d}",  # unique within the source, which names the run
            "type": kind,
            "source": self._source,
            "time": f"{stamp}.{now % 10**9 // 1000:06d}Z",
            "data": {**data, "monotonic_ns": time.monotonic_ns()},
        }
        line = wire.encode(event)
        if len(line) > MAX_LINE:
            raise OverflowError(kind)
        self.lines += 1
        self._out += line
        self._ends.append(self._written + len(self._out))
        self.write()

    def write(self) -> None:
        """Send as much as the host takes."""
        try:
            while self._out and not self._broken:
                count = self._connection.send(self._out[:65536])
                del self._out[:count]
                self._written += count
        except BlockingIOError:
            pass
        except OSError:
            self.gone = self._broken = True
        while self._ends and self._ends[0] <= self._written:
            self._ends.popleft()

    def drain(self, seconds: float) -> None:
        """Send what is left, also to a host that has hung up: it reads until we close."""
        end = time.monotonic() + seconds
        self.write()
        while self._out and not self._broken and (left := end - time.monotonic()) > 0:
            poller = select.poll()
            poller.register(self._connection, select.POLLOUT)
            poller.poll(left * 1000)
            self.write()

    def fileno(self) -> int:
        return self._connection.fileno()

    def wanted(self) -> int:
        """Poll events of interest."""
        return select.POLLIN | (select.POLLOUT if self._out else 0)

    def on_event(self, _events: int) -> None:
        """Read acknowledgements; the end of the stream is the host's order to stop."""
        self.write()
        try:
            data = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        # More acknowledgements than lines would open the gate for calls to come.
        if not data or self.acknowledged + len(data) > self.sent or data.strip(b"\n"):
            self.gone = True
        else:
            self.acknowledged += len(data)
