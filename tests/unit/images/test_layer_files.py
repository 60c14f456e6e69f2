"""What is in an image of a stranger: whiteouts, hard links, folders that nobody names; and its list, kept."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from harness.engine import kept_files
from harness.engine.file_list import image_files
from harness.engine.image_archive import SavedImage
from harness.engine.layer_files import contents_of
from harness.engine.layers import Entry, write_layer
from harness.host.state import State

Part = tuple[str, dict[str, Any]]


def layer(folder: Path, *parts: Part) -> Path:
    """A tar of (name, what TarInfo gets and `data`)."""
    path = folder / f"{len(list(folder.iterdir()))}.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, fields in parts:
            info, data = tarfile.TarInfo(name), fields.pop("data", b"")
            info.size = len(data)
            for key, value in ({"mode": 0o644} | fields).items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data) if data else None)
    return path


def file(name: str, data: bytes = b"x", mode: int = 0o644) -> Part:
    return name, {"data": data, "mode": mode}


def folder(name: str) -> Part:
    return name, {"type": tarfile.DIRTYPE, "mode": 0o755}


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Part:
    return name, {"type": kind, "linkname": target}


def told(*layers: Path) -> dict[str, tuple[str, str]]:
    return {line.path: (line.mode, line.content[:4]) for line in contents_of(layers).lines}


def test_a_layer_hides_and_takes_away_what_is_below(tmp_path: Path) -> None:
    below = layer(
        tmp_path,
        folder("./etc"), file("./etc/keep"), file("./etc/gone"), folder("./old"), file("./old/a"),
        folder("./opaque"), file("./opaque/below"), file("./was-file"), folder("./was-folder"),
        file("./was-folder/x"),
    )  # fmt: skip
    above = layer(
        tmp_path,
        file("etc/.wh.gone", b""), file(".wh.old", b""), file("opaque/above"),
        file("opaque/.wh..wh..opq", b""), file("was-file/now"), link("was-folder", "etc"),
    )  # fmt: skip
    found = told(below, above)
    assert sorted(found) == [
        "etc", "etc/keep", "opaque", "opaque/above", "was-file", "was-file/now", "was-folder",
    ]  # fmt: skip
    assert (found["was-file"], found["was-folder"]) == (("040000", ""), ("120000", "etc"))


def test_a_whiteout_is_of_what_is_below_alone(tmp_path: Path) -> None:
    """A layer that takes a name away and gives it anew, in whatever order."""
    below = layer(tmp_path, file("a/x"), file("a/y"))
    above = layer(tmp_path, file("a/x", b"new"), file("a/.wh.x", b""), file("a/.wh.y", b""))
    assert [line.path for line in contents_of([below, above]).lines] == ["a", "a/x"]
    assert contents_of([below, above]).lines[1].size == 3


def test_hard_links_devices_and_folders_without_a_line(tmp_path: Path) -> None:
    below = layer(tmp_path, file("usr/bin/tool", b"#!/bin/sh -e\n", 0o755))
    above = layer(
        tmp_path,
        link("usr/bin/same", "usr/bin/tool", tarfile.LNKTYPE),
        link("usr/bin/nothing", "no/where", tarfile.LNKTYPE),
        ("dev/null", {"type": tarfile.CHRTYPE}),
        ("run/pipe", {"type": tarfile.FIFOTYPE}),
        file("../out"), file("/absolute"),
    )  # fmt: skip
    contents = contents_of([below, above])
    lines = {line.path: line for line in contents.lines}
    assert lines["usr/bin/same"] == lines["usr/bin/tool"]._replace(path="usr/bin/same")
    assert set(lines) == {
        "absolute", "dev", "dev/null", "run", "run/pipe", "usr", "usr/bin", "usr/bin/nothing", "usr/bin/same",
        "usr/bin/tool",
    }  # fmt: skip
    assert contents.scripts == {"usr/bin/tool": "/bin/sh -e", "usr/bin/same": "/bin/sh -e"}


def test_scripts_are_programs_that_may_be_executed(tmp_path: Path) -> None:
    parts = (file("a", b"#!/bin/sh\n"), file("b", b"#!/bin/sh\n", 0o755), file("c", b"\x7fELF", 0o755))
    contents = contents_of([layer(tmp_path, *parts)])
    assert contents.scripts == {"b": "/bin/sh"}
    files = image_files(contents.lines, contents.scripts)
    assert files.programs == {b"/b", b"/c"}
    assert files.scripts == {b"/b": b"/bin/sh"}


def test_names_that_are_no_text_stay_what_they_are(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    assert image_files(contents_of([layer(tmp_path, file(name))]).lines).paths == {b"/caf\xe9"}


def test_it_is_the_list_that_building_keeps(tmp_path: Path) -> None:
    tree = {"a/b": Entry(source=b"x"), "c": Entry(target="a/b"), "d": Entry(source=b"y", executable=True)}
    built = write_layer(tree, tmp_path / "layer.tar")
    assert [list(line) for line in contents_of([built.path]).lines] == [
        json.loads(line) for line in built.list_path.read_bytes().splitlines()
    ]


def test_a_list_is_computed_once_and_again_when_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, saved = State(tmp_path / "state").prepare(), []
    path = layer(tmp_path, file("app/agent", b"#!/bin/sh\n", 0o755))

    def save(_client: object, identity: str, _folder: Path, **_: object) -> SavedImage:
        saved.append(identity)
        return SavedImage(b"{}", (("sha256:0", path),))

    monkeypatch.setattr(kept_files, "save_image", save)
    first = kept_files.files_of_image(None, "sha256:abc", state=state)
    assert first.has(b"/app/agent")
    assert first.scripts == {b"/app/agent": b"/bin/sh"}
    assert kept_files.files_of_image(None, "sha256:abc", state=state) == first
    assert saved == ["sha256:abc"]
    kept = state.cache / "images" / "abc.files"
    kept.write_bytes(kept.read_bytes().replace(b"agent", b"tnega"))
    assert kept_files.files_of_image(None, "sha256:abc", state=state) == first
    assert saved == ["sha256:abc"] * 2
