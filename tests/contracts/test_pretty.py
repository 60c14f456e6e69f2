"""Indented documents have exactly the bytes that the standard library would write."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.contracts.pretty import pretty, pretty_bytes

TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(TEXT, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_the_bytes_are_those_of_the_standard_library(document: object) -> None:
    wanted = json.dumps(document, indent=2, ensure_ascii=False)
    assert pretty(document) == wanted
    assert pretty_bytes(document) == wanted.encode() + b"\n"


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        pretty({"x": [float("nan")]})
