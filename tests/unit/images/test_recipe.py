"""Recipes and locks: what is shipped loads, what is wrong is refused with its place."""

import json
import re
from pathlib import Path

import pytest

from harness.engine.layer_plans import input_files, layer_plans
from harness.engine.recipe import IMAGES, SHARED, load_base, load_recipe
from harness.errors import InputError
from harness.spec import load_fixture

FIXTURES = IMAGES.parent / "runner-fixtures"
GOOD = """\
schema = "assay.runner.image.v1"
name = "mine"
base = "python"
runtime_roots = ["/usr"]
[app]
files = ["agent.py"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("agent.py", "script.py"):
        (folder / name).write_text("print()\n")
    (folder / "image.toml").write_text(GOOD)
    return folder


def test_a_good_recipe_loads(folder: Path) -> None:
    recipe = load_recipe(folder)
    assert (recipe.file.name, recipe.file.app.files) == ("mine", ("agent.py",))


def test_shared_programs_come_from_their_one_place(folder: Path) -> None:
    (folder / "image.toml").write_text(GOOD + 'shared = ["file_server.py", "script.py"]\n')
    (folder / "script.py").unlink()
    recipe = load_recipe(folder)
    shared, own = input_files(recipe)
    assert {"images/shared/file_server.py", "images/shared/script.py"} <= set(shared)
    assert list(own) == ["agent.py", "image.toml"]
    *_, app = layer_plans(recipe, folder)
    tree = app.tree(folder)
    assert sorted(tree) == ["opt/app/agent.py", "opt/app/file_server.py", "opt/app/script.py"]
    assert tree["opt/app/script.py"].source == (SHARED / "script.py").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "mine"', 'name = "Mine"', "is not the folder's name"),
        ('base = "python"', 'base = "perl"', "base 'perl' is not known"),
        ('name = "mine"', 'name = "yours"', "not the folder's name"),
        ('["agent.py"]', '["missing.py"]', "not in the fixture's folder"),
        ('["agent.py"]', '["../mine/agent.py"]', "lead out of the fixture's folder"),
        ('["agent.py"]', '["/etc/passwd"]', "lead out of the fixture's folder"),
        ('["agent.py"]', '["agent.py"]\nnpm = "package-lock.json"', "not in the fixture's folder"),
        ('["agent.py"]', '["agent.py"]\nshared = ["scripts.py"]', "shared ['scripts.py'] are not known"),
        ('["agent.py"]', '["agent.py"]\nshared = ["../base.toml"]', "shared ['../base.toml'] are not known"),
        (
            '["agent.py"]',
            '["agent.py", "script.py"]\nshared = ["script.py"]',
            "['script.py'] are in files and in shared",
        ),
        ('["/usr"]', '["usr"]', "not absolute"),
        ('["/usr"]', '"/usr"', "must be a list"),
        ("[app]", "colour = 1\n[app]", "not known"),
        (".v1", ".v2", "is not 'assay.runner.image.v1'"),
        ("[app]", "[app", "not valid TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(folder: Path, old: str, new: str, said: str) -> None:
    path = folder / "image.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        load_recipe(folder)
    assert caught.value.place.startswith(str(path))
    assert caught.value.hint


def test_a_package_lock_may_still_have_to_be_made(folder: Path) -> None:
    (folder / "image.toml").write_text(GOOD + 'pip = "requirements.lock"\nnpm = "package-lock.json"\n')
    (folder / "package.json").write_text("{}")
    assert load_recipe(folder, locked=False).file.app.pip == "requirements.lock"
    with pytest.raises(InputError, match="not in the fixture's folder"):
        load_recipe(folder)
    (folder / "package.json").unlink()
    with pytest.raises(InputError, match=re.escape("['package.json'] are not in")):
        load_recipe(folder, locked=False)


def test_a_missing_recipe_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe(tmp_path / "none")


def test_a_name_that_no_engine_takes_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "My Agent"
    folder.mkdir()
    (folder / "agent.py").touch()
    (folder / "image.toml").write_text(GOOD.replace('"mine"', '"My Agent"'))
    with pytest.raises(InputError, match="cannot be an image's"):
        load_recipe(folder)


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/image.toml")), ids=lambda path: path.parent.name)
def test_every_shipped_recipe_is_good(path: Path) -> None:
    assert load_recipe(path.parent).file.runtime_roots


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/fixture.toml")), ids=lambda path: path.parent.name)
def test_every_shipped_fixture_is_good_and_has_its_image(path: Path) -> None:
    fixture = load_fixture(path.parent)
    assert load_recipe(FIXTURES / fixture.file.image).file.name == fixture.file.image


def test_the_base_is_locked() -> None:
    base = load_base()
    assert all(re.fullmatch(r"[0-9a-f]{64}", deb.sha256) and deb.size > 0 for deb in base.lock.deb)
    assert all(deb.path.startswith("pool/main/") for deb in base.lock.deb)


def test_a_base_that_asks_for_more_than_is_locked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base.lock.toml").write_bytes((IMAGES / "base.lock.toml").read_bytes())
    spec = (IMAGES / "base.toml").read_text().replace('    "zlib1g",', '    "zlib1g",\n    "bash",')
    (tmp_path / "base.toml").write_text(spec)
    with pytest.raises(InputError, match="locks other packages"):
        load_base(tmp_path)


NPM_LOCKS = [IMAGES / "node/package-lock.json", *sorted(FIXTURES.glob("*/package-lock.json"))]


@pytest.mark.parametrize("lock", NPM_LOCKS, ids=lambda lock: lock.parent.name)
def test_each_npm_package_is_pinned_by_hash(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    pinned = {name: package for name, package in packages.items() if name}
    assert pinned
    assert all(package["integrity"].startswith("sha512-") for package in pinned.values())


def test_no_lock_or_declaration_names_an_address() -> None:
    kinds = ("*.toml", "*.lock", "package*.json")
    files = [path for top in (IMAGES, FIXTURES) for kind in kinds for path in top.rglob(kind)]
    assert len(files) >= 12
    assert [path for path in files if "://" in path.read_text(encoding="utf-8")] == []


def test_the_images_have_no_shell_and_no_package_manager() -> None:
    wanted = set(load_base().spec.packages)
    assert not wanted & {"bash", "dash", "busybox", "apt", "dpkg", "perl-base"}
    assert load_base().spec.only["coreutils"] == ("usr/bin/env",)
