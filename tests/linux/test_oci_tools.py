"""The layouts that we write, in the hands of skopeo and of a registry, which know nothing of us."""

import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bundle.oci import MANIFEST_TYPE, fetch, push
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


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry of the test's own, on loopback; its host and port."""
    program = shutil.which("docker-registry") or shutil.which("registry")  # Debian's name, and its own
    assert program, "no docker-registry: requirements/system.txt"
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": address},
    }
    (tmp_path / "registry.yml").write_text(json.dumps(config))  # JSON is YAML
    with subprocess.Popen([program, "serve", tmp_path / "registry.yml"]) as server:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    assert asked(address, "/v2/")[0] == 200
                    break
                except ConnectionRefusedError:
                    assert server.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield address
        finally:
            server.terminate()


def asked(address: str, path: str) -> tuple[int, bytes]:
    """Status and body of a GET that takes OCI manifests."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("GET", path, headers={"Accept": MANIFEST_TYPE})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_what_a_registry_kept_is_fetched_again(layout: Path, registry: str, tmp_path: Path) -> None:
    """With the manifests byte for byte: the digest of the archive's is what its attestation's names."""
    entries = json.loads((layout / "index.json").read_bytes())["manifests"]
    for entry in entries:
        name = entry["annotations"]["org.opencontainers.image.ref.name"]
        there = f"docker://{registry}/team/runs:{name}"
        skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:{name}", there)
        skopeo("copy", "--src-tls-verify=false", there, f"oci:{tmp_path / 'back'}:{name}")
    manifests = [asked(registry, f"/v2/team/runs/manifests/{entry['digest']}") for entry in entries]
    assert [(status, sha256_of(body)) for status, body in manifests] == [(200, e["digest"]) for e in entries]
    assert json.loads(manifests[1][1])["subject"]["digest"] == entries[0]["digest"]
    assert fetch(tmp_path / "back", tmp_path / "out.tar.gz") == 1
    assert (tmp_path / "out.tar.gz").read_bytes() == S5.read_bytes()
    assert (tmp_path / "out.tar.gz.intoto.jsonl").read_bytes() == (tmp_path / "attestation").read_bytes()


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
