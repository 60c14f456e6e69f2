"""The first divergence is found where it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.compare.pointer import ABSENT, Divergence, first_divergence
from harness.contracts.canonical import to_bytes

TEXT = st.text(st.characters(codec="utf-8"), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("a", "b", "member", "place", "left", "right"),
    [
        (b'{"a":1}', b'{"a":2}', "x.json", "/a", "1", "2"),
        (b'{"a":{"b/c":[1,{"~":1}]}}', b'{"a":{"b/c":[1,{"~":2}]}}', "x.json", "/a/b~1c/1/~0", "1", "2"),
        (b'{"a":1}', b'{"a":true}', "x.json", "/a", "1", "true"),
        (b'{"a":1}', b'{"a":1.0}', "x.json", "/a", "1", "1.0"),
        (b'{"a":1}', b'{"a":1,"b":null}', "x.json", "/b", ABSENT, "null"),
        (b'{"a":1,"b":{}}', b'{"a":1}', "x.json", "/b", "{}", ABSENT),
        (b"[1]", b"[1,2]", "x.json", "/1", ABSENT, "2"),
        (b"[1,[2]]", b"[1]", "x.json", "/1", "[2]", ABSENT),
        (b"{}", b"[]", "x.json", "", "{}", "[]"),
        (b'{"a":1}\n{"a":2}\n', b'{"a":1}\n{"a":3}\n', "x.ndjson", "/1/a", "2", "3"),
        (b'{"a":1}\n', b'{"a":1}\n{"a":3}\n', "x.ndjson", "/1", ABSENT, '{"a":3}'),
        (b"", b'{"a":1}\n', "x.ndjson", "/0", ABSENT, '{"a":1}'),
        (b'{"a":1}', b'{"a": 1}', "x.json", "byte 5", "'1}'", "' 1}'"),
        (b'{"a":1,"b":2}', b'{"b":2,"a":1}', "x.json", "byte 2", '\'a":1,"b":2}\'', '\'b":2,"a":1}\''),
        (b'{"a":1}\n', b'{"a":1}', "x.ndjson", "byte 7", "'\\n'", "''"),
        (b"abc", b"abd", "x.json", "byte 2", "'c'", "'d'"),
        (b"{}", b"", "x.json", "byte 0", "'{}'", "''"),
    ],
)
def test_places(a: bytes, b: bytes, member: str, place: str, left: str, right: str) -> None:
    assert first_divergence(a, b, member) == Divergence(member, place, left, right)
    assert first_divergence(b, a, member) == Divergence(member, place, right, left)


def test_equal_bytes_do_not_diverge() -> None:
    assert first_divergence(b"\xff", b"\xff", "x.json") is None


@given(VALUES, VALUES)
def test_there_is_a_divergence_exactly_when_the_bytes_differ(a: object, b: object) -> None:
    left, right = to_bytes(a), to_bytes(b)
    assert (first_divergence(left, right, "x.json") is None) == (left == right)


@given(st.binary(max_size=20), st.binary(max_size=20), st.sampled_from(["x.json", "x.ndjson"]))
def test_any_bytes_can_be_compared(a: bytes, b: bytes, member: str) -> None:
    assert (first_divergence(a, b, member) is None) == (a == b)


def test_long_values_are_cut() -> None:
    found = first_divergence(to_bytes(["x" * 9999]), to_bytes(["y"]), "x.json")
    assert found is not None
    assert len(found.left) < 500
    assert found.right == '"y"'
