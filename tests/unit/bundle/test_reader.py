"""Archives of strangers: nothing but the exact form is read, and everything is bounded."""

import gzip
import io
import os
import random
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bundle.layout import END, GZIP_HEADER, GZIP_TRAILER, gzip_bytes, header, padding, tar_bytes
from harness.bundle.payload import CHUNK, Payload, gunzip
from harness.bundle.problem import BrokenError
from harness.bundle.reader import Limits, read_archive
from harness.bundle.writer import build_archive, write_archive
from harness.contracts import companion, manifest
from harness.errors import InputError, VerificationError
from tests.unit.bundle.conftest import RUN_ID, Forge, Members, v0_members


def code_of(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(VerificationError) as caught:
        read_archive(path, limits)
    assert caught.value.place
    assert caught.value.hint
    return caught.value.code


def test_what_was_written_is_read(archive: Path) -> None:
    read = read_archive(archive)
    assert build_archive(read.members) == archive.read_bytes()
    assert read.run_id == RUN_ID
    assert read.has_companion


def test_an_archive_without_companion_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.tar.gz"
    write_archive(path, v0_members(), {}, RUN_ID)
    read = read_archive(path)
    assert not read.has_companion
    assert tuple(read.members) == manifest.V0_MEMBERS


def extract(members: Members, folder: Path) -> Path:
    for name, data in members.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def test_an_extracted_folder_is_read(members: Members, tmp_path: Path) -> None:
    folder = extract(members, tmp_path / "x")
    assert read_archive(folder).members == members
    assert list(read_archive(folder).members) == list(members)
    (tmp_path / "link").symlink_to(folder)
    assert read_archive(tmp_path / "link").members == members


@pytest.mark.breaks("verify:IntegrityIo")
def test_a_folder_holds_known_regular_files_only(members: Members, tmp_path: Path) -> None:
    folder = extract(members, tmp_path / "x")
    sdk = folder / manifest.SDK
    for name in ("more.txt", "layers/more.ndjson", ".hidden"):
        (folder / name).touch()
        assert code_of(folder) == "ContractUnexpectedFile"
        (folder / name).unlink()
    (folder / "more").mkdir()
    assert code_of(folder) == "ContractUnexpectedFile"
    (folder / "more").rmdir()
    sdk.unlink()
    assert code_of(folder) == "ContractMissingFile"
    sdk.symlink_to(folder / manifest.POLICY)
    assert code_of(folder) == "IntegrityIo"
    sdk.unlink()
    os.mkfifo(sdk)
    assert code_of(folder) == "ContractUnexpectedFile"
    sdk.unlink()
    sdk.mkdir()
    assert code_of(folder) == "ContractUnexpectedFile"
    sdk.rmdir()
    layers = folder / "layers"
    layers.rename(tmp_path / "layers")
    layers.symlink_to(tmp_path / "layers")
    assert code_of(folder) == "ContractUnexpectedFile"


def test_nothing_to_read_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such archive"):
        read_archive(tmp_path / "none")


@pytest.mark.breaks("verify:IntegrityGzip")
def test_any_cut_is_noticed(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    cut = tmp_path / "cut.tar.gz"
    for length in [*range(0, len(data), 37), len(data) - 1]:
        cut.write_bytes(data[:length])
        assert code_of(cut) == "IntegrityGzip"
    payload = zlib.decompress(data, wbits=31)
    for length in [*range(0, len(payload), 509), len(payload) - 512, len(payload) - 1]:
        cut.write_bytes(gzip_bytes(payload[:length]))
        assert code_of(cut) in {"IntegrityTar", "ContractMissingManifest", "ContractMissingFile"}


def test_nothing_may_follow(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    payload = zlib.decompress(data, wbits=31)
    more = tmp_path / "more.tar.gz"
    for tail in (b"\0", b"x", data):
        more.write_bytes(data + tail)
        assert code_of(more) == "IntegrityGzip"
    for tail in (b"\0", bytes(512), bytes(8192), header("x", 0)):
        more.write_bytes(gzip_bytes(payload + tail))
        assert code_of(more) == "IntegrityTar"


def test_other_frames_and_tars_are_refused(members: Members, tmp_path: Path) -> None:
    path = tmp_path / "other.tar.gz"
    path.write_bytes(gzip.compress(tar_bytes(members.items()), mtime=1))
    assert code_of(path) == "IntegrityGzip"
    body = GZIP_HEADER + b"\xff\xff" + GZIP_TRAILER.pack(0, 0)
    path.write_bytes(body)
    assert code_of(path) == "IntegrityGzip"
    for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        path.write_bytes(gzip_bytes(buffer.getvalue()))
        assert code_of(path) == "IntegrityTar"


def with_field(block: bytes, offset: int, value: bytes) -> bytes:
    """A header with one field changed and a checksum that fits again."""
    changed = bytearray(block)
    changed[offset : offset + len(value)] = value
    changed[148:156] = b" " * 8
    changed[148:156] = b"%07o\0" % sum(changed)
    return bytes(changed)


@pytest.mark.parametrize(
    ("field", "offset", "value"),
    [
        ("mode", 100, b"0004755\0"),
        ("uid", 108, b"0001750\0"),
        ("gid", 116, b"0001750\0"),
        ("mtime", 136, b"14000000000\0"),
        ("typeflag", 156, b"0"),
        ("typeflag", 156, b"2"),  # symbolic link
        ("typeflag", 156, b"x"),  # pax
        ("typeflag", 156, b"S"),  # sparse
        ("typeflag", 156, b"L"),  # long name
        ("linkname", 157, b"/etc/passwd"),
        ("magic", 257, b"ustar\x0000"),
        ("uname", 265, b"root\0"),
        ("gname", 297, b"root\0"),
        ("device", 329, b"0000000\0"),
        ("remainder", 345, b"prefix"),
        ("remainder", 500, b"x"),
    ],
)
def test_each_header_field_is_fixed(
    members: Members, tmp_path: Path, field: str, offset: int, value: bytes
) -> None:
    payload = tar_bytes(members.items())
    path = tmp_path / "field.tar.gz"
    path.write_bytes(gzip_bytes(with_field(payload[:512], offset, value) + payload[512:]))
    with pytest.raises(VerificationError, match=f"header field {field}") as caught:
        read_archive(path)
    assert caught.value.code == "IntegrityTar"


def test_checksum_size_and_padding_are_exact(members: Members, tmp_path: Path) -> None:
    payload = bytearray(tar_bytes(members.items()))
    path = tmp_path / "x.tar.gz"
    size = len(members[manifest.MANIFEST])
    for offset, value in (
        (148, b" 012345"),
        (124, b"-0000000001\0"),
        (124, b"\x80" + bytes(11)),
        (124, b"0000000000 \0"),
        (512 + size, b"x"),
    ):
        assert padding(size)
        changed = payload.copy()
        changed[offset : offset + len(value)] = value
        path.write_bytes(gzip_bytes(bytes(changed)))
        assert code_of(path) == "IntegrityTar"


def raw_tar(name: bytes, size: int) -> bytes:
    """A member header with any name, its checksum fitting."""
    block = bytearray(header("x", size))
    return with_field(bytes(block), 0, name.ljust(100, b"\0"))


@pytest.mark.breaks("verify:SecurityAbsolutePath", "verify:SecurityPathTraversal", "verify:IntegrityTar")
@pytest.mark.parametrize(
    ("name", "code"),
    [
        (b"/etc/passwd", "SecurityAbsolutePath"),
        (b"layers/../../x", "SecurityPathTraversal"),
        (b"..", "SecurityPathTraversal"),
        (b"./manifest.json", "ContractUnexpectedFile"),
        (b"layers/", "ContractUnexpectedFile"),
        (b"layers/sdk.ndjson/", "ContractUnexpectedFile"),
        (b"companion/more.json", "ContractUnexpectedFile"),
        (b"Manifest.json", "ContractUnexpectedFile"),
        (b"a\x1b[31m", "IntegrityTar"),
        (b"\xc3\xbc", "IntegrityTar"),
        (b"", "IntegrityTar"),
        (b"manifest.json\0hidden", "IntegrityTar"),
        (b"x" * 100, "ContractUnexpectedFile"),
    ],
)
def test_no_odd_name_gets_in(tmp_path: Path, name: bytes, code: str) -> None:
    path = tmp_path / "name.tar.gz"
    path.write_bytes(gzip_bytes(raw_tar(name, 0) + END))
    assert code_of(path) == code


@pytest.mark.breaks(
    "verify:ContractMissingFile", "verify:ContractMissingManifest", "verify:ContractDuplicateFile"
)
def test_members_are_all_there_once_and_in_order(members: Members, tmp_path: Path, forge: Forge) -> None:
    for name in manifest.V0_MEMBERS:
        rest = {key: data for key, data in members.items() if key != name}
        wanted = "ContractMissingManifest" if name == manifest.MANIFEST else "ContractMissingFile"
        assert code_of(forge(rest)) == wanted
    names = list(members)
    for index in range(len(names) - 1):
        swapped = names.copy()
        swapped[index], swapped[index + 1] = swapped[index + 1], swapped[index]
        wanted = "ContractFileOrder" if index else "ContractMissingManifest"
        assert code_of(forge({name: members[name] for name in swapped})) == wanted
    path = tmp_path / "twice.tar.gz"
    path.write_bytes(gzip_bytes(tar_bytes([*members.items(), (companion.SURFACE, b"{}")])))
    assert code_of(path) == "ContractDuplicateFile"
    assert code_of(forge({})) == "ContractMissingManifest"


@pytest.mark.breaks("verify:LimitJsonDepth")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "ContractInvalidJson"),
        (b"[]", "ContractInvalidJson"),
        (b"[" * 5000 + b"]" * 5000, "LimitJsonDepth"),
        (b'{"schema":"x","run_id":"r","files":{}}', "ContractSchemaVersion"),
        (b'{"schema":"assay.runner.archive_manifest.v0","run_id":"r"}', "ContractInvalidJson"),
        (b'{"schema_version":1,"bundle_id":"x","files":{}}', "ContractSchemaVersion"),
    ],
)
def test_a_manifest_of_another_form_is_refused(
    members: Members, forge: Forge, data: bytes, code: str
) -> None:
    assert code_of(forge(members | {manifest.MANIFEST: data})) == code


@pytest.mark.breaks(
    "verify:LimitBundleBytes", "verify:LimitDecodeBytes", "verify:LimitFileSize", "verify:IntegrityZipBomb"
)
def test_sizes_are_bounded_before_they_are_unpacked(
    archive: Path, members: Members, tmp_path: Path, forge: Forge
) -> None:
    size = archive.stat().st_size
    payload = len(tar_bytes(members.items()))
    assert read_archive(archive, Limits(bundle=size, decoded=payload)).run_id == RUN_ID
    assert code_of(archive, Limits(bundle=size - 1)) == "LimitBundleBytes"
    assert code_of(archive, Limits(decoded=payload - 1)) == "LimitDecodeBytes"
    assert code_of(archive, Limits(document=300)) == "LimitFileSize"
    assert code_of(archive, Limits(lines=300)) == "LimitFileSize"
    bomb = forge({manifest.MANIFEST: b"{}", manifest.KERNEL: bytes(12 << 20)})
    assert bomb.stat().st_size < 20_000
    assert code_of(bomb) == "IntegrityZipBomb"
    # A header may claim what it likes: nothing is allocated for it.
    path = tmp_path / "claim.tar.gz"
    path.write_bytes(gzip_bytes(header(manifest.MANIFEST, 1 << 32)))
    assert code_of(path) == "LimitFileSize"
    folder = extract(members, tmp_path / "x")
    assert code_of(folder, Limits(decoded=1000)) == "LimitDecodeBytes"
    assert code_of(folder, Limits(document=300)) == "LimitFileSize"


@pytest.mark.breaks("verify:LimitMembers")
def test_a_tar_of_endless_headers_ends_early(members: Members, tmp_path: Path) -> None:
    path = tmp_path / "many.tar.gz"
    one = next(iter(members.items()))
    path.write_bytes(gzip_bytes(tar_bytes([one] * 1000)))
    assert code_of(path) == "LimitMembers"


def test_what_is_unpacked_is_what_zlib_unpacks(
    archive: Path, members: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes, end, and the words for damage; never more at once than was asked for."""

    def unpacked(path: Path, limits: Limits) -> tuple[object, ...]:
        with path.open("rb") as stream:
            try:
                payload = gunzip(stream, limits)
            except BrokenError as error:
                return error.problems
        return payload.size, payload.read(0, payload.size)

    pieces: list[int] = []
    append = Payload.append

    def counted(payload: Payload, data: bytes) -> None:
        pieces.append(len(data))
        append(payload, data)

    monkeypatch.setattr(Payload, "append", counted)
    data = archive.read_bytes()
    stored = zlib.compressobj(level=0, wbits=-zlib.MAX_WBITS)
    bomb = gzip_bytes(bytes(12 << 20))
    whole = (
        data,
        data,
        data,
        bomb,
        GZIP_HEADER + stored.compress(bytes(300_000)) + stored.flush() + bytes(8),
    )
    path = tmp_path / "damaged.tar.gz"
    chance, damaged = random.Random(1), 0
    for number in range(300):
        changed = bytearray(chance.choice(whole))
        for _ in range(number % 4):
            changed[chance.randrange(len(GZIP_HEADER), chance.choice((60, len(changed))))] ^= (
                1 << chance.randrange(8)
            )
        path.write_bytes(changed[: chance.choice((len(changed), chance.randrange(len(changed))))])
        limits = Limits(in_memory=chance.choice((0, 1 << 16, 1 << 24)))
        ours = unpacked(path, limits)
        with monkeypatch.context() as standard:
            standard.setattr("harness.bundle.payload.zlib_ng", zlib)
            standard.setattr("harness.bundle.payload._DAMAGED", zlib.error)
            assert unpacked(path, limits) == ours, number
        damaged += "cannot be unpacked" in str(ours[0])
    assert damaged > 50
    assert max(pieces) == CHUNK


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=2000))
def test_any_bytes_end_in_our_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "noise"
    for content in (data, gzip_bytes(data), gzip_bytes(header(manifest.MANIFEST, len(data)) + data)):
        path.write_bytes(content)
        code_of(path)
