"""Archives with very many kernel lines, made from a real one: what an honest writer would have written."""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.bundle.layout import GZIP_HEADER, GZIP_TRAILER, tar_bytes
from harness.bundle.reader import read_archive
from harness.contracts import companion, manifest
from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.companion import AccountingV1
from harness.contracts.converter import parse, unstructure
from harness.evidence.accounting import identities
from tests.unit.bundle.derive import Members, remake_manifests

S5 = Path(__file__).parents[2] / "golden" / "diff" / "s5.tar.gz"
NAMES = 2000  # distinct files


def with_companion_lines(count: int) -> Members:
    """S5, whose agent starts so many processes that each read some of NAMES files of a dependency tree."""
    members = dict(read_archive(S5).members)
    tree = load_json(members[companion.PROCESSES], "tree")
    processes = [f"subject.0.{number}" for number in range(2, 2 + -(-count // NAMES))]
    made = [{"process": name, "role": "subject", "parent": "subject.0", "execs": []} for name in processes]
    at = [node["process"] for node in tree["processes"]].index("tools.0")
    tree["processes"][at:at] = made
    members[companion.PROCESSES] = to_bytes(tree)
    names = [f"/workspace/node_modules/package_{number:04d}/lib/index.js" for number in range(NAMES)]
    prefix, old = _tails(members[companion.KERNEL])
    new = (
        f'"role":"subject","process":"{process}","operation":"open","outcome":"ok",'
        f'"event_class":"dependency_tree","path":"{name}","access":"read"}}'
        for process in processes
        for name in names
    )
    lines = sorted([*(tail for tail, _ in zip(new, range(count), strict=False)), *old])
    members[companion.KERNEL] = _numbered(prefix, lines)
    surface = load_json(members[companion.SURFACE], "surface")
    done = [{"action": "read", "result": "done", "roles": ["subject"]}]
    surface["telemetry"] += [{"path": name, "actions": done} for name in names[:count]]
    surface["telemetry"].sort(key=lambda entry: entry["path"].encode())
    members[companion.SURFACE] = to_bytes(surface)
    members[companion.ACCOUNTING] = to_bytes(_books(load_json(members[companion.ACCOUNTING], "books"), count))
    return remake_manifests(members)


def with_v0_lines(count: int) -> Members:
    """S5 as the reference would have written it: no companion, and so many opens of NAMES files."""
    members = dict(read_archive(S5).members)
    members = {name: data for name, data in members.items() if name in manifest.V0_MEMBERS}
    names = [f"/workspace/node_modules/package_{number:04d}/lib/index.js" for number in range(NAMES)]
    prefix, _ = _tails(members[manifest.KERNEL])
    members[manifest.KERNEL] = _numbered(
        prefix,
        (
            f'"pid":{5000 + number % 300},"event_type":1,"kind":"openat","value":"{names[number % NAMES]}",'
            f'"flags":524288,"mode":0,"return_value":{3 + number * 7 % 31},"access_mode":"read",'
            f'"status":"success"}}'
            for number in range(count)
        ),
    )
    surface = load_json(members[manifest.SURFACE], "surface") | {"filesystem_paths": names[:count]}
    members[manifest.SURFACE] = to_bytes(surface)
    report = load_json(members[manifest.CORRELATION], "report")
    report["bindings"][0]["kernel_event_count"] = count
    members[manifest.CORRELATION] = to_bytes(report)
    health = members[manifest.HEALTH].replace(b"monitor_events=2", f"monitor_events={count}".encode())
    return remake_manifests(members | {manifest.HEALTH: health})


def packed(members: Members, path: Path) -> Path:
    """As the writer does it, compressed less."""
    payload = tar_bytes(members.items())
    deflate = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS)
    body = deflate.compress(payload) + deflate.flush()
    trailer = GZIP_TRAILER.pack(zlib.crc32(payload), len(payload) & 0xFFFFFFFF)
    path.write_bytes(GZIP_HEADER + body + trailer)
    return path


def _tails(layer: bytes) -> tuple[str, list[str]]:
    """What all lines begin with, and each line from after its number on."""
    lines = layer.decode().splitlines()
    end = lines[0].index('"seq":') + len('"seq":')
    return lines[0][:end], [line[end:].partition(",")[2] for line in lines]


def _numbered(prefix: str, tails: Iterable[str]) -> bytes:
    return "".join(f"{prefix}{seq},{tail}\n" for seq, tail in enumerate(tails)).encode()


def _books(books: dict[str, Any], more: int) -> dict[str, Any]:
    """So many more records of opens, all of one class."""
    books["records"]["classes"]["dependency_tree"] += more
    books["records"]["total"] += more
    capture = books["capture"]
    capture["kinds"]["open"]["seen"] += more
    capture["kinds"]["open"]["submitted"] += more
    capture["received"] += more
    capture["decoded"] += more
    by_kind = {kind: counts["submitted"] for kind, counts in capture["kinds"].items()}
    counts = parse(AccountingV1, books).capture
    assert counts is not None
    total = books["records"]["total"]
    return books | {"identities": [unstructure(one) for one in identities(counts, by_kind, total, total)]}
