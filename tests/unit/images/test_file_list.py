"""File lists: what is at each path, whose digest changes with anything, and where two images part."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine import file_list
from harness.engine.file_list import Listed, first_difference, image_files, merged
from harness.engine.images import read_list
from harness.engine.layers import Entry, check_layer, write_layer
from harness.errors import VerificationError

DATA = b"print(1)\n"
TREE = {
    "opt/app/run": Entry(source=b"#!\n", executable=True),
    "opt/app/b.py": Entry(source=DATA),
    "lib": Entry(target="usr/lib"),
}


def test_a_layer_has_its_list_beside_it_with_folders_and_links(tmp_path: Path) -> None:
    layer = write_layer(TREE, tmp_path / "layer.tar")
    assert layer.list_path == tmp_path / "layer.files"
    assert read_list(layer) == [
        Listed("lib", "120000", 7, "usr/lib"),
        Listed("opt", "040000", 0, ""),
        Listed("opt/app", "040000", 0, ""),
        Listed("opt/app/b.py", "100644", 9, hashlib.sha256(DATA).hexdigest()),
        Listed("opt/app/run", "100755", 3, hashlib.sha256(b"#!\n").hexdigest()),
    ]


def test_files_of_the_host_are_listed_by_their_bytes_alone(tmp_path: Path) -> None:
    file = tmp_path / "b.py"
    file.write_bytes(DATA)
    file.chmod(0o600)
    other = TREE | {"opt/app/b.py": Entry(source=file)}
    first, second = write_layer(TREE, tmp_path / "1.tar"), write_layer(other, tmp_path / "2.tar")
    assert first.files == second.files


@pytest.mark.parametrize(
    "change",
    [
        {"opt/app/run": Entry(source=b"#!\n")},
        {"opt/app/b.py": Entry(source=b"print(2)\n")},
        {"lib": Entry(target="usr/lib64")},
        {"opt/new": Entry()},
    ],
)
def test_every_change_changes_its_digest(tmp_path: Path, change: dict[str, Entry]) -> None:
    first, second = write_layer(TREE, tmp_path / "1.tar"), write_layer(TREE | change, tmp_path / "2.tar")
    assert first.files != second.files


def test_a_changed_list_is_refused_by_name(tmp_path: Path) -> None:
    layer = write_layer(TREE, tmp_path / "layer.tar")
    layer.list_path.write_bytes(layer.list_path.read_bytes().replace(b'"opt/app/b.py"', b'"opt/app/c.py"'))
    for look in (read_list, check_layer):
        with pytest.raises(VerificationError, match="FileListDigestMismatch") as caught:
            look(layer)
        assert caught.value.place == str(layer.list_path)


def test_what_is_above_hides_what_is_below() -> None:
    below = [Listed("a", "100644", 1, "x"), Listed("b", "120000", 1, "a")]
    above = [Listed("b", "040000", 0, ""), Listed("b/c", "100644", 2, "y")]
    assert merged([below, above]) == [below[0], *above]
    assert merged([above, below]) == [below[0], below[1], above[1]]


def test_evidence_gets_absolute_paths_folders_and_links_among_them() -> None:
    lines = [
        Listed("usr", "040000", 0, ""),
        Listed("usr/lib/é", "100644", 1, "x"),
        Listed("l", "120000", 3, "usr"),
    ]
    files = image_files(lines)
    assert files.paths == {b"/usr", "/usr/lib/é".encode(), b"/l"}
    assert files.sha256 == f"sha256:{hashlib.sha256(file_list.to_bytes(lines)).hexdigest()}"


def test_the_first_difference_is_named_with_both_sides() -> None:
    old = [Listed("a", "100644", 1, "x"), Listed("b", "100644", 1, "y")]
    assert first_difference(old, old) is None
    assert first_difference(old, [old[0], Listed("b", "100755", 1, "y")]) == (
        "b: (100644 1 y) became (100755 1 y)"
    )
    assert first_difference(old, old[1:]) == "a: (100644 1 x) became (nothing)"
    assert first_difference(old, [Listed("A", "040000", 0, ""), *old]) == "A: (nothing) became (040000 0 )"


@given(st.lists(st.builds(Listed, st.text(), st.text(), st.integers(0), st.text())))
def test_any_list_reads_back(lines: list[Listed]) -> None:
    assert file_list.from_bytes(file_list.to_bytes(lines)) == lines
