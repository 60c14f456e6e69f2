"""The consumer's side of the BPF ring buffer, by mmap: no callback, no wake-up, bulk copies.

Layout (kernel/bpf/ringbuf.c): one page with the consumer position, writable; one page with the
producer position and the data mapped twice in a row, read-only, so a record never wraps. Plain
loads are enough on x86 (total store order); other machines would need acquire loads.
"""

import ctypes
import mmap
import struct

PAGE = 4096
_BUSY, _LENGTH = 1 << 31, (1 << 30) - 1


class Ring:
    """One ring; `drain` moves committed records out of it."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self.high_water = 0
        shared = mmap.MAP_SHARED
        self._consumer = mmap.mmap(descriptor, PAGE, shared, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._data = mmap.mmap(descriptor, PAGE + 2 * size, shared, mmap.PROT_READ, offset=PAGE)
        self._position = ctypes.c_uint64.from_buffer(self._consumer, 0)
        self._view = memoryview(self._data)

    def lag(self) -> int:
        """Bytes reserved by producers and not yet consumed."""
        (produced,) = struct.unpack_from("=Q", self._data, 0)
        lag = int(produced) - self._position.value
        self.high_water = max(self.high_water, lag)
        return lag

    def drain(self, limit: int = 1 << 22) -> tuple[bytes, int]:
        """The committed records at the head of the ring, as (bytes, count); frees their space.

        Headers are walked in the live mapping first and only what was seen committed is copied:
        copying first could take a record's tail before its producer wrote it.
        """
        position = self._position.value
        available = min(self.lag(), limit)
        base = PAGE + (position & (self.size - 1))
        taken = count = 0
        while taken + 8 <= available:
            (head,) = struct.unpack_from("=I", self._data, base + taken)
            step = ((head & _LENGTH) + 15) & ~7
            if head & _BUSY or taken + step > available:
                break
            taken += step
            count += 1
        if not taken:
            return b"", 0
        out = bytes(self._view[base : base + taken])
        self._position.value = position + taken
        return out, count
