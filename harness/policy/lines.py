"""Lines out of a byte stream, and the request id of those that cannot be read as JSON.

Stdlib only, shipped beside the proxy.
"""

import json
import re
from typing import NamedTuple

_IN_STRING = re.compile(rb'["\\]')
_AT_TOP = re.compile(rb'[{\[]+|[}\]]+|[",:]')
_BELOW = re.compile(rb'[{\[]+|[}\]]+|"')
_MAX_TEXT = 4096  # bytes of a key or value at the top that are kept


class Overlong(NamedTuple):
    """Stands for a line that is too long; its id if it has one that can be found."""

    request_id: object


class IdScanner:
    """Finds the member `id` of an object in bytes of any length, which need not be good JSON.

    Holds no more than a few kilobytes, and takes each byte once.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = False
        self._key: bytes | None = None
        self._text = bytearray()
        self._found: list[object] = []

    def feed(self, data: bytes | bytearray) -> None:
        at = 0
        while at < len(data):
            if self._escaped:
                self._escaped, end = False, at + 1
                self._keep(data[at:end])
            elif self._quoted:
                hit = _IN_STRING.search(data, at)
                end = hit.end() if hit else len(data)
                self._keep(data[at:end])
                if hit:
                    self._quoted, self._escaped = hit[0] == b"\\", hit[0] == b"\\"
            else:
                hit = (_AT_TOP if self._depth <= 1 else _BELOW).search(data, at)
                if hit is None:
                    self._keep(data[at:])
                    return
                self._keep(data[at : hit.start()])
                end = hit.end()
                self._sign(hit[0])
            at = end

    def id(self) -> object:
        """A string or number; None if there is none, or more than one."""
        return self._found[0] if len(self._found) == 1 else None

    def _sign(self, sign: bytes) -> None:
        if sign == b'"':
            self._quoted = True
            self._keep(sign)
        elif sign[0] in b"{[":
            self._keep(b"[")  # no value that could be an id
            if self._depth == 0:
                self._text.clear()
                self._key = None
            self._depth += len(sign)
        elif sign[0] in b"}]":
            if self._depth <= len(sign):
                self._end()
            self._depth = max(0, self._depth - len(sign))
        elif sign == b":" and self._depth == 1 and self._key is None:
            self._key = bytes(self._text)
            self._text.clear()
        elif sign == b",":
            self._end()

    def _keep(self, data: bytes | bytearray) -> None:
        if self._depth == 1 and len(self._text) <= _MAX_TEXT:
            self._text += data[: _MAX_TEXT + 1]

    def _end(self) -> None:
        if self._depth >= 1 and self._key is not None and _value(self._key) == "id":
            self._found.append(_value(self._text))
        self._text.clear()
        self._key = None


def id_of(line: bytes) -> object:
    """The id of a line that is no good JSON, as far as it can be read."""
    scanner = IdScanner()
    scanner.feed(line)
    return scanner.id()


class LineBuffer:
    """Cuts a byte stream into lines of at most `limit` bytes.

    `look`: go on to the end of a line that is too long, for its id; else it is told at once.
    """

    def __init__(self, limit: int, *, look: bool = False) -> None:
        self.limit = limit
        self._look = look
        self._rest = bytearray()
        self._skipping: IdScanner | None = None

    def __len__(self) -> int:
        return len(self._rest) or self._skipping is not None

    def feed(self, data: bytes) -> list[bytes | Overlong]:
        """The lines that `data` completes, without newline."""
        out: list[bytes | Overlong] = []
        *complete, last = data.split(b"\n")
        for part in complete:
            self._append(part, out)
            if self._skipping is None:
                out.append(bytes(self._rest))
            elif self._look:
                out.append(Overlong(self._skipping.id()))
            self._rest.clear()
            self._skipping = None
        self._append(last, out)
        return out

    def _append(self, part: bytes, out: list[bytes | Overlong]) -> None:
        if self._skipping is None and len(self._rest) + len(part) > self.limit:
            self._skipping = IdScanner()
            self._skipping.feed(self._rest)
            self._rest.clear()
            if not self._look:
                out.append(Overlong(None))
        if self._skipping is None:
            self._rest += part
        elif self._look:
            self._skipping.feed(part)


def _value(text: bytes | bytearray) -> object:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None
