"""A second witness of the same execution: strace on the engine's containerd, which all containers come from.

One file per thread (-ff), named by its number on the host, so nothing is interleaved. `-y` gives the
kernel's own path of every descriptor, `--pidns-translation` the host's number of every new thread.
"""

import errno
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from attrs import field, frozen

_FILES = (
    "open,openat,openat2,creat,execve,execveat,unlink,unlinkat,rmdir,rename,renameat,renameat2,"
    "mkdir,mkdirat,link,linkat,symlink,symlinkat"
)
_NEW_THREADS = frozenset({"clone", "clone3", "fork", "vfork"})
_ATTACH_TIMEOUT_S = 60.0

_QUOTED = rb'"(?P<text>(?:[^"\\]|\\.)*)"(?P<cut>\.\.\.)?'
_DESCRIPTOR = rb"(?:AT_FDCWD|\d+)<(?P<path>(?:[^<>\\]|\\.)*)>(?:\(deleted\))?"
_TOKEN = re.compile(
    _QUOTED + rb"|" + _DESCRIPTOR + rb"|(?P<open>[(\[{])|(?P<close>[)\]}])|[^\"(){}\[\]]", re.DOTALL
)
_RESULT = re.compile(
    rb"\s*= (?P<value>-?\d+|\?)(?:<(?P<path>(?:[^<>\\]|\\.)*)>(?P<gone>\(deleted\))?)?"
    rb"(?: /\* (?P<host>\d+) in strace's PID NS \*/)?(?: (?P<error>E[A-Z0-9_]+)\b.*)?$"
)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f"}
# include/linux/errno.h: never seen by the program, so errno(3) has no names for them
_RESTARTS = {"ERESTARTSYS": 512, "ERESTARTNOINTR": 513, "ERESTARTNOHAND": 514, "ERESTART_RESTARTBLOCK": 516}


@frozen
class Call:
    """One system call that returned.

    texts    its quoted arguments in order;  bases  paths of its descriptor arguments in order
    result   as the kernel returned it (-errno)
    path     of the returned descriptor;  deleted  that file has no name any more
    thread   number on the host of the thread that it made
    """

    name: str
    texts: tuple[bytes, ...]
    bases: tuple[bytes, ...]
    result: int
    path: bytes | None = None
    deleted: bool = False
    thread: int | None = field(default=None, eq=False)


@contextmanager
def traced(pid: int, folder: Path, calls: Iterable[str] = ()) -> Iterator[None]:
    """Trace a process, its threads and all that they start until the end of the block.

    `calls`: these instead of the usual ones, and with numbers for flags, as tests.oracle reads them.
    """
    wanted = f"trace={','.join(calls) or _FILES},{','.join(sorted(_NEW_THREADS))}"
    options = ["-ff", "-q", "-y", "--pidns-translation", "-s", "4096", "-e", wanted]
    options += ["-X", "raw"] if calls else ["-e", "signal=none"]  # else no word of who was killed
    with (folder / "messages").open("wb") as messages:
        strace = subprocess.Popen(
            ["strace", *options, "-o", folder / "t", "-p", str(pid)], stdout=messages, stderr=messages
        )
    try:
        deadline = time.monotonic() + _ATTACH_TIMEOUT_S
        while not _attached(pid, strace.pid):
            if strace.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"strace did not attach: {(folder / 'messages').read_text()}")
            time.sleep(0.01)
        yield
    finally:
        strace.terminate()  # it lets go of what it traces
        strace.wait(60)


def calls_of(folder: Path) -> dict[int, list[Call]]:
    """All calls in order, by host thread."""
    return {int(path.name[2:]): list(parse(path.read_bytes().splitlines())) for path in folder.glob("t.*")}


def parse(lines: Iterable[bytes]) -> Iterator[Call]:
    """The calls of one thread; one that never returned (its thread was killed in it) is none."""
    begun: dict[bytes, bytes] = {}
    for line in lines:
        if line.startswith((b"+++", b"---", b"???")):
            continue
        if line.endswith(b"<unfinished ...>"):
            begun[line.partition(b"(")[0]] = line.removesuffix(b"<unfinished ...>").rstrip()
            continue
        resumed = re.match(rb"<\.\.\. (\w+) resumed>\s?", line)
        whole = begun.pop(resumed[1]) + line[resumed.end() :] if resumed else line
        if not whole.endswith(b" = ?"):
            yield _call(whole)


def unescaped(text: bytes) -> bytes:
    """The bytes that strace wrote as a C string."""

    def one(found: re.Match[bytes]) -> bytes:
        code = found[1]
        return bytes([int(code, 8)]) if code[:1].isdigit() else _ESCAPED.get(code, code)

    return _ESCAPE.sub(one, text)


def below(threads: Mapping[int, list[Call]], command: tuple[str, ...]) -> dict[int, list[Call]]:
    """From the one execution of `command` on: that thread's calls, and those of all threads it led to."""
    wanted = tuple(argument.encode() for argument in command)
    found = [
        (thread, at)
        for thread, calls in threads.items()
        for at, call in enumerate(calls)
        if call.name == "execve" and call.result == 0 and call.texts[1:] == wanted
    ]
    assert len(found) == 1, f"{command[0]} was executed {len(found)} times"
    ((root, boundary),) = found
    inside = {root: threads[root][boundary:]}
    left = [root]
    while left:
        for call in inside[left.pop()]:
            if call.name in _NEW_THREADS and call.result > 0:
                made = call.thread or call.result
                inside[made] = threads[made]
                left.append(made)
    return {
        thread: [call for call in calls if call.name not in _NEW_THREADS] for thread, calls in inside.items()
    }


def _call(line: bytes) -> Call:
    name, _, _ = line.partition(b"(")
    texts, bases, depth, at = [], [], 0, len(name)
    while at < len(line):
        token = _TOKEN.match(line, at)
        assert token, line
        assert not token["cut"], line
        at = token.end()
        depth += (token["open"] is not None) - (token["close"] is not None)
        if token["text"] is not None:
            texts.append(unescaped(token["text"]))
        elif token["path"] is not None:
            bases.append(unescaped(token["path"]))
        if not depth:
            break
    result = _RESULT.match(line, at)
    assert result, line
    return Call(
        name.decode(),
        tuple(texts),
        tuple(bases),
        _value(result),
        None if result["path"] is None else unescaped(result["path"]),
        result["gone"] is not None,
        int(result["host"]) if result["host"] else None,
    )


def _value(result: re.Match[bytes]) -> int:
    if not result["error"]:
        return int(result["value"])
    name = result["error"].decode()
    return -(_RESTARTS[name] if name in _RESTARTS else int(getattr(errno, name)))


def _attached(pid: int, tracer: int) -> bool:
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            status = (task / "status").read_text()
        except OSError:
            continue  # the thread has ended
        if f"\nTracerPid:\t{tracer}\n" not in status:
            return False
    return True
