"""Starts MCP servers, as another user than the proxy where one is named.

Stdlib only, shipped beside the proxy. The tools container starts as root with CAP_SETUID, CAP_SETGID
and CAP_KILL and nothing else. `step_down` makes the proxy an unprivileged user before it reads a byte
of anybody; root stays behind as its saved user id, which gives the three back where a server is forked
or killed (capabilities(7), "Effect of user ID changes on capabilities"). A server has one id, three
times, and no capability: it may neither trace, read, limit nor signal the proxy (ptrace(2), "Ptrace
access mode checking"; kill(2)). The change of ids also makes the proxy undumpable, so that its /proc
entries are root's.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

ROOT = 0


class Users(NamedTuple):
    """User ids, which are the group ids as well; not root."""

    proxy: int
    server: int

    @classmethod
    def parse(cls, text: str) -> "Users":
        """`PROXY:SERVER`; ValueError unless these are two different ids other than root's."""
        proxy, server = (int(part) for part in text.split(":"))
        if proxy == server or min(proxy, server) <= ROOT:
            raise ValueError(text)
        return cls(proxy, server)

    def step_down(self) -> None:
        """Become the proxy's user; PermissionError without the capabilities."""
        os.setgroups([])
        os.setresgid(self.proxy, self.proxy, self.proxy)
        os.setresuid(self.proxy, self.proxy, ROOT)

    @contextmanager
    def privileged(self) -> Iterator[None]:
        """With the capabilities, for one call."""
        os.seteuid(ROOT)
        try:
            yield
        finally:
            os.seteuid(self.proxy)

    def become_server(self) -> None:
        """For a forked child that is privileged: nothing of it is left afterwards."""
        os.setgroups([])
        os.setresgid(self.server, self.server, self.server)
        os.setresuid(self.server, self.server, self.server)


class Server:
    """An MCP server's command; `users` is None where the proxy has one user for everything."""

    def __init__(self, argv: list[str], users: Users | None = None) -> None:
        self.argv = argv
        self.users = users

    def start(self) -> tuple[int, int, int]:
        """(pid, its standard input, its standard output), in a process group of its own; OSError."""
        if self.users is None:
            return self._start()
        with self.users.privileged():
            return self._start()

    def kill(self, pid: int) -> None:
        """Kill its process group; no error if that is gone."""
        with suppress(ProcessLookupError):
            if self.users is None:
                os.killpg(pid, signal.SIGKILL)
            else:
                with self.users.privileged():
                    os.killpg(pid, signal.SIGKILL)

    def _start(self) -> tuple[int, int, int]:
        child_in, stdin = self._pipe()
        stdout, child_out = self._pipe()
        failed, failure = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            self._become(child_in, child_out, failure)
        for descriptor in (child_in, child_out, failure):
            os.close(descriptor)
        said = os.read(failed, 16)  # nothing once it has executed
        os.close(failed)
        if said:
            os.close(stdin)
            os.close(stdout)
            os.waitpid(pid, 0)
            raise OSError(int(said), os.strerror(int(said)))
        os.set_blocking(stdin, False)
        os.set_blocking(stdout, False)
        return pid, stdin, stdout

    def _pipe(self) -> tuple[int, int]:
        """The server's own, so that it may open it by name (/dev/stdin) as well."""
        if self.users is None:
            return os.pipe2(os.O_CLOEXEC)
        os.seteuid(self.users.server)
        try:
            return os.pipe2(os.O_CLOEXEC)
        finally:
            os.seteuid(ROOT)

    def _become(self, child_in: int, child_out: int, failure: int) -> None:
        """The child: never returns."""
        try:
            os.setpgid(0, 0)
            # Python ignores these two, and an executed program would inherit that.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            os.dup2(child_in, 0)
            os.dup2(child_out, 1)
            if self.users is not None:
                self.users.become_server()
            os.execvp(self.argv[0], self.argv)
        except OSError as error:
            os.write(failure, b"%d" % (error.errno or 1))
        finally:
            os._exit(127)
