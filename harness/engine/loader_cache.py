"""/etc/ld.so.cache of an image, so that the loader opens libraries where they are.

Without it glibc tries a folder for each feature of the CPU it runs on (glibc-hwcaps/x86-64-v4,
haswell, …): failed opens that differ from host to host. Format: glibc, sysdeps/generic/dl-cache.h,
"glibc-ld.so.cache1.1".
"""

import re
import struct
from collections.abc import Iterable

MAGIC = b"glibc-ld.so.cache1.1"
HEADER = struct.Struct("<20sIIBxxxI12x")  # magic, entries, bytes of strings, 2 = little endian, no extensions
ENTRY = struct.Struct("<iIIIQ")  # kind, offsets of name and path from the file's start, unused, no CPU needed
LIBC6_X86_64 = 0x0303


def loader_cache(folder: str, names: Iterable[str]) -> bytes:
    """The cache for libraries `names`, all in `folder` (absolute)."""
    ordered = sorted(set(names), key=_order, reverse=True)  # the loader's binary search expects it descending
    entries, strings = b"", b""
    start = HEADER.size + len(ordered) * ENTRY.size
    for name in ordered:
        path = f"{folder}/{name}"
        at = start + len(strings)
        entries += ENTRY.pack(LIBC6_X86_64, at + len(path) - len(name), at, 0, 0)  # a name ends its path
        strings += path.encode() + b"\0"
    return HEADER.pack(MAGIC, len(ordered), len(strings), 2, 0) + entries + strings


def _order(name: str) -> list[tuple[int, int]]:
    """As _dl_cache_libcmp: byte by byte, but runs of digits are numbers, greater than other bytes."""
    parts = re.findall(r"\d+|\D", name)
    return [(1, int(part)) if part.isdigit() else (0, ord(part)) for part in parts]
