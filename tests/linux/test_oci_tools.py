"""The layouts that we write, in the hands of skopeo, which knows nothing of us."""

import json
import subprocess
from pathlib import Path

import pytest

from harness.bundle.oci import fetch, push
from harness.contracts.canonical import sha256_of
from harness.errors import VerificationError

pytestmark = pytest.mark.linux

S5 = Path(__file__).parents[1] / "golden" / "diff" / "s5.tar.gz"


def skopeo(*arguments: str | Path) -> bytes:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *arguments], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    (tmp_path / "attestation").write_bytes(b'{"payload":""}\n')
    push(tmp_path / "layout", S5, tmp_path / "attestation", "one")
    return tmp_path / "layout"


def test_skopeo_reads_the_manifest_that_we_named(layout: Path) -> None:
    [entry, _] = json.loads((layout / "index.json").read_bytes())["manifests"]
    raw = skopeo("inspect", "--raw", f"oci:{layout}:one")
    assert (sha256_of(raw), len(raw)) == (entry["digest"], entry["size"])


def test_what_skopeo_carried_is_fetched_again(layout: Path, tmp_path: Path) -> None:
    names = [
        entry["annotations"]["org.opencontainers.image.ref.name"]
        for entry in json.loads((layout / "index.json").read_bytes())["manifests"]
    ]
    there = tmp_path / "there"
    for name in names:
        skopeo("copy", f"oci:{layout}:{name}", f"oci:{there}:{name}")
    assert fetch(there, tmp_path / "out.tar.gz") == 1
    assert (tmp_path / "out.tar.gz").read_bytes() == S5.read_bytes()
    assert (tmp_path / "out.tar.gz.intoto.jsonl").read_bytes() == (tmp_path / "attestation").read_bytes()


def test_skopeo_and_we_refuse_the_same_layer(layout: Path, tmp_path: Path) -> None:
    raw = json.loads(skopeo("inspect", "--raw", f"oci:{layout}:one"))
    layer = layout / "blobs" / "sha256" / raw["layers"][0]["digest"].removeprefix("sha256:")
    data = bytearray(layer.read_bytes())
    data[100] ^= 1
    layer.write_bytes(data)
    with pytest.raises(AssertionError, match="Digest did not match"):
        skopeo("copy", f"oci:{layout}:one", f"oci:{tmp_path / 'there'}:one")
    with pytest.raises(VerificationError, match="IntegrityOciDigest"):
        fetch(layout, tmp_path / "out.tar.gz")
