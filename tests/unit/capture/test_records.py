"""Decoding of ring bytes, and the layout that comes from bpf/record.h."""

import struct
from pathlib import Path

import pytest

from harness.capture.records import LAYOUT, RECORD_H, decode, payloads, read_layout, spooled
from harness.capture.syscalls import X86_64
from harness.evidence.model import Flag, KernelRecord, Kind, Role

DISCARD, BUSY = 1 << 30, 1 << 31


def header(walked: bytes = b"", raw: bytes = b"", **values: int) -> bytes:
    known = dict.fromkeys(LAYOUT.names, 0) | {"kind": 1} | values
    known |= {"walked_len": values.get("walked_len", len(walked)), "raw_len": values.get("raw_len", len(raw))}
    fields = [b"agent" if name == "comm" else known[name] for name in LAYOUT.names]
    return LAYOUT.header.pack(*fields) + walked + raw


def framed(payload: bytes, bits: int = 0) -> bytes:
    padding = -len(payload) % 8
    return struct.pack("<II", len(payload) | bits, 0) + payload + bytes(padding)


def test_the_layout_is_the_header_files() -> None:
    assert LAYOUT.header.size == 88
    assert LAYOUT.kinds[1] is Kind.OPEN
    assert set(LAYOUT.kinds.values()) == set(Kind)
    for name, value in LAYOUT.constants.items():
        if name.startswith("FLAG_"):
            assert Flag[name.removeprefix("FLAG_")] == value


def test_a_field_of_an_unknown_type_is_refused(tmp_path: Path) -> None:
    text = RECORD_H.read_text(encoding="utf-8").replace("u32 tid;", "double tid;")
    (tmp_path / "record.h").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="tid"):
        read_layout(tmp_path / "record.h")


def test_a_record_comes_out_as_it_went_in() -> None:
    payload = header(
        b"/workspace",
        b"file\xff",
        time_ns=7,
        pid=1,
        tid=2,
        vpid=3,
        vtid=4,
        result=-2,
        where=2 | 16 | 32,
        a1=5,
        flags=4,
    )
    decoded = decode(framed(payload))
    assert decoded.errors == 0
    (record,) = decoded.records
    assert (record.walked, record.raw) == (b"/workspace", b"file\xff")
    assert (record.role, record.setup, record.part, record.result) == (Role.TOOLS, True, 1, -2)
    assert (record.time_ns, record.pid, record.tid, record.vpid, record.vtid) == (7, 1, 2, 3, 4)
    assert record.args == (0, 5, 0)
    assert record.flags == Flag.UNREADABLE
    assert record.comm == b"agent"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        header()[:-1],
        header(kind=15),
        header(where=3),
        header(b"/x", walked_len=3),
        header(b"/x", b"y", raw_len=0),
    ],
    ids=["empty", "short", "kind", "role", "walked length", "raw length"],
)
def test_a_record_that_does_not_fit_itself_is_counted(payload: bytes) -> None:
    decoded = decode(framed(header()) + framed(payload) + framed(header()))
    assert (len(decoded.records), decoded.errors) == (2, 1)
    assert [record.seq for record in decoded.records] == [0, 1]


def test_discarded_and_busy_records_are_no_records() -> None:
    data = framed(header(), DISCARD) + framed(header()) + framed(header(), BUSY)
    assert len(list(payloads(data))) == 1


def test_the_syscall_table_fits_the_map() -> None:
    text = RECORD_H.read_text(encoding="utf-8")
    body = text[text.index("struct syscall_rule {") :]
    assert body[: body.index("};")].count("u8 ") == len(X86_64[2].packed()) == 16
    assert min(X86_64) >= 0
    assert max(X86_64) == LAYOUT.constants["FOREIGN_RULE"]
    assert all(rule.kind in LAYOUT.kinds for rule in X86_64.values())


def test_what_is_not_kept_is_counted_all_the_same() -> None:
    data = b"".join(framed(header(b"/%d" % number)) for number in range(11)) + framed(b"short")
    shown = []

    def keep(record: KernelRecord) -> bool:
        shown.append(record.walked)
        return record.walked == b"/7"

    decoded = decode(data, keep)
    assert ([record.seq for record in decoded.records], decoded.total, decoded.errors) == ([7], 11, 1)
    assert shown == [b"/%d" % number for number in range(11)]


def test_a_spool_is_read_without_being_loaded(tmp_path: Path) -> None:
    for data in (b"", framed(header(b"/a")) + framed(header(b"/b"))):
        (tmp_path / "spool").write_bytes(data)
        with spooled(tmp_path / "spool") as mapped:
            assert decode(mapped) == decode(data)
    with spooled(tmp_path / "never-made") as nothing:
        assert decode(nothing).total == 0


def test_names_beyond_the_bound_are_counted_and_not_held() -> None:
    names = [b"/a" * 50, b"/a" * 50, b"/b" * 50, b"/c" * 50, b"/a" * 50]
    data = b"".join(framed(header(name)) for name in names) + framed(header(kind=3)) * 2
    decoded = decode(data, most_names=150)
    assert [record.walked for record in decoded.records] == [b"/a" * 50, b"/a" * 50, b"", b""]
    assert decoded.left_out == {Kind.OPEN: 3}
    assert (decoded.total, decoded.errors) == (7, 0)
    first, second = decoded.records[:2]
    assert first.walked is second.walked  # a name that is there a million times is held once
    assert not decode(data).left_out
