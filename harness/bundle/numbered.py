"""How many lines at once begin: with the same text around numbers that run on without a gap."""

from operator import itemgetter

_UNIT = 1000  # numbers that differ in their last digits alone
_HIGH = b"\n"  # stands for the digits before those: no line has it


class Beginnings:
    """`before` and `after` stand around the number of each line; neither has a newline."""

    def __init__(self, before: bytes, after: bytes) -> None:
        self._one = before + b"%d" + after
        self._unit = b"".join(before + _HIGH + b"%03d" % low + after for low in range(_UNIT))
        self._around = len(before) + len(after)

    def cut(self, lines: list[bytes], first: int) -> list[bytes] | None:
        """The lines from there on; None unless all begin so, numbered from `first` on, in one width."""
        last = first + len(lines) - 1
        width = len(str(first))
        if len(str(last)) != width:
            return None
        start = self._around + width
        # None is longer than `start`, so the whole is as expected only if each is.
        if b"".join(map(itemgetter(slice(start)), lines)) != self._expected(first, last, start):
            return None
        return list(map(itemgetter(slice(start, None)), lines))

    def _expected(self, first: int, last: int, start: int) -> bytes:
        if first < _UNIT:
            return b"".join(map(self._one.__mod__, range(first, last + 1)))
        units = range(first // _UNIT, last // _UNIT + 1)
        text = b"".join(self._unit.replace(_HIGH, b"%d" % high) for high in units)
        skipped = first % _UNIT * start
        return text[skipped : skipped + (last + 1 - first) * start]
