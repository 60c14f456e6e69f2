"""Runs drawn programs in the container: one raw system call an action, each program in a process of its own.

programs.json is a list of programs, a program a list of actions, an action a list: its name, then its
arguments. Whatever an action gives is ignored but for descriptors, which later actions use by place.
"""

import array
import ctypes
import json
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

AT_FDCWD = -100
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def call(number: int, *arguments: Any) -> int:
    """The system call, with strings as C strings; -1 where it failed."""
    given: list[Any] = []
    for argument in arguments:
        if isinstance(argument, str):
            given.append(ctypes.c_char_p(argument.encode("utf-8", "surrogateescape")))
        elif isinstance(argument, bytes):
            given.append(ctypes.c_char_p(argument))
        else:
            given.append(ctypes.c_long(argument))
    return int(libc.syscall(ctypes.c_long(number), *given))


class Program:
    """The state of one process: its descriptors, in the order in which it got them."""

    def __init__(self, descriptors: Sequence[int] = ()) -> None:
        self.descriptors = list(descriptors)

    def at(self, place: int) -> int:
        """A descriptor by place; the current folder where there is none."""
        return (
            self.descriptors[place % len(self.descriptors)] if place >= 0 and self.descriptors else AT_FDCWD
        )

    def keep(self, descriptor: int) -> None:
        if descriptor >= 0:
            self.descriptors.append(descriptor)

    def run(self, actions: Sequence[Any]) -> None:
        for name, *arguments in actions:
            getattr(self, name)(*arguments)

    def open(self, name: str, flags: int, mode: int) -> None:
        self.keep(call(2, name, flags, mode))

    def creat(self, name: str, mode: int) -> None:
        self.keep(call(85, name, mode))

    def openat(self, place: int, name: str, flags: int, mode: int) -> None:
        self.keep(call(257, self.at(place), name, flags, mode))

    def openat2(self, place: int, name: str, flags: int, mode: int) -> None:
        self.keep(
            call(437, self.at(place), name, struct.pack("QQQ", flags, mode if flags & 0o100 else 0, 0), 24)
        )

    def path1(self, number: int, name: str, *rest: int) -> None:
        call(number, name, *rest)

    def path2(self, number: int, old: str, new: str) -> None:
        call(number, old, new)

    def at1(self, number: int, place: int, name: str, *rest: int) -> None:
        call(number, self.at(place), name, *rest)

    def at2(self, number: int, place: int, old: str, place2: int, new: str, *flags: int) -> None:
        call(number, self.at(place), old, self.at(place2), new, *flags)

    def symlinkat(self, text: str, place: int, name: str) -> None:
        call(266, text, self.at(place), name)

    def descriptor(self, number: int, place: int, *rest: int) -> None:
        if self.at(place) >= 0:
            call(number, self.at(place), *rest)

    def chdir(self, name: str) -> None:
        call(80, name)
        self.here()

    def fchdir(self, place: int) -> None:
        if self.at(place) >= 0:
            call(81, self.at(place))
            self.here()

    def here(self) -> None:
        """Says to strace where this process is now, whatever links led there."""
        found = call(257, AT_FDCWD, ".", os.O_PATH, 0)
        if found >= 0:
            os.close(found)

    def fork(self, actions: Sequence[Any], code: int) -> None:
        child = os.fork()
        if not child:
            try:
                Program(self.descriptors).run(actions)
            finally:
                os._exit(code)
        os.waitpid(child, 0)

    def killed(self, actions: Sequence[Any]) -> None:
        child = os.fork()
        if not child:
            Program(self.descriptors).run(actions)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)

    def spawn(self, program: str, argv: list[str]) -> None:
        try:
            os.waitpid(os.posix_spawn(program, argv, {}), 0)
        except (OSError, ValueError):
            pass

    def threads(self, bodies: Sequence[Any]) -> None:
        made = [threading.Thread(target=Program(self.descriptors).run, args=(body,)) for body in bodies]
        for thread in made:
            thread.start()
        for thread in made:
            thread.join()

    def passed(self, place: int, actions: Sequence[Any]) -> None:
        """Another process gets one descriptor through a socket, and nothing else, and works with that."""
        if self.at(place) < 0:
            return
        ours, theirs = socket.socketpair()
        child = os.fork()
        if not child:
            try:
                os.close(ours.fileno())
                _, ancillary, _, _ = theirs.recvmsg(1, socket.CMSG_SPACE(4))
                got = array.array("i", ancillary[0][2][:4])
                Program([got[0]]).run(actions)
            finally:
                os._exit(0)
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [self.at(place)]))])
        os.waitpid(child, 0)
        ours.close()
        theirs.close()

    def unix(self, kind: int, action: str, name: str) -> None:
        made = socket.socket(socket.AF_UNIX, kind)
        address = name.encode("utf-8", "surrogateescape")
        try:
            if action == "bind":
                made.bind(address)
                self.keep(made.detach())
            elif action == "connect":
                made.connect(address)
            else:
                made.sendto(b"x", address)
        except OSError:
            pass
        made.close()

    def inet(self, family: int, action: str, host: str, port: int) -> None:
        made = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if action == "bind":
                made.bind((host, port))
            elif action == "connect":
                made.connect((host, port))
            else:
                made.sendto(b"x", (host, port))
        except OSError:
            pass
        made.close()


def main() -> None:
    programs = json.loads(Path("/workspace/programs.json").read_text(encoding="utf-8"))
    for number, actions in enumerate(programs):
        child = os.fork()
        if not child:
            try:
                call(83, f"/workspace/{number}", 0o755)
                Program().run([["chdir", f"/workspace/{number}"], *actions])
            except BaseException as error:  # noqa: BLE001 - told, and the parent stops
                print(type(error).__name__, error, file=sys.stderr)
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, f"program {number} ended with {status}"


main()
