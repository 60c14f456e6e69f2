"""The host's end of the policy and SDK channels: what was said, and when it arrived.

Every channel is a unix stream socket file that carries lines. One thread stamps each line with
CLOCK_MONOTONIC when it arrives: what has been sent cannot be taken back or changed by the sender.
"""

import contextlib
import json
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from attrs import frozen

from harness.contracts.bounds import MAX_CHANNEL_BYTES, MAX_CHANNEL_LINES, MAX_LINE_BYTES
from harness.evidence.model import ChannelLog, StampedLine

_CHUNK = 1 << 16


@frozen
class Channel:
    """One socket file to listen on.

    acknowledge  answer every recorded line with one byte (the proxy waits for it).
    exclusive    exactly one connection, which has to last until `hang_up`; the socket file is gone once
                 it has come, and is the owner's alone before.
    hand_over    descriptors that the first connection gets with one byte, before anything else (SCM_RIGHTS,
                 unix(7)); they are the recorder's to close, so that nobody but the peer has them then.
    max_line     bytes without the newline;  max_bytes, max_lines  of all lines together.
    max_peers    connections at a time: the descriptors of this process are not the sender's to use up.
    """

    name: str
    path: Path
    acknowledge: bool = False
    exclusive: bool = False
    hand_over: tuple[int, ...] = ()
    max_line: int = MAX_LINE_BYTES
    max_bytes: int = MAX_CHANNEL_BYTES
    max_lines: int = MAX_CHANNEL_LINES
    max_peers: int = 64


class Recorder:
    """Listens from construction until `close`; OSError if a socket file cannot be made.

    Error codes of a channel, each told once: line_too_long, too_many_bytes, too_many_lines,
    too_many_connections, incomplete_last_line, second_connection_refused, closed_early, recorder_failed.
    The first four also end the connection they came from, so that nobody goes on unrecorded. After
    too_many_bytes and too_many_lines `flooded` is called, on the recorder's thread.
    """

    def __init__(self, channels: Iterable[Channel], flooded: Callable[[], object] = lambda: None) -> None:
        self._flooded = flooded
        self._changed = threading.Condition()  # guards all state below
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._tapes: dict[str, _Tape] = {}
        self._closing = False
        try:
            for channel in channels:
                self._tapes[channel.name] = _Tape(channel, self._selector)
        except BaseException:
            self._release()
            raise
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_for(self, name: str, event_type: str, timeout: float) -> StampedLine | None:
        """The first line on a channel whose JSON `type` is this.

        None after `timeout` seconds, or as soon as an exclusive channel's connection has ended.
        """
        tape, seen = self._tapes[name], 0
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in tape.lines[seen:]:
                    if type_of(line.data) == event_type:
                        return line
                seen = len(tape.lines)
                left = end - time.monotonic()
                if left <= 0 or self._closing or tape.finished:
                    return None
                self._changed.wait(left)

    def hang_up(self, name: str) -> None:
        """Say to the peers that it is over: they see the end of the stream (the proxy's stop signal).

        What they still send is recorded until they close, or until `close`.
        """
        with self._changed:
            self._tapes[name].hang_up()

    def close(self) -> dict[str, ChannelLog]:
        """Record what has arrived, end everything, remove the socket files. May be called again."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            self._waker.send(b"x")
        self._thread.join()
        return {name: tape.log() for name, tape in self._tapes.items()}

    def _run(self) -> None:
        try:
            while not self._closing:
                ready = self._selector.select()
                with self._changed:
                    for key, events in ready:
                        if isinstance(key.data, _Tape):
                            key.data.accept()
                        elif isinstance(key.data, _Peer):
                            key.data.tape.serve(key.data, events)
                    self._changed.notify_all()
                if any(tape.flooded for tape in self._tapes.values()):
                    self._flooded()
                    self._flooded = lambda: None
        except Exception:
            # Fail closed: without a recorder the proxy denies everything, and the log says why.
            for tape in self._tapes.values():
                tape.fail("recorder_failed")
            raise
        finally:
            with self._changed:
                self._closing = True
                try:
                    for tape in self._tapes.values():
                        tape.drain()
                finally:
                    self._release()
                    self._changed.notify_all()

    def _release(self) -> None:
        for tape in self._tapes.values():
            tape.release()
        self._selector.close()
        self._wake.close()
        self._waker.close()


class _Peer:
    """One connection: the start of a line that is not complete, and acknowledgements not yet taken."""

    def __init__(self, tape: "_Tape", connection: socket.socket) -> None:
        self.tape = tape
        self.connection = connection
        self.rest = bytearray()
        self.owed = 0


class _Tape:
    """State of one channel."""

    def __init__(self, channel: Channel, selector: selectors.BaseSelector) -> None:
        self.channel = channel
        self.lines: list[StampedLine] = []
        self.errors: list[str] = []
        self.finished = False
        self.flooded = False
        self._selector = selector
        self._peers: list[_Peer] = []
        self._connections = 0
        self._bytes = 0
        self._hung_up = False
        self._hand_over = list(channel.hand_over)
        self._listener = listening(channel.path, mode=0o600 if channel.exclusive else 0o666)
        selector.register(self._listener, selectors.EVENT_READ, self)

    def accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = self._listener.accept()
            if self.channel.exclusive and self._connections:
                self.fail("second_connection_refused")
                connection.close()
                return
            if len(self._peers) >= self.channel.max_peers:
                self.fail("too_many_connections")
                connection.close()
                return
            connection.setblocking(False)
            self._connections += 1
            if self.channel.exclusive:
                self.channel.path.unlink(missing_ok=True)
            self._give(connection)
            peer = _Peer(self, connection)
            self._peers.append(peer)
            self._selector.register(connection, selectors.EVENT_READ, peer)
            if self._hung_up:
                connection.shutdown(socket.SHUT_WR)

    def _give(self, connection: socket.socket) -> None:
        if self._hand_over:
            with contextlib.suppress(OSError):  # it has gone already, which will be read
                socket.send_fds(connection, [b"\0"], self._hand_over)
            self._close_kept()

    def _close_kept(self) -> None:
        while self._hand_over:
            os.close(self._hand_over.pop())

    def fail(self, code: str) -> None:
        """Note what went wrong, once."""
        if code not in self.errors:
            self.errors.append(code)

    def serve(self, peer: _Peer, events: int) -> None:
        if peer not in self._peers:
            return
        if events & selectors.EVENT_READ:
            self._read(peer)
        if peer in self._peers:
            self._acknowledge(peer)

    def hang_up(self) -> None:
        self._hung_up = True
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.connection.shutdown(socket.SHUT_WR)

    def drain(self) -> None:
        """Take what is in the sockets already, and who is still in the queue."""
        before = -1
        while before != self._connections:
            before = self._connections
            self.accept()
        for peer in list(self._peers):
            while peer in self._peers and self._read(peer):
                pass
            if peer in self._peers:
                self._end(peer, early=False)

    def release(self) -> None:
        for peer in self._peers:
            peer.connection.close()
        self._peers.clear()
        self._close_kept()
        self._listener.close()
        self.channel.path.unlink(missing_ok=True)

    def log(self) -> ChannelLog:
        return ChannelLog(lines=tuple(self.lines), connections=self._connections, errors=tuple(self.errors))

    def _read(self, peer: _Peer) -> bool:
        """One read; False when there is nothing more for now."""
        try:
            data = peer.connection.recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        now = time.monotonic_ns()
        if not data:
            self._end(peer, early=not self._hung_up)
            return False
        *complete, last = data.split(b"\n")
        for part in complete:
            if not self._take(peer, part, whole=True):
                return False
            self.lines.append(StampedLine(now, bytes(peer.rest)))
            self._bytes += len(peer.rest) + 1
            peer.rest.clear()
            peer.owed += self.channel.acknowledge
        return self._take(peer, last, whole=False)

    def _take(self, peer: _Peer, part: bytes, *, whole: bool) -> bool:
        peer.rest += part
        if len(peer.rest) > self.channel.max_line:
            self.fail("line_too_long")
        elif self._bytes + len(peer.rest) > self.channel.max_bytes:
            self._flood("too_many_bytes")
        elif whole and len(self.lines) >= self.channel.max_lines:
            self._flood("too_many_lines")
        else:
            return True
        peer.rest.clear()
        self._end(peer, early=False)
        return False

    def _flood(self, code: str) -> None:
        self.fail(code)
        self.flooded = True

    def _acknowledge(self, peer: _Peer) -> None:
        if self._hung_up:
            peer.owed = 0
        try:
            while peer.owed:
                peer.owed -= peer.connection.send(b"\n" * min(peer.owed, _CHUNK))
        except BlockingIOError:
            pass
        except OSError:
            peer.owed = 0  # its end will be read
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.owed else 0)
        self._selector.modify(peer.connection, events, peer)

    def _end(self, peer: _Peer, *, early: bool) -> None:
        if peer.rest:
            self.fail("incomplete_last_line")
        if self.channel.exclusive:
            self.finished = True
            if early:
                self.fail("closed_early")
        self._peers.remove(peer)
        self._selector.unregister(peer.connection)
        peer.connection.close()


def listening(path: Path, *, mode: int) -> socket.socket:
    """A listening stream socket file of this mode, which does not block; OSError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.bind(os.fspath(path))
        path.chmod(mode)
        listener.listen(64)
    except BaseException:
        listener.close()
        raise
    return listener


def type_of(data: bytes) -> object:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return event.get("type") if isinstance(event, dict) else None
