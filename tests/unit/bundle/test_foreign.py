"""A file that is no archive is called what it is, with what to do; nobody is accused of forging."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.bundle.reader import read_archive
from harness.bundle.verify import check, verify
from harness.cli import main
from harness.errors import VerificationError
from tests.unit.bundle.conftest import S5


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("s5.tar.gz", data)
    return out.getvalue()


def repacked(data: bytes) -> bytes:
    """Unpacked and packed again by tar and gzip."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as old,
        tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as new,
    ):
        for entry in old:
            new.addfile(entry, old.extractfile(entry))
    return out.getvalue()


KINDS: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "zip": (zipped, "is a zip file", "unpack it"),
    "empty zip": (lambda _: b"PK\x05\x06" + bytes(18), "is an empty zip file", "as it was written"),
    "plain tar": (gzip.decompress, "is a tar that is not packed", "name its folder"),
    "gzip": (
        lambda data: gzip.compress(gzip.decompress(data)),
        "another program packed",
        "as it was written",
    ),
    "repacked": (repacked, "another program packed", "as it was written"),
    "empty": (lambda _: b"", "is empty", "get the file again"),
    "web page": (lambda _: b"\n<!DOCTYPE html><html>Sign in", "is a web page", "sign in"),
    "bom": (lambda _: b"\xef\xbb\xbf<HTML><body>", "is a web page", "sign in"),
    "xml": (lambda _: b"<?xml version='1.0'?><Error>", "is XML", "look into it"),
    "json": (lambda _: b'{"message":"Not Found"}', "is JSON", "look into it"),
    "bzip2": (bz2.compress, "is packed by bzip2", "unpack it"),
    "xz": (lzma.compress, "is packed by xz", "unpack it"),
    "lfs": (
        lambda _: b"version https://git-lfs",
        "pointer of Git LFS",
        "git lfs pull",
    ),
    "kit": (
        lambda _: (b"kit.json" + bytes(249) + b"ustar  \0").ljust(512, b"\0"),
        "is a replay kit",
        "replay",
    ),
    "text": (lambda _: b"hello", "is no gzip file", "as it was written"),
    "one byte": (lambda data: data[:1], "is no gzip file", "as it was written"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_called_what_it_is(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, what, remedy = KINDS[kind]
    path = tmp_path / "run.tar.gz"
    path.write_bytes(make(S5.read_bytes()))
    (problem,) = verify(path).problems
    assert (problem.code, what in problem.text, remedy in problem.remedy) == ("IntegrityGzip", True, True)
    for read in (check, read_archive):
        with pytest.raises(VerificationError, match=what) as caught:
            read(path)
        assert remedy in caught.value.hint
        assert "changed" not in caught.value.hint
    for arguments in (["verify", path], ["diff", S5, path], ["report", path, "-o", tmp_path / "x.html"]):
        assert main([str(argument) for argument in arguments]) == 4
        said = "".join(capsys.readouterr())
        assert what in said
        assert remedy in said


def test_an_archive_that_is_damaged_is_still_called_so(tmp_path: Path) -> None:
    path = tmp_path / "run.tar.gz"
    path.write_bytes(S5.read_bytes()[:-100])
    with pytest.raises(VerificationError, match="IntegrityGzip") as caught:
        check(path)
    assert "do not use this archive" in caught.value.hint
