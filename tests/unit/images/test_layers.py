"""Layers and archives: the bytes depend on the content alone, and a changed layer is caught."""

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.layers import (
    SOURCE_DATE_EPOCH,
    Entry,
    ImageConfig,
    config_bytes,
    image_id,
    write_layer,
)
from harness.engine.loader_cache import ENTRY, HEADER, MAGIC, loader_cache

TREE = {
    "opt/app/b.py": Entry(source=b"print(1)\n"),
    "opt/app/a": Entry(source=b"#!\n", executable=True),
    "lib": Entry(target="usr/lib"),
    "workspace": Entry(),
}


def members(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return tar.getmembers()


def test_a_layer_has_its_parents_in_byte_order_with_fixed_metadata(tmp_path: Path) -> None:
    layer = write_layer(TREE, tmp_path / "layer.tar")
    found = members(layer.path)
    names = ["lib", "opt", "opt/app", "opt/app/a", "opt/app/b.py", "workspace"]
    assert [member.name for member in found] == names
    assert [member.mode for member in found] == [0o755, 0o755, 0o755, 0o755, 0o644, 0o755]
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in found} == {(0, 0, "", "", SOURCE_DATE_EPOCH)}
    assert found[0].linkname == "usr/lib"


def test_digest_and_size_are_those_of_the_file(tmp_path: Path) -> None:
    layer = write_layer(TREE, tmp_path / "layer.tar")
    data = layer.path.read_bytes()
    assert (layer.digest, layer.size) == (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


def test_order_of_the_tree_and_the_host_files_metadata_do_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "b.py"
    file.write_bytes(b"print(1)\n")
    file.chmod(0o600)
    os.utime(file, (1, 1))
    other = dict(reversed({**TREE, "opt/app/b.py": Entry(source=file)}.items()))
    first, second = write_layer(TREE, tmp_path / "1.tar"), write_layer(other, tmp_path / "2.tar")
    assert first.digest == second.digest


@pytest.mark.parametrize(
    "change",
    [
        {"opt/app/a": Entry(source=b"#!\n")},
        {"opt/app/b.py": Entry(source=b"print(2)\n")},
        {"lib": Entry(target="usr/lib64")},
        {"workspace2": Entry()},
    ],
)
def test_every_change_changes_the_digest(tmp_path: Path, change: dict[str, Entry]) -> None:
    first, second = write_layer(TREE, tmp_path / "1.tar"), write_layer(TREE | change, tmp_path / "2.tar")
    assert first.digest != second.digest


def test_the_image_id_is_the_digest_of_its_config(tmp_path: Path) -> None:
    layer = write_layer(TREE, tmp_path / "layer.tar")
    config = config_bytes(ImageConfig({"B": "2", "A": "1"}, {"label": "x"}), [layer])
    document = json.loads(config)
    assert document["config"]["Env"] == ["A=1", "B=2"]
    assert document["rootfs"]["diff_ids"] == [layer.digest]
    assert image_id(config) == f"sha256:{hashlib.sha256(config).hexdigest()}"


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,3}(/[a-zé._-]{1,3}){0,2}", fullmatch=True), st.binary(max_size=9))
)
def test_any_tree_reads_back(files: dict[str, bytes]) -> None:
    tree = {
        name: Entry(source=data)
        for name, data in files.items()
        if not any(other.startswith(f"{name}/") for other in files) and ".." not in name and "/." not in name
    }
    out = Path(f"/dev/shm/assay-layer-{os.getpid()}.tar")
    try:
        write_layer(tree, out)
        with tarfile.open(out) as tar:
            found = {m.name: tar.extractfile(m) for m in tar.getmembers() if m.isreg()}
            assert {n: f.read() for n, f in found.items() if f} == {n: e.source for n, e in tree.items()}
    finally:
        out.unlink(missing_ok=True)


def test_the_loader_cache_is_sorted_as_the_loader_searches_it() -> None:
    names = ["libz.so.1", "liba.so.9", "liba.so.10", "libz.so.1.2.13", "lib-x.so.1", "libstdc++.so.6"]
    data = loader_cache("/lib/x86_64-linux-gnu", [*names, "libz.so.1"])
    magic, count, length, endian, extensions = HEADER.unpack_from(data)
    assert (magic, count, endian, extensions) == (MAGIC, len(names), 2, 0)
    assert len(data) == HEADER.size + count * ENTRY.size + length

    def text(at: int) -> str:
        return data[at : data.index(b"\0", at)].decode()

    entries = [ENTRY.unpack_from(data, HEADER.size + i * ENTRY.size) for i in range(count)]
    # glibc's own order, as `ldconfig` writes it: descending, numbers by value and after other bytes
    assert [text(entry[1]) for entry in entries] == [
        "libz.so.1.2.13",
        "libz.so.1",
        "libstdc++.so.6",
        "liba.so.10",
        "liba.so.9",
        "lib-x.so.1",
    ]
    assert all(text(entry[2]) == f"/lib/x86_64-linux-gnu/{text(entry[1])}" for entry in entries)
