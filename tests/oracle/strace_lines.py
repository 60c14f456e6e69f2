"""What strace writes with `-X raw -y`, as values: one call a line, arguments as Python objects.

bytes  a string;  int  a number, or the descriptor of a `Descriptor`;  dict  a struct;  list  an array;
None   something that says no value (an address, a comment, a cut string)
"""

import errno
import re
import signal
from typing import Any

from attrs import field, frozen

_NUMBER = re.compile(rb"-?(?:0x[0-9a-fA-F]+|\d+)")
_WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(rb"([a-z_]+)=")
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"(\.\.\.)?', re.DOTALL)
_PATH = re.compile(rb"<((?:[^<>\\]|\\.)*)>(\(deleted\))?", re.DOTALL)
_TRANSLATED = re.compile(rb"\s*/\* (\d+) in strace's PID NS \*/")
_COMMENT = re.compile(rb"/\*.*?\*/")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f"}
_ERROR = re.compile(rb"(E[A-Z0-9_]+)\b")
# include/linux/errno.h: never seen by the program, so errno(3) has no names for them
_RESTARTS = {"ERESTARTSYS": 512, "ERESTARTNOINTR": 513, "ERESTARTNOHAND": 514, "ERESTART_RESTARTBLOCK": 516}

CLONES = frozenset({"clone", "clone3", "fork", "vfork"})


@frozen
class Descriptor:
    """A descriptor and the kernel's path of its file; `deleted`: that file has no name any more."""

    number: int
    path: bytes
    deleted: bool = False


@frozen
class Line:
    """One call that returned. `result` is the kernel's (-errno); `opened` is the file of a new descriptor."""

    name: str
    arguments: tuple[Any, ...]
    result: int
    opened: Descriptor | None = None
    thread: int | None = None  # of a clone: the new thread's number on the host
    named: dict[str, Any] = field(factory=dict)  # arguments that strace writes with their names


@frozen
class Thread:
    """All calls of a thread in order; `status` as wait(2) would give it, None if it was not seen to end."""

    lines: tuple[Line, ...]
    status: int | None


def read_thread(data: bytes) -> Thread:
    """One file of `strace -ff`; a call that never returned is none."""
    lines: list[Line] = []
    begun: dict[bytes, bytes] = {}
    status: int | None = None
    for line in data.splitlines():
        if line.startswith(b"+++"):
            status = _status(line)
        elif line.startswith((b"---", b"???")):
            continue
        elif line.endswith(b"<unfinished ...>"):
            begun[line.partition(b"(")[0]] = line.removesuffix(b"<unfinished ...>").rstrip()
        else:
            resumed = re.match(rb"<\.\.\. (\w+) resumed>\s?", line)
            whole = begun.pop(resumed[1]) + line[resumed.end() :] if resumed else line
            if not whole.endswith(b" = ?"):
                lines.append(_Reader(whole).line())
    return Thread(tuple(lines), status)


def threads_below(threads: dict[int, Thread], command: tuple[str, ...]) -> dict[int, Thread]:
    """The thread that executed `command`, from there on, and all threads that it led to."""
    wanted = [argument.encode() for argument in command]
    starts = [
        (number, at)
        for number, thread in threads.items()
        for at, line in enumerate(thread.lines)
        if line.name == "execve" and line.result == 0 and line.arguments[1] == wanted
    ]
    assert len(starts) == 1, f"{command} was executed {len(starts)} times"
    ((root, at),) = starts
    found = {root: Thread(threads[root].lines[at:], threads[root].status)}
    left = [root]
    while left:
        for line in found[left.pop()].lines:
            if line.name in CLONES and line.result > 0:
                made = line.thread or line.result
                found[made] = threads[made]
                left.append(made)
    return found


def _status(line: bytes) -> int | None:
    exited = re.match(rb"\+\+\+ exited with (\d+) \+\+\+", line)
    if exited:
        return int(exited[1]) << 8
    killed = re.match(rb"\+\+\+ killed by (\w+)", line)
    if killed:
        return int(signal.Signals[killed[1].decode()])
    return None


class _Reader:
    """A cursor over one line; every method takes what it names and goes past it."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._named: dict[str, Any] = {}
        self._thread: int | None = None  # the number that strace gave last in its own namespace

    def line(self) -> Line:
        name = self._take(_WORD)[0].decode()
        arguments = self._sequence(b"(", b")")
        self._expect(b"=")
        self._thread = None
        result: Any = self._value()
        opened = result if isinstance(result, Descriptor) else None
        number = result.number if opened else result
        failed = self._maybe(_ERROR)
        if failed and number < 0:
            word = failed[1].decode()
            number = -(_RESTARTS[word] if word in _RESTARTS else int(getattr(errno, word)))
        return Line(name, tuple(arguments), number, opened, self._thread, self._named)

    def _sequence(self, begin: bytes, end: bytes) -> list[Any]:
        self._expect(begin)
        values: list[Any] = []
        while not self._skip(end):
            key = self._maybe(_KEY)  # some calls' arguments have names
            values.append(self._value())
            if key:
                self._named[key[1].decode()] = values[-1]
            self._skip(b",")
        return values

    def _struct(self) -> dict[str, Any]:
        self._expect(b"{")
        fields: dict[str, Any] = {}
        while not self._skip(b"}"):
            if self._skip(b"..."):
                continue
            key = self._take(_WORD)[0].decode()
            self._expect(b"=")
            fields[key] = self._value()
            self._skip(b",")
        return fields

    def _value(self) -> Any:
        self._blank()
        first = self._data[self._at : self._at + 1]
        if first in {b'"', b"@"}:
            abstract = self._skip(b"@")
            text = self._take(_STRING)
            value: Any = None if text[2] else (b"\0" if abstract else b"") + unescaped(text[1])
        elif first == b"{":
            value = self._struct()
        elif first == b"[":
            value = self._sequence(b"[", b"]")
        elif number := self._maybe(_NUMBER):
            value = _number(number[0])
            if path := self._maybe(_PATH):
                value = Descriptor(value, unescaped(path[1]), deleted=path[2] is not None)
        else:
            word = self._take(_WORD)[0].decode()
            inside = self._sequence(b"(", b")") if self._data[self._at : self._at + 1] == b"(" else []
            value = inside[-1] if inside else None if word == "NULL" else word
        if translated := self._maybe(_TRANSLATED):
            self._thread = int(translated[1])
        self._maybe(_COMMENT)
        while self._skip(b"=>"):  # what the kernel wrote there
            self._value()
        if self._skip(b"|"):
            more = self._value()
            value = value | more if isinstance(value, int) and isinstance(more, int) else None
        return value

    def _blank(self) -> None:
        while self._data[self._at : self._at + 1] == b" ":
            self._at += 1

    def _skip(self, what: bytes) -> bool:
        self._blank()
        if not self._data.startswith(what, self._at):
            return False
        self._at += len(what)
        return True

    def _expect(self, what: bytes) -> None:
        assert self._skip(what), (what, self._data[self._at :], self._data)

    def _maybe(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        self._blank()
        found = pattern.match(self._data, self._at)
        if found:
            self._at = found.end()
        return found

    def _take(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        found = self._maybe(pattern)
        assert found, (pattern.pattern, self._data[self._at :], self._data)
        return found


def unescaped(text: bytes) -> bytes:
    """The bytes that strace wrote as a C string."""

    def one(found: re.Match[bytes]) -> bytes:
        code = found[1]
        if code[:1] == b"x" and len(code) == 3:
            return bytes([int(code[1:], 16)])
        return bytes([int(code, 8)]) if code[:1].isdigit() else _ESCAPED.get(code, code)

    return _ESCAPE.sub(one, text)


def _number(text: bytes) -> int:
    if b"0x" in text:
        return int(text, 16)
    digits = text.lstrip(b"-")
    return int(text, 8) if digits[:1] == b"0" and len(digits) > 1 else int(text)
