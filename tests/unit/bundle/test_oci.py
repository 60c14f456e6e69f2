"""An OCI layout gives back what was pushed, and a changed one gives nothing."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.bundle.attest import statement_of
from harness.bundle.oci import ARCHIVE_TYPE, MAX_MANIFEST, fetch, push
from harness.bundle.signing import sign
from harness.bundle.verify import check
from harness.cli import main
from harness.contracts.canonical import sha256_of, to_bytes
from harness.errors import InputError, VerificationError
from tests.unit.bundle.keys import Pair, new_pair

GOLDEN = Path(__file__).parents[2] / "golden" / "diff"
S5, HIDDEN = GOLDEN / "s5.tar.gz", GOLDEN / "hidden-write.tar.gz"
EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
Spoil = Callable[[Path], object]


def attested(path: Path, pair: Pair, output: Path) -> Path:
    output.write_bytes(sign(statement_of(check(path)), pair.signer))
    return output


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return new_pair(tmp_path, "one")


@pytest.fixture
def layout(tmp_path: Path, pair: Pair) -> Path:
    """The archive s5 with one attestation, tagged one."""
    push(tmp_path / "layout", S5, attested(S5, pair, tmp_path / "att"), "one")
    return tmp_path / "layout"


def index(layout: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((layout / "index.json").read_bytes())
    return document


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def manifest(layout: Path, number: int) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        blob(layout, index(layout)["manifests"][number]["digest"]).read_bytes()
    )
    return document


def test_the_layout_is_as_the_image_spec_has_it(layout: Path) -> None:
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    main_entry, referrer = index(layout)["manifests"]
    for entry in (main_entry, referrer):
        data = blob(layout, entry["digest"]).read_bytes()
        assert (sha256_of(data), len(data)) == (entry["digest"], entry["size"])
        document = json.loads(data)
        assert document["mediaType"] == entry["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        assert document["artifactType"] == entry["artifactType"]
        assert document["config"] == {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": EMPTY,
            "size": 2,
        }
    assert main_entry["artifactType"] == ARCHIVE_TYPE
    assert "subject" not in manifest(layout, 0)
    subject = {key: main_entry[key] for key in ("mediaType", "digest", "size")}
    assert manifest(layout, 1)["subject"] == subject
    assert blob(layout, manifest(layout, 0)["layers"][0]["digest"]).read_bytes() == S5.read_bytes()
    assert sorted(path.name for path in layout.iterdir()) == ["blobs", "index.json", "oci-layout"]


def test_what_is_fetched_is_what_was_pushed(layout: Path, tmp_path: Path) -> None:
    assert fetch(layout, tmp_path / "out.tar.gz") == 1
    assert (tmp_path / "out.tar.gz").read_bytes() == S5.read_bytes()
    assert (tmp_path / "out.tar.gz.intoto.jsonl").read_bytes() == (tmp_path / "att").read_bytes()


def test_a_push_makes_the_same_bytes_each_time(layout: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in layout.rglob("*") if path.is_file()}
    push(layout, S5, tmp_path / "att", "one")
    assert {path: path.read_bytes() for path in layout.rglob("*") if path.is_file()} == before


def test_several_archives_signers_and_strangers_images(layout: Path, tmp_path: Path, pair: Pair) -> None:
    document = index(layout)
    foreign = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": EMPTY, "size": 2, "x": 1}
    document["manifests"].append(foreign)
    (layout / "index.json").write_bytes(to_bytes(document))
    other = new_pair(tmp_path, "two")
    push(layout, S5, attested(S5, other, tmp_path / "att2"), "one")
    push(layout, HIDDEN, None)
    assert foreign in index(layout)["manifests"]
    assert fetch(layout, tmp_path / "s5.tar.gz", "one") == 2
    assert fetch(layout, tmp_path / "hidden.tar.gz", check(HIDDEN).run_id) == 0
    assert (tmp_path / "hidden.tar.gz").read_bytes() == HIDDEN.read_bytes()
    both = ["verify", str(tmp_path / "s5.tar.gz"), "--key"]
    assert main([*both, str(pair.public)]) == main([*both, str(other.public)]) == 0
    with pytest.raises(InputError, match="has 2 archives") as caught:
        fetch(layout, tmp_path / "x")
    assert "'one'" in caught.value.hint
    with pytest.raises(InputError, match="has 0 archives"):
        fetch(layout, tmp_path / "x", "none")


def test_a_tag_that_moves_on_takes_its_attestations_off(layout: Path, tmp_path: Path) -> None:
    push(layout, HIDDEN, None, "one")
    assert fetch(layout, tmp_path / "out.tar.gz", "one") == 0
    assert (tmp_path / "out.tar.gz").read_bytes() == HIDDEN.read_bytes()
    assert len(index(layout)["manifests"]) == 1


# A layout from a stranger


def with_index(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    def spoil(layout: Path) -> None:
        document = index(layout)
        change(document)
        (layout / "index.json").write_bytes(to_bytes(document))

    return spoil


def with_manifest(number: int, change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """A changed manifest, and an index that was made to fit."""

    def spoil(layout: Path) -> None:
        document = manifest(layout, number)
        change(document)
        data = to_bytes(document)
        blob(layout, sha256_of(data)).write_bytes(data)
        whole = index(layout)
        whole["manifests"][number] |= {"digest": sha256_of(data), "size": len(data)}
        (layout / "index.json").write_bytes(to_bytes(whole))

    return spoil


def with_layer(number: int, change: Callable[[Path], Any]) -> Spoil:
    def spoil(layout: Path) -> None:
        change(blob(layout, manifest(layout, number)["layers"][0]["digest"]))

    return spoil


def digest(text: str) -> Callable[[dict[str, Any]], Any]:
    return lambda document: document["layers"][0].update(digest=text)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def link(path: Path) -> None:
    real = path.with_name("real")
    path.rename(real)
    path.symlink_to(real)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def another_archive(layout: Path) -> None:
    """A layer that is well described, but is no archive that holds."""
    data = S5.read_bytes()[:-1] + b"~"
    blob(layout, sha256_of(data)).write_bytes(data)
    entry = {"digest": sha256_of(data), "size": len(data)}
    with_manifest(0, lambda document: document["layers"][0].update(entry))(layout)


BROKEN: dict[str, tuple[str, Spoil]] = {
    "a flipped layer": ("IntegrityOciDigest", with_layer(0, flip)),
    "a flipped attestation": ("IntegrityOciDigest", with_layer(1, flip)),
    "a longer layer": ("LimitOci", with_layer(0, lambda path: path.write_bytes(S5.read_bytes() + b"x"))),
    "a shorter layer": ("IntegrityOciSize", with_layer(0, lambda path: path.write_bytes(b"x"))),
    "a missing layer": ("ContractOciMissing", with_layer(0, Path.unlink)),
    "a layer that is a link": ("ContractOciMissing", with_layer(0, link)),
    "a layer that is a fifo": ("ContractOci", with_layer(0, fifo)),
    "another archive": ("IntegrityGzip", another_archive),
    "a digest that climbs": ("ContractOci", with_manifest(0, digest("sha256:../../../etc/passwd"))),
    "a digest that is absolute": ("ContractOci", with_manifest(0, digest("/etc/passwd"))),
    "a digest in capitals": ("ContractOci", with_manifest(0, digest("sha256:" + "0F" * 32))),
    "a digest with a newline": ("ContractOci", with_manifest(0, digest("sha256:" + "0f" * 32 + "\n"))),
    "another algorithm": ("ContractOci", with_manifest(0, digest("sha512:" + "0f" * 64))),
    "a size that is huge": (
        "LimitOci",
        with_manifest(0, lambda document: document["layers"][0].update(size=1 << 62)),
    ),
    "a size that is negative": (
        "ContractOci",
        with_manifest(0, lambda document: document["layers"][0].update(size=-1)),
    ),
    "a size that is true": (
        "ContractOci",
        with_manifest(0, lambda document: document["layers"][0].update(size=True)),
    ),
    "two layers": (
        "ContractOci",
        with_manifest(0, lambda document: document.update(layers=document["layers"] * 2)),
    ),
    "no layers": ("ContractOci", with_manifest(1, lambda document: document.pop("layers"))),
    "another layer type": (
        "ContractOci",
        with_manifest(0, lambda document: document["layers"][0].update(mediaType="text/plain")),
    ),
    "manifests that are none": ("ContractOci", with_index(lambda document: document.update(manifests="x"))),
    "an entry that is none": ("ContractOci", with_index(lambda document: document["manifests"].append(1))),
    "an index of version 1": ("ContractOci", with_index(lambda document: document.update(schemaVersion=1))),
    "an index with a key twice": (
        "ContractOci",
        lambda layout: (layout / "index.json").write_bytes(b'{"schemaVersion":2,"schemaVersion":2}'),
    ),
    "a huge index": (
        "LimitOci",
        lambda layout: (layout / "index.json").write_bytes(b" " * (MAX_MANIFEST + 1)),
    ),
    "no index": ("ContractOciMissing", lambda layout: (layout / "index.json").unlink()),
    "an index that is a link": ("ContractOciMissing", lambda layout: link(layout / "index.json")),
    "another layout version": (
        "ContractOci",
        lambda layout: (layout / "oci-layout").write_bytes(b'{"imageLayoutVersion":"2.0.0"}'),
    ),
    "no layout file": ("ContractOciMissing", lambda layout: (layout / "oci-layout").unlink()),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_layout_gives_nothing(layout: Path, tmp_path: Path, name: str) -> None:
    wanted, spoil = BROKEN[name]
    spoil(layout)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VerificationError) as caught:
        fetch(layout, tmp_path / "out.tar.gz")
    assert caught.value.code == wanted
    assert caught.value.place
    assert sorted(tmp_path.rglob("*")) == before


def test_a_stranger_s_name_in_an_error_does_not_reach_the_terminal_raw(layout: Path, tmp_path: Path) -> None:
    name = {"org.opencontainers.image.ref.name": "\x1b[2J"}
    with_index(lambda document: document["manifests"][0].update(annotations=name))(layout)
    with pytest.raises(InputError) as caught:
        fetch(layout, tmp_path / "x", "one")
    assert "\x1b" not in str(caught.value)


# The commands


def test_push_and_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(S5, "run.tar.gz")
    assert main(["attest", "run.tar.gz", "--key", "one.pem"]) == 0
    assert main(["oci", "push", "run.tar.gz", "layout"]) == 0
    assert main(["oci", "fetch", "layout", "-o", "got.tar.gz"]) == 0
    assert main(["verify", "got.tar.gz", "--key", "one.pub"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["push", "none.tar.gz", "new"], "no such archive", 2),
        (["push", "s5.tar.gz", "no/such/folder"], "no such folder", 2),
        (["push", "s5.tar.gz", "."], "is no OCI layout", 2),
        (["push", "s5.tar.gz", "s5.tar.gz"], "is no OCI layout", 2),
        (["push", "folder", "new"], "is a folder", 2),
        (["push", "s5.tar.gz", "new", "--tag", "../x"], "cannot be a tag", 2),
        (["push", "s5.tar.gz", "new", "--tag", "x" * 101], "cannot be a tag", 2),
        (["push", "s5.tar.gz", "new", "--attestation", "none"], "no such attestation", 2),
        (["push", "bad.tar.gz", "new", "--tag", "x"], "IntegrityGzip", 4),
        (["fetch", "none", "-o", "x"], "ContractOciMissing", 4),
    ],
)
def test_bad_usage_leaves_nothing_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(S5, "s5.tar.gz")
    Path("bad.tar.gz").write_bytes(b"x")
    Path("folder").mkdir()
    assert main(["oci", *arguments]) == code
    said = capsys.readouterr().err
    assert message in said
    assert "\n  hint: " in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar.gz", "folder", "s5.tar.gz"]
