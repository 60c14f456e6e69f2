"""The proxy's loop: bridges on one side, MCP servers on the other, the host's recorder watching.

Stdlib only, one thread, nothing blocks: every peer has its own buffers, and a peer that does not
read stops only those who write to it. A call reaches a server after the host has acknowledged its
decision; an answer reaches the agent after the host has been sent the record of it.
"""

import os
import select
import signal
import time
from _socket import socket  # the loop needs nothing of the larger `socket` module
from collections.abc import Callable
from contextlib import suppress

from harness.policy.decisions import DecisionChannel
from harness.policy.judge import JudgedSession, RunRules
from harness.policy.session import HIGH_WATER

MAX_SESSIONS = 32
DRAIN_S = 2.0  # for the host to take the last lines


class Relay:
    """All sessions of one run; `run` returns the exit code."""

    def __init__(self, listener: socket, decisions: DecisionChannel, rules: RunRules) -> None:
        self.listener = listener
        self.decisions = decisions
        self.rules = rules
        self.sessions: list[JudgedSession] = []
        self.accepted = 0
        self.stopped = False
        self.wakeup, self._wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Serve until the host hangs up or SIGTERM; leaves no server behind."""
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self.decisions.emit("assay.proxy.ready", policy_digest=self.rules.policy.digest)
        while True:
            self._wait()
            if self.stopped or self.decisions.gone:
                break
            self._reap()
            for session in self.sessions:
                session.settle()
            self.decisions.write()
            self.sessions = [session for session in self.sessions if not session.over]
        self._stop()
        return 0

    def _wait(self) -> None:
        poller = select.poll()
        handlers: dict[int, Callable[[int], object]] = {}

        def watch(fd: int, events: int, handler: Callable[[int], object]) -> None:
            poller.register(fd, events)
            handlers[fd] = handler

        watch(self.wakeup, select.POLLIN, lambda _: self._drain_wakeup())
        watch(self.listener.fileno(), select.POLLIN, lambda _: self._accept())
        watch(self.decisions.fileno(), self.decisions.wanted(), self.decisions.on_event)
        calm = self.decisions.backlog < HIGH_WATER
        for session in self.sessions:
            session.watch(watch, calm=calm)
        deadlines = [session.deadline for session in self.sessions if session.deadline is not None]
        timeout = max(0.0, min(deadlines) - time.monotonic()) * 1000 + 1 if deadlines else None
        for fd, events in poller.poll(timeout):
            handlers[fd](events)

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            # The only accept that `_socket` has.
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
            connection = socket(fileno=fd)
            self.accepted += 1
            if len(self.sessions) >= MAX_SESSIONS:
                self.rules.budget.limited(self.accepted, "too_many_connections")
                connection.close()
            else:
                self.sessions.append(JudgedSession(connection, self.decisions, self.rules, self.accepted))

    def _drain_wakeup(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self.wakeup, 4096):
                pass

    def _on_sigterm(self, _number: int, _frame: object) -> None:
        self.stopped = True

    def _reap(self) -> None:
        """Duty of a process 1: collect whoever ended; a server takes its process group along."""
        servers = {session.pid: session for session in self.sessions if session.pid is not None}
        with suppress(ChildProcessError):
            # Peek first: as long as the zombie is there, its group id cannot be taken by another.
            while info := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                session = servers.get(info.si_pid)
                if session is not None:
                    session.server_ended(killed=info.si_code == os.CLD_KILLED)
                os.waitpid(info.si_pid, 0)

    def _stop(self) -> None:
        for session in self.sessions:
            session.kill()
        for session in self.sessions:
            session.deny_held()
            if session.pid is not None:
                os.waitpid(session.pid, 0)
            session.refusals.flush()
        self.decisions.drain(DRAIN_S)
