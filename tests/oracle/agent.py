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

AT_FDCWD = -100
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def call(number, *arguments):
    """The system call, with strings as C strings; -1 where it failed."""
    given = []
    for argument in arguments:
        if isinstance(argument, str):
            given.append(ctypes.c_char_p(argument.encode("utf-8", "surrogateescape")))
        elif isinstance(argument, bytes):
            given.append(ctypes.c_char_p(argument))
        else:
            given.append(ctypes.c_long(argument))
    return libc.syscall(ctypes.c_long(number), *given)


class Program:
    """The state of one process: its descriptors, in the order in which it got them."""

    def __init__(self, descriptors=()):
        self.descriptors = list(descriptors)

    def at(self, place):
        """A descriptor by place; the current folder where there is none."""
        return self.descriptors[place % len(self.descriptors)] if place >= 0 and self.descriptors else AT_FDCWD

    def keep(self, descriptor):
        if descriptor >= 0:
            self.descriptors.append(descriptor)

    def run(self, actions):
        for name, *arguments in actions:
            getattr(self, name)(*arguments)

    def open(self, name, flags, mode):
        self.keep(call(2, name, flags, mode))

    def creat(self, name, mode):
        self.keep(call(85, name, mode))

    def openat(self, place, name, flags, mode):
        self.keep(call(257, self.at(place), name, flags, mode))

    def openat2(self, place, name, flags, mode):
        self.keep(call(437, self.at(place), name, struct.pack("QQQ", flags, mode if flags & 0o100 else 0, 0), 24))

    def path1(self, number, name, *rest):
        call(number, name, *rest)

    def path2(self, number, old, new):
        call(number, old, new)

    def at1(self, number, place, name, *rest):
        call(number, self.at(place), name, *rest)

    def at2(self, number, place, old, place2, new, *flags):
        call(number, self.at(place), old, self.at(place2), new, *flags)

    def symlinkat(self, text, place, name):
        call(266, text, self.at(place), name)

    def descriptor(self, number, place, *rest):
        if self.at(place) >= 0:
            call(number, self.at(place), *rest)

    def chdir(self, name):
        call(80, name)
        self.here()

    def fchdir(self, place):
        if self.at(place) >= 0:
            call(81, self.at(place))
            self.here()

    def here(self):
        """Says to strace where this process is now, whatever links led there."""
        found = call(257, AT_FDCWD, ".", os.O_PATH, 0)
        if found >= 0:
            os.close(found)

    def fork(self, actions, code):
        child = os.fork()
        if not child:
            try:
                Program(self.descriptors).run(actions)
            finally:
                os._exit(code)
        os.waitpid(child, 0)

    def killed(self, actions):
        child = os.fork()
        if not child:
            Program(self.descriptors).run(actions)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)

    def spawn(self, program, argv):
        try:
            os.waitpid(os.posix_spawn(program, argv, {}), 0)
        except (OSError, ValueError):
            pass

    def threads(self, bodies):
        made = [threading.Thread(target=Program(self.descriptors).run, args=(body,)) for body in bodies]
        for thread in made:
            thread.start()
        for thread in made:
            thread.join()

    def passed(self, place, actions):
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

    def unix(self, kind, action, name):
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

    def inet(self, family, action, host, port):
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


def main():
    with open("/workspace/programs.json", encoding="utf-8") as file:
        programs = json.load(file)
    for number, actions in enumerate(programs):
        child = os.fork()
        if not child:
            try:
                call(83, f"/workspace/{number}", 0o755)
                Program().run([["chdir", f"/workspace/{number}"], *actions])
            except BaseException as error:
                print(type(error).__name__, error, file=sys.stderr)
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, f"program {number} ended with {status}"


main()
