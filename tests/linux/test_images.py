"""Images are built from pinned parts, are the same everywhere, and hold nothing that is not declared."""

import json
import time
from pathlib import Path
from typing import Any

import docker
import pytest

from harness.engine.image_lock import lock_of, read_lock
from harness.engine.images import BuiltImage, build_image, ensure_image
from harness.engine.recipe import IMAGES, load_base, load_recipe
from harness.errors import VerificationError
from harness.host.state import State

pytestmark = pytest.mark.linux

FIXTURES = IMAGES.parent / "runner-fixtures"


@pytest.fixture(scope="module")
def python_image(engine: docker.DockerClient, state: State) -> BuiltImage:
    return ensure_image(engine, "kernel-only", state=state.root, fixtures=FIXTURES, progress=print)


@pytest.fixture(scope="module")
def node_image(engine: docker.DockerClient, state: State) -> BuiltImage:
    return ensure_image(engine, "openai-agents", state=state.root, fixtures=FIXTURES, progress=print)


def run(engine: docker.DockerClient, image: BuiltImage, *command: str, **more: Any) -> str:
    output: bytes = engine.containers.run(
        image.id, entrypoint=list(command), network_mode="none", read_only=True, remove=True, **more
    )
    return output.decode()


def test_the_loaded_image_is_the_built_one(engine: docker.DockerClient, node_image: BuiltImage) -> None:
    loaded = engine.images.get(node_image.id)
    assert loaded.id == node_image.id
    assert loaded.attrs["RootFS"]["Layers"] == list(node_image.layers)
    assert loaded.tags == [node_image.tag]
    assert loaded.labels == {
        "dev.assay.runner.image": "openai-agents",
        "dev.assay.runner.runtime_roots": json.dumps(list(node_image.runtime_roots), separators=(",", ":")),
    }


@pytest.mark.parametrize("name", ["kernel-only", "openai-agents"])
def test_pinned_parts_become_the_locked_layers(
    name: str, python_image: BuiltImage, node_image: BuiltImage
) -> None:
    image, lock = {"kernel-only": python_image, "openai-agents": node_image}[name], read_lock(FIXTURES / name)
    assert lock is not None
    assert lock == lock_of(load_recipe(FIXTURES / name), image)


def test_an_unchanged_image_is_found_in_50_ms(
    engine: docker.DockerClient, state: State, node_image: BuiltImage
) -> None:
    """Of this process's own time, whatever else the machine is doing."""
    said: list[str] = []
    took = []
    for _ in range(5):
        start = time.process_time()
        again = ensure_image(
            engine, "openai-agents", state=state.root, fixtures=FIXTURES, progress=said.append
        )
        took.append(time.process_time() - start)
        assert again == node_image
    assert said == []
    assert min(took) < 0.05


def test_a_build_elsewhere_gives_the_same_and_removes_what_a_killed_one_left(
    state: State, tmp_path: Path, python_image: BuiltImage
) -> None:
    other = tmp_path / "a" / "longer" / "path"
    (other / "cache/scratch-of-a-killed-build/folder").mkdir(parents=True)
    (other / "cache/layers").mkdir()
    for title, layer in python_image.parts:
        if title != "app":  # tests/linux/test_image_locks.py builds the others from empty caches
            for kind in (".tar", ".files", ".json"):
                path = layer.path.with_suffix(kind)
                (other / "cache/layers" / path.name).symlink_to(path)
    said: list[str] = []
    built = build_image("kernel-only", state=other, fixtures=FIXTURES, progress=said.append)
    assert built == python_image
    assert [line.partition(":")[0] for line in said] == ["building image layer app", "built image layer app"]
    assert [path.name for path in (other / "cache").glob("scratch-*")] == []


def test_the_base_holds_what_was_asked_for_and_no_shell(
    engine: docker.DockerClient, python_image: BuiltImage
) -> None:
    code = (
        "import os,json;"
        "print(json.dumps([sorted(os.listdir(d)) for d in ('/usr/bin','/','/run/assay','/etc')]))"
    )
    programs, root, points, etc = json.loads(
        run(engine, python_image, "/usr/bin/python3.11", "-I", "-c", code)
    )
    assert programs == ["env", "python3.11"]
    assert {"workspace", "proc", "sys", "dev", "tmp", "opt", "usr", "lib", "lib64", "bin"} <= set(root)
    assert points == ["decisions", "mcp", "policy", "sdk"]
    assert {"passwd", "group", "ld.so.cache"} <= set(etc)


def test_the_interpreter_is_complete(engine: docker.DockerClient, python_image: BuiltImage) -> None:
    modules = "asyncio bz2 ctypes decimal hashlib lzma multiprocessing sqlite3 ssl tomllib uuid venv zlib"
    code = (
        f"import locale,{modules.replace(' ', ',')};print(locale.setlocale(locale.LC_ALL,''),json.__file__)"
    )
    said = run(
        engine,
        python_image,
        "/usr/bin/python3.11",
        "-I",
        "-c",
        f"import json;{code}",
        environment={"LC_ALL": "C.UTF-8"},
    )
    assert said == "C.UTF-8 /usr/lib/python3.11/json/__init__.pyc\n"


def test_node_is_the_pinned_one(engine: docker.DockerClient, node_image: BuiltImage) -> None:
    assert run(engine, node_image, "/opt/node/bin/node", "--version") == "v22.23.3\n"


def test_the_loader_takes_libraries_from_its_cache(
    engine: docker.DockerClient, node_image: BuiltImage
) -> None:
    said = run(
        engine, node_image, "/opt/node/bin/node", "--version", environment={"LD_DEBUG": "libs"}, stderr=True
    )
    assert "search cache=/etc/ld.so.cache" in said
    assert "search path=" not in said  # no folder is tried, whatever this CPU's features are


def test_the_agent_fails_loudly_and_at_once_without_its_tools(
    engine: docker.DockerClient, node_image: BuiltImage
) -> None:
    wrapper = (
        "import os,socket,subprocess,sys;s=socket.socket(socket.AF_UNIX);s.bind('/dev/shm/s');s.listen(1);"
        "p=subprocess.Popen(['/opt/node/bin/node','/opt/app/agent.mjs'],stderr=subprocess.DEVNULL);"
        "c,_=s.accept();d=b''.join(iter(lambda:c.recv(4096),b''));print(d.decode(),p.wait(60))"
    )
    environment = {
        "ASSAY_RUNNER_SDK_SOCKET": "/dev/shm/s",
        "ASSAY_RUNNER_MCP_COMMAND": '["/usr/bin/env"]',
        "ASSAY_RUNNER_RUN_ID": "run_x",
        "ASSAY_RUNNER_SDK_EVENT_SCHEMA": "assay.runner.sdk_event.v0",
    }
    event, code = run(
        engine, node_image, "/usr/bin/python3.11", "-I", "-c", wrapper, environment=environment
    ).splitlines()
    assert code.strip() == "1"
    assert json.loads(event) == {
        "schema": "assay.runner.sdk_event.v0",
        "run_id": "run_x",
        "seq": 0,
        "event_type": "run_failed",
        "source": "openai-agents-fixture",
        "sdk_name": "@openai/agents",
        "sdk_version": "0.20.0",
        "tool_call_id": None,
        "tool": None,
    }


def test_nothing_is_tagged_when_a_hash_is_wrong(
    engine: docker.DockerClient, state: State, tmp_path: Path, python_image: BuiltImage
) -> None:
    before = {image.id for image in engine.images.list(all=True)}
    (tmp_path / "cache/sha256").mkdir(parents=True)
    for deb in load_base().lock.deb:
        (tmp_path / "cache/sha256" / deb.sha256).symlink_to(state.cache / "sha256" / deb.sha256)
    broken = tmp_path / "cache/sha256" / load_base().lock.deb[-1].sha256
    broken.unlink()
    broken.write_bytes(b"not a package")
    with pytest.raises(VerificationError) as caught:
        ensure_image(engine, "kernel-policy", state=tmp_path, fixtures=FIXTURES, progress=print)
    assert (caught.value.place, caught.value.exit_code) == (str(broken), 4)
    assert {image.id for image in engine.images.list(all=True)} == before
    assert not (tmp_path / "cache/layers").exists()
