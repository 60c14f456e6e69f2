"""All that is done with an engine: the commands as people type them, and what must come of them."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
from attrs import frozen

from harness.bundle.reader import read_archive
from harness.engine.image_lock import read_lock
from harness.host.cgroup import find_root
from harness.host.state import State
from harness.plan import FIXTURES
from tests.engines.rows import Row

FOREIGN = "localhost/assay-engine-test/foreign:latest"  # podman 4.3 gives an import no other name
_BUILT = ("kernel-only", "kernel-policy")


@frozen
class At:
    """An engine's `url`, and what a command follows (`join`) to be where the engine's host is."""

    url: str
    join: tuple[str, ...] = ()


def command(at: At | None, *arguments: str | Path) -> list[str]:
    """The product's command line, to be run beside this engine."""
    return [*(at.join if at else ()), sys.executable, "-m", "harness", *map(str, arguments)]


def environment(state: State, at: At | None) -> dict[str, str]:
    """Of a command with this state folder and engine."""
    found = os.environ | {"ASSAY_RUNNER_STATE": str(state.root)}
    found.pop("DOCKER_HOST", None)
    return found | ({"DOCKER_HOST": at.url} if at else {})


def said(state: State, at: At | None, *arguments: str | Path, code: int = 0) -> str:
    """What the product says with this engine (None: its private one); it must end with `code`."""
    done = subprocess.run(
        command(at, *arguments),
        env=environment(state, at),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def check_row(row: Row, at: At, state: State, probe: Path, folder: Path) -> None:
    """Everything passes, with the IDs of the locks; kits go both ways; nothing is left."""
    doctor = said(state, at, "doctor")
    assert re.search(rf"^ok +engine: engine=(podman )?{re.escape(row.version)}\.", doctor, re.MULTILINE), (
        doctor
    )
    assert f"runtime={row.runtime} " in doctor
    assert f"image_store={'containerd' if row.containerd else 'graph driver'} " in doctor

    ids = {name: lock.id for name in _BUILT if (lock := read_lock(FIXTURES / name)) is not None}
    built = said(state, at, "image", "build", *_BUILT)
    assert [line for line in built.splitlines() if " sha256:" in line] == [
        f"assay-runner/{name}:{identity[7:19]} {identity}" for name, identity in ids.items()
    ]
    with closing(docker.DockerClient(base_url=at.url, version="auto")) as client:
        held = _images(client)
        assert len(held) == len(ids)
        assert (held == set(ids.values())) != row.containerd, (
            "the handles are IDs, but in the containerd store"
        )

        said(state, at, "gate", "kernel-only", "--runs", "2", "-o", folder / "gates")
        here, there = folder / "here.tar.gz", folder / "there.tar.gz"
        said(state, at, "run", "kernel-policy", "-o", here)
        said(state, None, "run", "kernel-policy", "-o", there)
        said(state, at, "kit", here, "-o", folder / "here.kit")
        said(state, None, "kit", there, "-o", folder / "there.kit")
        for kit, engine in (("here", at), ("there", at), ("here", None)):
            assert _equal(said(state, engine, "replay", folder / f"{kit}.kit", "--trust", "--json"))
        assert _images(client) == held

        _check_foreign(client, at, state, probe, folder)
        assert _images(client) == held
        assert client.containers.list(all=True) == []
    runs = {read_archive(path).run_id for path in folder.rglob("*.tar.gz")}
    assert len(runs) >= 4, "of the gate, here, there, of the foreign image"
    assert _cgroups(runs) == []


def check_refusal(row: Row, at: At, state: State, folder: Path) -> None:
    """doctor and run refuse it by the same line, with a remedy, and nothing was done."""
    doctor = said(state, at, "doctor", code=5)
    (line,) = (line for line in doctor.splitlines() if line.startswith("FAIL engine: "))
    assert row.refused in line
    run = said(state, at, "run", "kernel-only", "-o", folder / "x.tar.gz", code=5)
    assert line.removeprefix("FAIL ") in run
    assert not (folder / "x.tar.gz").exists()


def _check_foreign(client: docker.DockerClient, at: At, state: State, probe: Path, folder: Path) -> None:
    """An image that somebody else made: measured by name, recorded by its config, packed, gone, replayed."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(probe, "probe", filter=_plain)
        for name in ("workspace", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
    repository, _, tag = FOREIGN.partition(":")
    client.api.import_image_from_data(data.getvalue(), repository=repository, tag=tag)
    archive, kit = folder / "foreign.tar.gz", folder / "foreign.kit"
    said(state, at, "run", "--image", FOREIGN, "-o", archive, "--", "/probe", "calls")
    recorded = json.loads(read_archive(archive).members["companion/runspec.json"])["image_id"]
    said(state, at, "kit", archive, "-o", kit)
    client.api.remove_image(FOREIGN)
    result = said(state, at, "replay", kit, "--trust", "--json")
    assert _json(result)["image_id"] == recorded
    assert _equal(result)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _equal(result: str) -> bool:
    document = _json(result)
    return document["equal"] is True and len(document["compared"]) >= 9


def _json(told: str) -> dict[str, Any]:
    """The document that stands on stdout, before what stderr says."""
    document: dict[str, Any] = json.JSONDecoder().raw_decode(told[told.index("{") :])[0]
    return document


def _images(client: docker.DockerClient) -> set[str]:
    return {str(image.id) for image in client.images.list(all=True)}


def _cgroups(runs: set[str]) -> list[str]:
    """Of these runs, in any hierarchy, and units of them by the same names."""
    mounts = {find_root().mount, *Path("/sys/fs/cgroup").glob("*")}
    found = (f"{folder}/{name}" for mount in mounts for folder, names, _ in os.walk(mount) for name in names)
    return [path for path in found if any(run in path for run in runs)]
