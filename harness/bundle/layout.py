"""The bytes around the members: tar headers, padding, gzip frame (contracts §1.1, §1.2).

Headers are built by hand: the standard library's differ in checksum, typeflag, device fields and
trailer. The reader builds the header that a member must have and compares all 512 bytes.
"""

import struct
import zlib
from collections.abc import Iterable

from harness.contracts.companion import COMPANION_SCHEMAS
from harness.contracts.manifest import COMPANION_MANIFEST, V0_MEMBERS

BLOCK = 512
END = bytes(2 * BLOCK)
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"  # RFC 1952: mtime 0, XFL 2, OS 255
GZIP_TRAILER = struct.Struct("<II")  # CRC-32 and size modulo 2^32 of the payload
MAX_NAME = 100  # bytes: the name field has no room for more, and we write no long names
MAX_SIZE = 0o77777777777

# Everything an archive may hold, in the order in which it must be there.
MEMBER_ORDER = (*V0_MEMBERS, COMPANION_MANIFEST, *sorted(COMPANION_SCHEMAS, key=str.encode))

# Of a GNU tar header: offset and name of each field.
FIELDS = (
    (0, "name"),
    (100, "mode"),
    (108, "uid"),
    (116, "gid"),
    (124, "size"),
    (136, "mtime"),
    (148, "checksum"),
    (156, "typeflag"),
    (157, "linkname"),
    (257, "magic"),
    (265, "uname"),
    (297, "gname"),
    (329, "device"),
    (345, "remainder"),
)


def header(name: str, size: int) -> bytes:
    """The 512 bytes before a member; ValueError for a name or size that does not fit."""
    encoded = name.encode("ascii")
    if not 0 < len(encoded) <= MAX_NAME:
        raise ValueError(f"member name {name!r} does not fit")
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"member size {size} does not fit")
    block = bytearray(BLOCK)
    block[0 : len(encoded)] = encoded
    block[100:108] = b"0000644\0"
    block[108:124] = b"0000000\0" * 2
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"00000000000\0"
    block[148:156] = b" " * 8
    block[257:265] = b"ustar  \0"
    block[265:270] = block[297:302] = b"assay"
    block[148:156] = b"%07o\0" % sum(block)
    return bytes(block)


def padding(size: int) -> int:
    """Zero bytes after a member of `size` bytes."""
    return -size % BLOCK


def tar_bytes(members: Iterable[tuple[str, bytes]]) -> bytes:
    """The members in the given order, then exactly two zero blocks."""
    out = bytearray()
    for name, data in members:
        out += header(name, len(data))
        out += data
        out += bytes(padding(len(data)))
    out += END
    return bytes(out)


def gzip_bytes(payload: bytes) -> bytes:
    """One gzip member with the fixed header."""
    deflate = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS)
    body = deflate.compress(payload) + deflate.flush()
    return GZIP_HEADER + body + GZIP_TRAILER.pack(zlib.crc32(payload), len(payload) & 0xFFFFFFFF)
