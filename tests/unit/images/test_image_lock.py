"""image.lock.toml: it reads back, says what changed and why, and those of the house are current."""

from pathlib import Path

import pytest
from attrs import evolve

from harness.engine import layers
from harness.engine.image_lock import (
    LOCK_NAME,
    ImageLock,
    changed_input,
    differences,
    lock_of,
    read_lock,
    to_toml,
)
from harness.engine.images import BuiltImage
from harness.engine.layers import Entry, write_layer
from harness.engine.recipe import IMAGES, SHARED, load_recipe
from harness.errors import InputError
from harness.scaffold import write_fixture

FIXTURES = IMAGES.parent / "runner-fixtures"
LOCKED = sorted(path.parent for path in FIXTURES.glob("*/image.toml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_fixture("mine", "node", tmp_path)


def built(tmp_path: Path, text: bytes = b"x") -> BuiltImage:
    """An image of one layer with one file."""
    layer = write_layer({"opt/a": Entry(source=text)}, tmp_path / f"{len(text)}.tar")
    config = layers.config_bytes(layers.ImageConfig({}, {}), [layer])
    return BuiltImage(
        "mine", layers.image_id(config), layer.size, (layer.digest,), ("/opt",), (("app", layer),), config
    )


@pytest.fixture
def lock(folder: Path, tmp_path: Path) -> ImageLock:
    return lock_of(load_recipe(folder), built(tmp_path))


def test_a_lock_reads_back_as_it_was_written(folder: Path, lock: ImageLock) -> None:
    assert read_lock(folder) is None
    odd = evolve(lock, runtime={'a "b"\\': "1\n", "é": "2", "plain-1": "3"})
    (folder / LOCK_NAME).write_text(to_toml(odd), encoding="utf-8")
    assert read_lock(folder) == odd


def test_a_lock_says_versions_and_inputs(lock: ImageLock) -> None:
    assert lock.runtime == {"python": "3.11.2", "node": "22.23.3"}
    assert list(lock.inputs.fixture) == ["agent.mjs", "image.toml"]
    assert {
        "images/base.lock.toml",
        "images/shared/file_server.py",
        "images/node/package-lock.json",
        "harness/policy/proxy.py",
    } <= set(lock.inputs.repository)


def test_direct_npm_packages_and_all_pip_pins_are_versions(folder: Path, tmp_path: Path) -> None:
    agents = read_lock(FIXTURES / "openai-agents")
    assert agents is not None
    assert agents.runtime["@openai/agents"] == "0.20.0"
    assert len(agents.runtime) == 4
    (folder / "image.toml").write_text((folder / "image.toml").read_text() + 'pip = "requirements.lock"\n')
    (folder / "requirements.lock").write_text(
        "# c\nb-c==2.0 --hash=sha256:00\na==1.1; x \\\n    --hash=sha256:01\n"
    )
    runtime = lock_of(load_recipe(folder), built(tmp_path)).runtime
    assert runtime == {"python": "3.11.2", "node": "22.23.3", "a": "1.1", "b-c": "2.0"}


def test_what_changed_is_told_causes_first(lock: ImageLock, folder: Path, tmp_path: Path) -> None:
    assert differences(lock, lock) == []
    with (folder / "agent.mjs").open("a") as agent:
        agent.write("// more\n")
    now = lock_of(load_recipe(folder), built(tmp_path, b"longer"))
    told = [line.partition(":")[0] for line in differences(lock, now)]
    assert told == ["input mine/agent.mjs", "layer app", "file list of layer app", "files", "id"]
    assert f"{lock.id} -> {now.id}" in differences(lock, now)[-1]


def test_the_input_that_changed_is_named(lock: ImageLock, folder: Path) -> None:
    assert changed_input(lock, load_recipe(folder)) is None
    (folder / "agent.mjs").write_text("")
    changed = changed_input(lock, load_recipe(folder))
    assert changed is not None
    assert changed[0] == folder / "agent.mjs"
    for name, place in (
        ("agent.mjs", folder / "agent.mjs"),
        ("file_server.py", SHARED / "file_server.py"),  # inputs of this repository come first
    ):
        fewer = (folder / "image.toml").read_text().replace(f'["{name}"]', "[]")
        (folder / "image.toml").write_text(fewer)
        changed = changed_input(lock, load_recipe(folder))
        assert changed is not None
        assert (changed[0], changed[1].partition(",")[0]) == (place, "not an input any more")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (".v1", ".v2", "is not 'assay.runner.image_lock.v1'"),
        ('id = "sha256:', 'id = "sha1:', "must be sha256:"),
        ("size = ", "size = -", "must not be negative"),
        ("[runtime]", "[runtimes]", "not known"),
        ("[runtime]", "[runtime", "cannot be read"),
    ],
)
def test_a_lock_that_is_not_one_is_refused_with_its_place(
    folder: Path, lock: ImageLock, old: str, new: str, said: str
) -> None:
    (folder / LOCK_NAME).write_text(to_toml(lock).replace(old, new, 1))
    with pytest.raises(InputError, match=said) as caught:
        read_lock(folder)
    assert caught.value.place.startswith(str(folder / LOCK_NAME))
    assert caught.value.hint


@pytest.mark.parametrize("folder", LOCKED, ids=lambda folder: folder.name)
def test_every_image_of_the_house_is_locked_with_its_inputs_as_they_are(folder: Path) -> None:
    lock = read_lock(folder)
    assert lock is not None
    assert changed_input(lock, load_recipe(folder)) is None, "assay-runner image lock --all"
    assert (folder / LOCK_NAME).read_text(encoding="utf-8") == to_toml(lock)
