"""Images on their way into engines and out of them, as far as no engine is needed."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound

from harness.engine import answers
from harness.engine.handles import is_containerd_store, known_handles, known_identity, remember
from harness.engine.image_archive import SavedImage, load_archive
from harness.engine.saved_images import image_identity, save_image
from harness.errors import EnvironmentUnfitError, InputError, VerificationError
from harness.host.state import State

CONTAINERD = {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(text: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("file")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
    return data.getvalue()


def config(*layers: bytes, architecture: str = "amd64") -> bytes:
    diff_ids = [digest(data) for data in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    return json.dumps({"architecture": architecture, "os": "linux", "rootfs": rootfs}).encode()


@pytest.fixture
def image(tmp_path: Path) -> SavedImage:
    """Two layers, the lower one twice."""
    parts = []
    for text in ("below", "above"):
        (tmp_path / text).write_bytes(layer(text))
        parts.append((digest(layer(text)), tmp_path / text))
    below, above = parts
    return SavedImage(config(*(layer(text) for text in ("below", "above", "below"))), (below, above, below))


class Engine:
    """Has images under their handles; what it loads gets the handle `names(archive)`."""

    def __init__(self, info: dict[str, Any], names: Any = None) -> None:
        self.images = self.api = self
        self._info, self._names = info, names
        self.has: dict[str, bytes] = {}
        self.saves = 0

    def info(self) -> dict[str, Any]:
        return self._info

    def get(self, name: str) -> Any:
        if name not in self.has:
            raise ImageNotFound("no such image")
        return type("Image", (), {"id": name})

    def get_image(self, name: str) -> Iterator[bytes]:
        self.saves += 1
        yield self.has[name]

    def load_image(self, data: Iterator[bytes]) -> list[dict[str, str]]:
        whole = b"".join(data)
        handle = self._names(whole)
        self.has[handle] = whole
        return [{"stream": f"Loaded image ID: {handle}\n"}]

    def remove_image(self, name: str) -> None:
        if name not in self.has:
            raise APIError("no such image")
        del self.has[name]


def members(whole: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]


def by_config(whole: bytes) -> str:
    """As graph drivers and podman do."""
    files = members(whole)
    return digest(files[json.loads(files["manifest.json"])[0]["Config"]])


def by_manifest(whole: bytes) -> str:
    """As the containerd store does."""
    return str(json.loads(members(whole)["index.json"])["manifests"][0]["digest"])


def test_both_formats_name_the_same_blobs(image: SavedImage) -> None:
    files = members(b"".join(image.chunks()))
    assert all(name.startswith("blobs/sha256/") == (digest(data)[7:] in name) for name, data in files.items())
    assert len(files) == 3 + 4, "three descriptions; config, manifest and each layer once"
    (docker,) = json.loads(files["manifest.json"])
    described = json.loads(files["index.json"])["manifests"][0]
    manifest = json.loads(files[f"blobs/sha256/{described['digest'][7:]}"])
    assert described["digest"] == image.manifest_digest
    assert docker["RepoTags"] is None
    assert docker["Config"] == f"blobs/sha256/{image.id[7:]}"
    assert manifest["config"]["digest"] == image.id
    layers = [one["digest"] for one in manifest["layers"]]
    assert layers == json.loads(image.config)["rootfs"]["diff_ids"]
    assert docker["Layers"] == [f"blobs/sha256/{one[7:]}" for one in layers]
    for one in (described, manifest["config"], *manifest["layers"]):
        assert len(files[f"blobs/sha256/{one['digest'][7:]}"]) == one["size"]


@pytest.mark.parametrize("names", [by_config, by_manifest])
def test_either_kind_of_engine_has_a_handle_that_is_known_beforehand(image: SavedImage, names: Any) -> None:
    engine = Engine({}, names)
    assert load_archive(engine, image) in image.handles
    assert len(engine.has) == 1


def test_an_engine_with_a_third_name_forgets_the_image_again(image: SavedImage) -> None:
    engine = Engine({}, digest)
    with pytest.raises(EnvironmentUnfitError, match="under another ID"):
        load_archive(engine, image)
    assert engine.has == {}


def foreign(*, packed: bool = False, other_first: bool = False) -> tuple[bytes, bytes]:
    """What `docker save` may write, and the config of the image in it."""
    data = layer("x")
    kept = gzip.compress(data, mtime=0) if packed else data
    parts = {"config": config(data), "layer": kept, "other": config(data, architecture="s390x")}
    entries = [{"Config": "config", "Layers": ["layer"]}, {"Config": "other", "Layers": ["layer"]}]
    parts["manifest.json"] = json.dumps(entries[:: -1 if other_first else 1]).encode()
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, part in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(part)
            tar.addfile(info, io.BytesIO(part))
    return whole.getvalue(), parts["config"]


def test_a_handle_is_an_identity_unless_the_store_is_containerds(tmp_path: Path) -> None:
    engine = Engine({"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]]})
    assert image_identity(engine, State(tmp_path).prepare(), "sha256:x") == "sha256:x"
    assert engine.saves == 0
    assert is_containerd_store(CONTAINERD | {"Driver": "overlay2"})
    assert not is_containerd_store({"Driver": "overlayfs", "DriverStatus": None})


@pytest.mark.parametrize("other_first", [False, True])
def test_a_foreign_image_is_saved_once_to_know_it(tmp_path: Path, other_first: bool) -> None:
    state, handle = State(tmp_path).prepare(), digest(b"a manifest")
    whole, wanted = foreign(other_first=other_first)
    engine = Engine(CONTAINERD)
    engine.has[handle] = whole
    for _ in range(2):
        assert image_identity(engine, state, handle) == digest(wanted)
    assert engine.saves == 1
    assert known_handles(state, digest(wanted)) == [handle]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "engine", "locks", "runs"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_a_foreign_image_is_found_by_what_was_seen_or_by_its_tag(
    tmp_path: Path, known: bool, packed: bool
) -> None:
    state, handle = State(tmp_path / "state").prepare(), digest(b"a manifest")
    whole, wanted = foreign(packed=packed)
    engine = Engine(CONTAINERD)
    engine.has[handle if known else "my/agent:1"] = whole
    if known:
        remember(state, handle, digest(wanted))
    saved = save_image(engine, digest(wanted), tmp_path, tag="my/agent:1", state=state)
    assert saved.config == wanted
    assert [path.read_bytes() for path in saved.files.values()] == [layer("x")]


def test_another_image_under_the_tag_is_not_taken(tmp_path: Path) -> None:
    engine = Engine(CONTAINERD)
    engine.has["my/agent:1"], wanted = foreign()
    with pytest.raises(InputError, match=f"its my/agent:1 is {digest(wanted)}"):
        save_image(engine, digest(b"another"), tmp_path, tag="my/agent:1")


def test_an_engine_that_lies_about_an_id_is_not_believed(tmp_path: Path) -> None:
    engine = Engine({})
    engine.has[digest(b"another")], _ = foreign()
    with pytest.raises(VerificationError, match="ImageIdMismatch"):
        save_image(engine, digest(b"another"), tmp_path)


def test_a_damaged_layer_is_not_taken(tmp_path: Path) -> None:
    engine = Engine({})
    whole, wanted = foreign()
    engine.has[digest(wanted)] = whole.replace(b"x\0\0\0", b"y\0\0\0")
    with pytest.raises(VerificationError, match="LayerDigestMismatch"):
        save_image(engine, digest(wanted), tmp_path)


def test_a_damaged_note_of_handles_is_as_none(tmp_path: Path) -> None:
    state = State(tmp_path).prepare()
    one, two = digest(b"1"), digest(b"2")
    for damage in (b"", b"{", b"[1]", b'{"a": 1}', b"\xff", json.dumps({one: "../x"}).encode()):
        (state.cache / "handles.json").write_bytes(damage)
        assert known_identity(state, one) is None
        remember(state, one, two)
        assert known_identity(state, one) == two


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no\nsuch\x1b[2Jthing\t", "no such [2Jthing"),
        ("a" * 320, "a" * 320),
        ("open {" + "b" * 4600 + "}: file name too long", None),
    ],
)
def test_what_an_engine_says_is_one_line_with_both_its_ends(text: str, said: str | None) -> None:
    found = answers.said(APIError("x", explanation=text))
    assert found == said or (
        found.startswith("open {b") and found.endswith("}: file name too long") and len(found) < 330
    )


RUNC = "failed to create shim task: OCI runtime create failed: unable to start container process: "
GONE = "OCI runtime attempted to invoke a command that was not found"


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (
            f'{RUNC}exec: "/nope": stat /nope: no such file or directory: unknown',
            '"/nope": stat /nope: no such file or directory',
        ),
        (
            f'runc: exec: "nope": executable file not found in $PATH: {GONE}',
            '"nope": executable file not found in $PATH',
        ),
        (f"crun: executable file `/nope` not found: No such file or directory: {GONE}", '"/nope": not found'),
        (f"crun: executable file `nope` not found in $PATH: x: {GONE}", '"nope": not found in $PATH'),
        (
            "crun: the path `/etc` is not a regular file: Operation not permitted: OCI permission denied",
            '"/etc": is not a regular file',
        ),
        ("crun: setrlimit (RLIM_MEMLOCK): Operation not permitted: OCI permission denied", None),
        ("", None),
    ],
)
def test_a_program_that_is_not_there_is_told_from_all_else(text: str, missing: str | None) -> None:
    assert answers.no_program(APIError("x", explanation=text)) == missing
