"""The writer's bytes are fixed, and there is a whole archive or none."""

import errno
import gzip
import io
import resource
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bundle.layout import GZIP_HEADER, MEMBER_ORDER, header, tar_bytes
from harness.bundle.reader import read_archive
from harness.bundle.writer import ArchiveRefusedError, build_archive, write_archive
from harness.contracts import companion, manifest
from harness.contracts.canonical import EMPTY_SHA256, load_json, sha256_of, to_bytes
from harness.errors import EnvironmentUnfitError, InputError
from tests.unit.bundle.conftest import RUN_ID, Members, companion_members, v0_members


def test_the_same_members_give_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tar.gz"
    backwards = dict(reversed(v0_members().items()))
    identity = write_archive(other, backwards, dict(reversed(companion_members().items())), RUN_ID)
    assert other.read_bytes() == archive.read_bytes()
    assert identity == sha256_of(read_archive(other).members[manifest.MANIFEST])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.tar.gz", "run.tar.gz"]


def test_gzip_frame_and_member_order(archive: Path) -> None:
    data = archive.read_bytes()
    assert data[:10] == GZIP_HEADER == bytes.fromhex("1f8b08000000000002ff")
    payload = gzip.decompress(data)
    assert payload[-1024:] == bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(payload)) as tar:
        names = tar.getnames()
    assert names[:8] == list(manifest.V0_MEMBERS)
    assert names[8] == manifest.COMPANION_MANIFEST
    assert names[9:] == sorted(companion.COMPANION_SCHEMAS, key=str.encode)
    assert names == list(MEMBER_ORDER)


def test_a_header_is_as_the_contract_says() -> None:
    block = header("layers/sdk.ndjson", 5)
    assert len(block) == 512
    assert block[:100] == b"layers/sdk.ndjson".ljust(100, b"\0")
    assert block[100:148] == b"0000644\0" + b"0000000\0" * 2 + b"00000000005\0" + b"00000000000\0"
    unsummed = block[:148] + b" " * 8 + block[156:]
    assert block[148:156] == b"%07o\0" % sum(unsummed)
    assert block[156:257] == bytes(101)  # typeflag and link name
    assert block[257:265] == b"ustar  \0"
    assert block[265:345] == b"assay".ljust(32, b"\0") * 2 + bytes(16)
    assert block[345:] == bytes(167)
    for name, size in (("", 1), ("x" * 101, 1), ("x", 8**11), ("ü", 1)):
        with pytest.raises(ValueError, match=r"fit|ascii"):
            header(name, size)


@given(st.dictionaries(st.sampled_from(MEMBER_ORDER), st.binary(max_size=1100), min_size=1))
def test_python_reads_what_we_write(members: Members) -> None:
    payload = zlib.decompress(build_archive(members), wbits=31)
    with tarfile.open(fileobj=io.BytesIO(payload)) as tar:
        read = {}
        for info in tar.getmembers():
            file = tar.extractfile(info)
            assert file is not None
            read[info.name] = file.read()
            assert (info.uid, info.gid, info.mtime, info.mode) == (0, 0, 0, 0o644)
            assert (info.uname, info.gname) == ("assay", "assay")
    assert read == members
    assert list(read) == [name for name in MEMBER_ORDER if name in members]
    assert payload == tar_bytes(read.items())


def test_the_manifest_lists_every_other_member(archive: Path) -> None:
    members = read_archive(archive).members
    listed = load_json(members[manifest.MANIFEST], "x")
    assert list(listed) == ["schema", "run_id", "files"]
    assert list(listed["files"]) == list(manifest.V0_MEMBERS[1:])
    assert list(listed["files"][manifest.SDK]) == ["path", "sha256", "bytes"]
    bound = load_json(members[manifest.COMPANION_MANIFEST], "x")
    assert list(bound) == ["schema", "run_id", "v0_manifest_sha256", "files"]
    assert bound["v0_manifest_sha256"] == sha256_of(members[manifest.MANIFEST])
    assert list(bound["files"]) == sorted(companion.COMPANION_SCHEMAS)


def test_without_a_companion_there_are_eight_members(tmp_path: Path) -> None:
    path = tmp_path / "run.tar.gz"
    write_archive(path, v0_members() | {manifest.KERNEL: b""}, {}, RUN_ID)
    archive = read_archive(path)
    assert tuple(archive.members) == manifest.V0_MEMBERS
    assert archive.manifest.files[manifest.KERNEL].sha256 == EMPTY_SHA256


def changed(member: str, **values: object) -> bytes:
    return to_bytes(load_json(v0_members()[member], member) | values)


REFUSALS: tuple[tuple[str, Members, str], ...] = (
    ("", {}, "EmptyRunId"),
    ("a:b", {}, "UnsafeRunId"),
    (RUN_ID, {manifest.SURFACE: changed(manifest.SURFACE, run_id="other")}, "RunIdMismatch"),
    (RUN_ID, {manifest.HEALTH: changed(manifest.HEALTH, run_id="other")}, "RunIdMismatch"),
    (RUN_ID, {manifest.CORRELATION: changed(manifest.CORRELATION, run_id="")}, "RunIdMismatch"),
    ("other", {}, "RunIdMismatch"),
    (RUN_ID, {manifest.SURFACE: b"{"}, "ContractInvalidJson"),
    (RUN_ID, {manifest.SURFACE: b"[]"}, "RunIdMismatch"),
    (RUN_ID, {manifest.SURFACE: changed(manifest.SURFACE, schema="x")}, "CapabilitySurface"),
    (RUN_ID, {manifest.CORRELATION: changed(manifest.CORRELATION, schema="x")}, "CorrelationReport"),
    (RUN_ID, {manifest.HEALTH: changed(manifest.HEALTH, schema="x")}, "ObservationHealth(InvalidSchema)"),
    (
        RUN_ID,
        {manifest.HEALTH: changed(manifest.HEALTH, ringbuf_drops=1)},
        "ObservationHealth(RingbufDropsRequirePartialKernelLayer)",
    ),
    (
        RUN_ID,
        {manifest.HEALTH: changed(manifest.HEALTH, cgroup_correlation="failed")},
        "ObservationHealth(FailedCgroupCorrelation)",
    ),
    (RUN_ID, {"layers/more.ndjson": b""}, "ContractUnexpectedFile"),
    (RUN_ID, {manifest.MANIFEST: b"{}"}, "ContractUnexpectedFile"),
)


@pytest.mark.parametrize(("run_id", "change", "code"), REFUSALS)
def test_members_that_contradict_each_other_are_refused(
    tmp_path: Path, run_id: str, change: Members, code: str
) -> None:
    with pytest.raises(ArchiveRefusedError) as caught:
        write_archive(tmp_path / "run.tar.gz", v0_members() | change, companion_members(), run_id)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_missing_and_unknown_members_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.tar.gz"
    for name in manifest.V0_MEMBERS[1:]:
        rest = {key: data for key, data in v0_members().items() if key != name}
        with pytest.raises(ArchiveRefusedError, match="ContractMissingFile"):
            write_archive(path, rest, {}, RUN_ID)
    for name in ("companion/more.json", manifest.COMPANION_MANIFEST, "accounting.json"):
        with pytest.raises(ArchiveRefusedError, match="ContractUnexpectedFile"):
            write_archive(path, v0_members(), {name: b"{}"}, RUN_ID)
    with pytest.raises(ValueError, match="not members"):
        build_archive({"../x": b""})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_whole_or_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.tar.gz"
    path.write_bytes(b"older")
    with pytest.raises(ArchiveRefusedError):
        write_archive(path, v0_members(), {}, "other")
    assert path.read_bytes() == b"older"
    write_archive(path, v0_members(), {}, RUN_ID)
    assert read_archive(path).run_id == RUN_ID
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.breaks("guard:whole_files")
def test_a_disk_that_takes_no_more_leaves_nothing_behind(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))  # the write then really fails, half-way
    try:
        with pytest.raises(EnvironmentUnfitError, match="could not be written") as caught:
            write_archive(tmp_path / "run.tar.gz", v0_members(), companion_members(), RUN_ID)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.hint
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert cause.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name in ("none/run.tar.gz", "file/run.tar.gz", "folder"):
        with pytest.raises(InputError) as caught:
            write_archive(tmp_path / name, v0_members(), {}, RUN_ID)
        assert caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
