"""Seeded damage to an archive, on every level: file, gzip frame, tar, members. And a run of many.

    python -m tests.unit.bundle.mutate COUNT [SEED]

prints what came of it as JSON; exit 1 if a changed archive was accepted, or something crashed or hung.
"""

import gzip
import json
import random
import re
import signal
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from harness.bundle.layout import BLOCK, END, gzip_bytes, header, padding, tar_bytes
from harness.bundle.reader import read_archive
from harness.bundle.verify import verify
from harness.contracts.manifest import MANIFEST
from harness.errors import AssayError
from tests.unit.bundle.derive import Members, remake_manifests

GOLDEN = Path(__file__).parents[2] / "golden" / "diff"
SECONDS = 20  # that one verification may take on a busy machine

Mutation = Callable[[random.Random, bytes, Members], bytes]


def _flipped(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5, 40))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _spliced(chance: random.Random, data: bytes) -> bytes:
    """Some bytes replaced, put in, left out, or had from elsewhere in the file."""
    at, length = chance.randrange(len(data)), chance.choice((1, 2, 8, 100, 512, 1024))
    there = chance.randrange(len(data))
    piece = chance.choice((b"", bytes(length), chance.randbytes(length), data[there : there + length]))
    return data[:at] + piece + data[at + chance.choice((0, length)) :]


def _file_flipped(chance: random.Random, data: bytes, _: Members) -> bytes:
    return _flipped(chance, data)


def _file_spliced(chance: random.Random, data: bytes, _: Members) -> bytes:
    return _spliced(chance, data)


def _file_cut(chance: random.Random, data: bytes, _: Members) -> bytes:
    return data[: chance.randrange(len(data))]


def _file_longer(chance: random.Random, data: bytes, _: Members) -> bytes:
    more = (b"\0", bytes(BLOCK), chance.randbytes(30), gzip.compress(b""), gzip.compress(END), data)
    return data + chance.choice(more)


def _gzip_in_parts(chance: random.Random, data: bytes, _: Members) -> bytes:
    """The same payload as two gzip members, or with another frame."""
    payload = zlib.decompress(data, wbits=31)
    at = chance.randrange(len(payload))
    two = gzip_bytes(payload[:at]) + gzip_bytes(payload[at:])
    return chance.choice((two, gzip.compress(payload, mtime=1), zlib.compress(payload), payload))


def _payload_flipped(chance: random.Random, data: bytes, _: Members) -> bytes:
    return gzip_bytes(_flipped(chance, zlib.decompress(data, wbits=31)))


def _payload_spliced(chance: random.Random, data: bytes, _: Members) -> bytes:
    return gzip_bytes(_spliced(chance, zlib.decompress(data, wbits=31)))


def _payload_cut(chance: random.Random, data: bytes, _: Members) -> bytes:
    payload = zlib.decompress(data, wbits=31)
    return gzip_bytes(
        payload[: chance.randrange(len(payload)) // chance.choice((1, BLOCK)) * chance.choice((1, BLOCK))]
    )


def _deflated_otherwise(chance: random.Random, data: bytes, _: Members) -> bytes:
    """Harmless: other deflate bytes of the same payload."""
    payload = zlib.decompress(data, wbits=31)
    deflate = zlib.compressobj(chance.randrange(10), wbits=-zlib.MAX_WBITS)
    return data[:10] + deflate.compress(payload) + deflate.flush() + data[-8:]


def _reordered(chance: random.Random, _: bytes, members: Members) -> bytes:
    names = list(members)
    first, second = chance.sample(range(len(names)), 2)
    names[first], names[second] = names[second], names[first]
    return gzip_bytes(tar_bytes((name, members[name]) for name in names))


def _renamed(chance: random.Random, _: bytes, members: Members) -> bytes:
    odd = (
        "manifest.json",
        "x",
        "./x",
        "../x",
        "/etc/passwd",
        "layers/",
        "companion/x.json",
        "a" * 100,
        "layers//sdk.ndjson",
    )
    gone, other = chance.choice(list(members)), chance.choice((*odd, *members))
    return gzip_bytes(tar_bytes((other if name == gone else name, data) for name, data in members.items()))


def _with_more(chance: random.Random, _: bytes, members: Members) -> bytes:
    """A member that is there twice, or that nobody knows, or one less."""
    entries = list(members.items())
    entry = chance.choice(
        (chance.choice(entries), ("x", b""), ("companion/x.json", b"{}"), (MANIFEST, b"{}"))
    )
    if chance.randrange(3):
        entries.insert(chance.randrange(len(entries) + 1), entry)
    else:
        del entries[chance.randrange(len(entries))]
    return gzip_bytes(tar_bytes(entries))


def _special(chance: random.Random, _: bytes, members: Members) -> bytes:
    """Links, devices, sparse and PAX headers, long names: as a member, or before one."""
    kind, out = chance.choice(b"0123456789xgLKSVDNXA"), bytearray()
    target = chance.choice(list(members))
    for name, data in members.items():
        block = bytearray(header(name, len(data)))
        if name == target:
            if chance.randrange(2):
                pax = b"30 path=/etc/passwd\n29 GNU.sparse.size=1\n"
                out += _sealed(bytearray(header(name, len(pax))), kind) + pax + bytes(padding(len(pax)))
            else:
                block[157:167] = b"/etc/hosts"
                block = bytearray(_sealed(block, kind))
        out += block + data + bytes(padding(len(data)))
    return gzip_bytes(bytes(out + END))


def _sealed(block: bytearray, kind: int) -> bytes:
    block[156] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%07o\0" % sum(block)
    return bytes(block)


def _bomb(chance: random.Random, _: bytes, members: Members) -> bytes:
    """Much from little: zeros, or nested or numerous JSON, in some member; manifests fit."""
    name = chance.choice([name for name in members if not name.endswith("manifest.json")])
    size = chance.choice((1 << 12, 1 << 12, 1 << 16, 1 << 16, 1 << 16, 1 << 21, 1 << 21, 12 << 20))
    unit = chance.choice((b"\0", b"[", b"{}\n", b'{"a":', b"[],", b"\n", b'"', b"9"))
    filled = members | {name: unit * (size // len(unit))}
    return gzip_bytes(tar_bytes(remake_manifests(filled, "r" if chance.randrange(2) else None).items()))


def _members_flipped(chance: random.Random, _: bytes, members: Members) -> bytes:
    """Members that their manifests do not list so; or manifests that do not list them so."""
    name = chance.choice([name for name in members if members[name]])
    harm = chance.choice((_flipped, _spliced))
    return gzip_bytes(tar_bytes((members | {name: harm(chance, members[name])}).items()))


def _half_resigned(chance: random.Random, _: bytes, members: Members) -> bytes:
    """A v0 member changed and its manifest made to fit, but not the companion's."""
    name = chance.choice([name for name in members if not name.startswith("companion/") and members[name]])
    changed = members | {name: _flipped(chance, members[name])} if name != MANIFEST else dict(members)
    made = remake_manifests(changed, "other_run" if name == MANIFEST else None)
    return gzip_bytes(tar_bytes((members | {MANIFEST: made[MANIFEST], name: made[name]}).items()))


MUTATIONS: tuple[Mutation, ...] = (
    _file_flipped, _file_spliced, _file_cut, _file_longer, _gzip_in_parts, _payload_flipped, _payload_spliced,
    _payload_cut, _deflated_otherwise, _reordered, _renamed, _with_more, _special, _bomb, _members_flipped,
    _half_resigned,
)  # fmt: skip


def soak(count: int, seed: int, folder: Path) -> dict[str, object]:
    """`count` mutations of real archives; `wrong` are the accepted ones that hold something else."""
    originals = [path.read_bytes() for path in sorted(GOLDEN.glob("*.tar.gz"))]
    known = [dict(read_archive(path).members) for path in sorted(GOLDEN.glob("*.tar.gz"))]
    path, outcomes, wrong = folder / "mutated.tar.gz", Counter[str](), []
    began = time.monotonic()
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        which, mutation = chance.randrange(len(originals)), MUTATIONS[number % len(MUTATIONS)]
        path.write_bytes(mutation(chance, originals[which], known[which]))
        signal.alarm(SECONDS)
        try:
            result = verify(path)
        except AssayError as error:
            outcomes[type(error).__name__] += 1
            continue
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
            wrong.append(f"{mutation.__name__} {number}: {error!r}")
            continue
        finally:
            signal.alarm(0)
        outcomes[result.problems[0].code if result.problems else "accepted"] += 1
        if result.ok and dict(read_archive(path).members) != known[which]:
            wrong.append(f"{mutation.__name__} {number}: accepted")
    return {
        "count": count,
        "seed": seed,
        "wrong": wrong,
        "seconds": round(time.monotonic() - began, 1),
        "max_rss_mib": _peak() // 1024,
        "outcomes": dict(outcomes.most_common()),
    }


def _peak() -> int:
    """KiB of this process alone; getrusage counts the parent's memory before exec."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def main() -> int:
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as folder:
        told = soak(count, seed, Path(folder))
    print(json.dumps(told, indent=2))
    return 1 if told["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
