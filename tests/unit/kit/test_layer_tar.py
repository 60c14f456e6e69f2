"""Layers that would be more than their own bytes, or elsewhere than in their image."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.bundle.layer_tar import MAX_EXTENSION, check_layer_tar
from harness.engine.layers import Entry, write_layer
from harness.errors import VerificationError
from tests.unit.kit.conftest import TREE

Build = Callable[[tarfile.TarFile], None]


def entry(name: str, kind: bytes = tarfile.REGTYPE, **values: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in values.items():
        setattr(info, key, value)
    return info


def built(path: Path, *entries: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for one in entries:
            data = io.BytesIO(bytes(one.size)) if one.isreg() and one.size < 1 << 20 else None
            tar.addfile(one, data)
    return path


def refused(path: Path) -> str:
    with pytest.raises(VerificationError, match="LayerUnsafe") as caught:
        check_layer_tar(path, "layer")
    return caught.value.message


def test_layers_of_this_program_and_of_others_pass(tmp_path: Path) -> None:
    deep = "/".join(["a-folder-with-a-name"] * 9)
    ours = write_layer(TREE | {deep: Entry(source=b"x")}, tmp_path / "ours.tar").path
    with tarfile.open(ours) as tar:
        assert check_layer_tar(ours, "layer") == len(tar.getmembers())
    links = [
        entry("etc/", tarfile.DIRTYPE),
        entry("etc/up", tarfile.SYMTYPE, linkname="../../../../etc/shadow"),
        entry("etc/a", size=600),
        entry("etc/b", tarfile.LNKTYPE, linkname="etc/a", size=600),
        entry("etc/.wh.gone"),
        entry("x" * 150, pax_headers={"SCHILY.xattr.security.capability": "\1"}),
        entry("p", tarfile.FIFOTYPE),
    ]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert check_layer_tar(built(tmp_path / "other.tar", *links, form=form), "layer") == len(links)
    empty = tmp_path / "empty.tar"
    empty.write_bytes(bytes(1024))
    assert check_layer_tar(empty, "layer") == 0


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    path = built(tmp_path / "x.tar", entry("bomb", tarfile.GNUTYPE_SPARSE))
    assert "is of type" in refused(path)
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 50)}
    path = built(tmp_path / "x.tar", entry("bomb", pax_headers=sparse), form=tarfile.PAX_FORMAT)
    assert "GNU.sparse." in refused(path)


def test_a_size_beyond_the_layer_is_refused(tmp_path: Path) -> None:
    for size in (1 << 20, 1 << 40):
        path = built(tmp_path / "x.tar", entry("bomb", size=size))
        assert "more than there are" in refused(path)
    path = built(tmp_path / "x.tar", entry("bomb", size=1 << 40), form=tarfile.PAX_FORMAT)
    assert refused(path)


def test_a_compressed_layer_is_refused(tmp_path: Path) -> None:
    path = write_layer(TREE, tmp_path / "x.tar").path
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert "no header of a tar" in refused(path)


def test_an_overlong_extension_is_refused(tmp_path: Path) -> None:
    path = built(tmp_path / "x.tar", entry("n" * (MAX_EXTENSION + 1)))
    assert "header extension" in refused(path)
    path = built(tmp_path / "x.tar", entry("n" * (MAX_EXTENSION + 1)), form=tarfile.PAX_FORMAT)
    assert "header extension" in refused(path)


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/passwd", "../" + "x" * 200, "/" + "x" * 200])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    link = entry("here", tarfile.LNKTYPE, linkname=name)
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        if form == tarfile.USTAR_FORMAT and len(name) > 100:
            continue
        for one in (entry(name), entry(name, tarfile.SYMTYPE, linkname="x"), link):
            assert "leads out" in refused(built(tmp_path / "x.tar", one, form=form))


def test_a_second_name_does_not_hide_the_first(tmp_path: Path) -> None:
    """One reader takes the long name, another the pax one."""
    path = tmp_path / "x.tar"
    bad = entry("ok", pax_headers={"path": "../evil"}).tobuf(tarfile.PAX_FORMAT)
    good = entry("n" * 120).tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(bad[:-512] + good + bytes(1024))
    assert "leads out" in refused(path)
    path.write_bytes(good[:-512] + bad + bytes(1024))
    assert "leads out" in refused(path)


def test_device_nodes_and_global_headers_are_refused(tmp_path: Path) -> None:
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, b"7", b"V"):
        assert "is of type" in refused(built(tmp_path / "x.tar", entry("dev/sda", kind)))
    header = tarfile.TarInfo.create_pax_global_header({"path": "evil"})
    path = tmp_path / "x.tar"
    path.write_bytes(header + entry("a").tobuf() + bytes(1024))
    assert "a pax header sets" in refused(path)


def test_what_is_cut_short_or_goes_on_after_its_end_is_refused(tmp_path: Path) -> None:
    path = write_layer(TREE, tmp_path / "x.tar").path
    whole = path.read_bytes()
    end = whole.rindex(b"workspace")
    path.write_bytes(whole[: end + 100])
    assert refused(path)
    path.write_bytes(whole[: end // 512 * 512 + 512])
    assert "no header of a tar" in refused(path)
    path.write_bytes(whole + entry("more").tobuf())
    assert "something after its end" in refused(path)
