"""What people write as TOML: the schemas refuse what the real loaders refuse, and the other way round."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from harness.contracts.policy_file import PolicyFile
from harness.engine.recipe import ImageFile, load_recipe
from harness.errors import InputError
from harness.policy.rules import PolicyError, load_policy
from harness.spec import FixtureFile, load_fixture
from tests.contracts.drawn import documents_of, harmed

ROOT = Path(__file__).parents[2]
PATIENT = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)
NAMES = {
    "fixture.toml": "assay.runner.fixture.v1",
    "image.toml": "assay.runner.image.v1",
    "image.lock.toml": "assay.runner.image_lock.v1",
    "policy.toml": "assay.runner.policy.v1",
    "base.toml": "assay.runner.base_image.v1",
    "base.lock.toml": "assay.runner.deb_lock.v1",
}
# What a schema cannot say: it sees one file and no folder, and no two rules at once.
INEXPRESSIBLE = (
    "is not the folder's name",
    "no policy file",
    "no inputs folder",
    "are not in the fixture's folder",
    "an earlier rule has this id",
)


def validator(id_: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / "schemas" / f"{id_}.schema.json").read_bytes()))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_file_of_this_repository_is_valid(name: str) -> None:
    found = [*ROOT.glob(f"runner-fixtures/*/{name}"), *ROOT.glob(f"images/{name}")]
    assert found
    for path in found:
        validator(NAMES[name]).validate(tomllib.loads(path.read_text()))


def toml(value: Any) -> str:
    """JSON's strings and lists are TOML's; an object is an inline table."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def without_null(value: Any) -> Any:
    """TOML has none."""
    if isinstance(value, dict):
        return {key: without_null(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_null(item) for item in value if item is not None]
    return value


def refused(path: Path, document: dict[str, Any], load: Callable[[], object]) -> str | None:
    """Why the loader does not take the file."""
    path.write_text("".join(f"{toml(key)} = {toml(value)}\n" for key, value in document.items()))
    assert tomllib.loads(path.read_text()) == document
    try:
        load()
    except (InputError, PolicyError) as error:
        return str(error)
    return None


def agree(id_: str, document: dict[str, Any], told: str | None) -> None:
    accepted = validator(id_).is_valid(document)
    if told is None:
        assert accepted
    elif accepted:
        assert any(rule in told for rule in INEXPRESSIBLE), told


def documents(cls: type, **right: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Documents of the model, some with the values that only the loader asks for, some harmed."""
    drawn = documents_of(cls).map(without_null)
    better = drawn.map(lambda document: document | right)
    return better | harmed(better) | harmed(better) | drawn


@PATIENT
@given(
    document=documents(
        FixtureFile,
        schema="assay.runner.fixture.v1",
        name="one",
        inputs="inputs",
        witnesses=["kernel", "policy", "sdk"],
        id_source="local_model",
        network="none",
        subject={"command": ["x"]},
        tools={"server": ["x"], "policy": "policy.toml"},
        scenario=[],
    )
)
def test_a_fixture_is_refused_by_schema_and_loader_alike(document: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "one"
    (folder / "inputs").mkdir(parents=True, exist_ok=True)
    (folder / "policy.toml").touch()
    document = without_null(document)
    told = refused(folder / "fixture.toml", document, lambda: load_fixture(folder))
    agree("assay.runner.fixture.v1", document, told)


@PATIENT
@given(
    document=documents(
        ImageFile,
        name="one",
        base="node",
        runtime_roots=["/usr"],
        app={"files": ["x", "a/../x"], "npm": "l.json"},
    )
    | documents(ImageFile, name="one", base="python", runtime_roots=[], app={})
)
def test_an_image_is_refused_by_schema_and_loader_alike(document: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir(exist_ok=True)
    for name in ("x", "l.json", "package.json"):
        (folder / name).touch()
    document = without_null(document)
    told = refused(folder / "image.toml", document, lambda: load_recipe(folder))
    agree("assay.runner.image.v1", document, told)


@PATIENT
@given(document=documents(PolicyFile))
def test_a_policy_is_refused_by_schema_and_proxy_alike(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    document = without_null(document)
    agree("assay.runner.policy.v1", document, refused(path, document, lambda: load_policy(path)))


def test_drawn_files_are_not_all_refused(tmp_path: Path) -> None:
    """Else the three tests above would prove half of what they say."""
    policy = {"schema": "assay.runner.policy.v1", "rule": [{"id": "a", "effect": "allow", "tools": ["t"]}]}
    path = tmp_path / "policy.toml"
    assert refused(path, policy, lambda: load_policy(path)) is None
    image = {
        "schema": "assay.runner.image.v1",
        "name": tmp_path.name,
        "base": "node",
        "runtime_roots": ["/x"],
    }
    image["name"] = "one"
    folder = tmp_path / "one"
    folder.mkdir()
    assert refused(folder / "image.toml", image, lambda: load_recipe(folder)) is None
    fixture = {
        "schema": "assay.runner.fixture.v1", "name": "one", "description": "d", "image": "i",
        "subject": {"command": ["x"]},
    }  # fmt: skip
    (folder / "inputs").mkdir()
    assert refused(folder / "fixture.toml", fixture, lambda: load_fixture(folder)) is None
    for id_, document in (("policy", policy), ("image", image), ("fixture", fixture)):
        validator(f"assay.runner.{id_}.v1").validate(document)
