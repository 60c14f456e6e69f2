"""What a block of lines begins with: the same text around numbers that run on without a gap."""

from operator import itemgetter

_UNIT = 1000  # numbers that differ in their last digits alone
_HIGH = b"\n"  # stands for the digits before those: no line has it


class Beginnings:
    """`before` and `after` stand around the number of each line; neither has a newline."""

    def __init__(self, before: bytes, after: bytes) -> None:
        self._one = before + b"%d" + after
        self._unit = b"".join(before + _HIGH + b"%03d" % low + after for low in range(_UNIT))
        self._around = len(before) + len(after)
        self._last = 0, b""

    def end(self, lines: list[bytes], first: int) -> int | None:
        """Where they end; None unless all lines begin so, numbered from `first` on, in one width."""
        last = first + len(lines) - 1
        end = self._around + len(str(first))
        if len(str(first)) != len(str(last)):
            return None
        # None is longer than it should be, so the whole is as expected only if each is.
        return end if b"".join(map(itemgetter(slice(end)), lines)) == self._all(first, last, end) else None

    def _all(self, first: int, last: int, size: int) -> bytes:
        if first < _UNIT:
            return b"".join(map(self._one.__mod__, range(first, last + 1)))
        units = range(first // _UNIT, last // _UNIT + 1)
        text = b"".join(map(self._numbered, units)) if len(units) > 1 else self._numbered(units[0])
        skipped = first % _UNIT * size
        return text[skipped : skipped + (last + 1 - first) * size]

    def _numbered(self, high: int) -> bytes:
        if high != self._last[0]:  # the next block begins where this one ends
            self._last = high, self._unit.replace(_HIGH, b"%d" % high)
        return self._last[1]
