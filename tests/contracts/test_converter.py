"""The codec refuses what it does not know and names the place."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest
from attrs import frozen

from harness.contracts.converter import (
    ContractError,
    Natural,
    NonEmpty,
    constant,
    nullable,
    omittable,
    parse,
    structure,
    unstructure,
)
from harness.errors import InputError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@frozen
class Inner:
    name: NonEmpty
    count: Natural = 0


@frozen(kw_only=True)
class Outer:
    schema: str = constant("test.v0")
    flag: bool
    ratio: float
    colour: Colour
    inner: Inner
    items: tuple[Inner, ...]
    tags: frozenset[str]
    env: Mapping[str, int]
    pair: tuple[int, str]
    maybe: str | None = nullable()
    extra: int | None = omittable()
    scalar: int | str = 1


def document() -> dict[str, Any]:
    return {
        "schema": "test.v0",
        "flag": True,
        "ratio": 1.5,
        "colour": "red",
        "inner": {"name": "n", "count": 3},
        "items": [{"name": "a", "count": 1}],
        "tags": ["x", "y"],
        "env": {"A/B": 1},
        "pair": [1, "b"],
        "maybe": None,
        "scalar": "s",
    }


def test_round_trip_keeps_keys_and_their_order() -> None:
    made = parse(Outer, document())
    assert made.tags == frozenset({"x", "y"})
    assert made.colour is Colour.RED
    assert list(unstructure(made)) == [*list(document())[:10], "scalar"]
    assert unstructure(made) == document()


def test_an_omittable_key_is_written_in_its_place() -> None:
    made = parse(Outer, document() | {"extra": 0})
    assert list(unstructure(made))[-2:] == ["extra", "scalar"]


FAULTS: tuple[tuple[tuple[str, ...], Any, str, str], ...] = (
    (("flag",), 1, "/flag", "true or false"),
    (("ratio",), True, "/ratio", "a number"),
    (("ratio",), "1", "/ratio", "a number"),
    (("colour",), "green", "/colour", "'green' is not known"),
    (("inner", "count"), "3", "/inner/count", "an integer"),
    (("inner", "count"), True, "/inner/count", "an integer"),
    (("inner", "count"), 1.0, "/inner/count", "an integer"),
    (("inner", "count"), -1, "/inner/count", "negative"),
    (("inner", "name"), " ", "/inner/name", "empty"),
    (("inner",), [], "/inner", "a table of keys"),
    (("inner", "new"), 1, "/inner/new", "not known"),
    (("items",), "abc", "/items", "a list"),
    (("items",), {"0": 1}, "/items", "a list"),
    (("items",), [{"name": "a"}, {"name": 1}], "/items/1/name", "a string"),
    (("tags",), ["x", "x"], "/tags", "twice"),
    (("env",), {"A/B~": "1"}, "/env/A~1B~0", "an integer"),
    (("env",), [], "/env", "a table of keys"),
    (("pair",), [1], "/pair", "2 items"),
    (("pair",), [1, 2], "/pair/1", "a string"),
    (("maybe",), 1, "/maybe", "a string"),
    (("extra",), None, "/extra", "null"),
    (("scalar",), 1.5, "/scalar", "an integer or a string"),
    (("schema",), "test.v1", "/schema", "'test.v0'"),
)


@pytest.mark.parametrize(("path", "value", "pointer", "message"), FAULTS)
def test_each_fault_is_refused_at_its_place(
    path: tuple[str, ...], value: object, pointer: str, message: str
) -> None:
    data = document()
    target = data
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    with pytest.raises(ContractError) as caught:
        parse(Outer, data)
    assert caught.value.pointer == pointer
    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("key", ["schema", "flag", "items", "maybe"])
def test_a_missing_key_is_refused_even_with_a_python_default(key: str) -> None:
    data = document()
    del data[key]
    with pytest.raises(ContractError, match="missing") as caught:
        parse(Outer, data)
    assert caught.value.pointer == f"/{key}"


def test_input_of_a_person_names_file_pointer_and_remedy() -> None:
    with pytest.raises(InputError) as caught:
        structure(Inner, {"name": 7}, place="fixture.toml")
    assert caught.value.place == "fixture.toml at /name"
    assert caught.value.hint == "give a string"
    with pytest.raises(InputError, match=r"^x: must be a table of keys, not null"):
        structure(Inner, None, place="x")


def test_several_faults_are_counted() -> None:
    with pytest.raises(ContractError, match="and 1 more"):
        parse(Inner, {"name": 1, "count": "x"})
