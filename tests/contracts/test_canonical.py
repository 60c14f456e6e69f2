"""Canonical bytes and the strict reader."""

import contextlib
import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.contracts.bounds import MAX_DEPTH, MAX_LINE_BYTES
from harness.contracts.canonical import (
    EMPTY_SHA256,
    JsonError,
    load_json,
    load_ndjson,
    ndjson,
    sha256_of,
    to_bytes,
)
from tests.growth import is_linear

TEXT = st.text(st.characters(codec="utf-8"))
NUMBERS = st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_reads_back(value: object) -> None:
    data = to_bytes(value)
    assert b"\n" not in data
    assert load_json(data, "x") == value
    assert to_bytes(load_json(data, "x")) == data


@given(st.lists(VALUES, max_size=4))
def test_lines_read_back(values: list[object]) -> None:
    assert load_ndjson(ndjson(values), "x") == values


@given(st.binary(max_size=40) | TEXT.map(str.encode))
def test_any_bytes_give_a_value_or_our_error(data: bytes) -> None:
    try:
        value = load_json(data, "x")
    except JsonError:
        return
    json.loads(data)
    to_bytes(value)


def test_the_form_is_compact_and_raw() -> None:
    assert to_bytes({"b": ["é/\u2028", None], "a": True}) == '{"b":["é/\u2028",null],"a":true}'.encode()
    assert sha256_of(b"") == EMPTY_SHA256
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_bytes(math.nan)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a":1,"a":1}', "'a' is there twice"),
        (b'[{"a":{"b":1,"b":2}}]', "'b' is there twice"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"1e999", "does not fit"),
        (b"1" * 41, "41 digits"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'"\xff"', "UTF-8 at byte 1"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        (b'"\\ud800"', "lone surrogate"),
        (b'{"\\udfff":1}', "lone surrogate"),
        (b"{} {}", "not JSON at character 3"),
        (b"", "not JSON"),
        (b"{'a':1}", "not JSON"),
    ],
)
def test_what_is_not_strict_json_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(JsonError, match=message) as caught:
        load_json(data, "file.json")
    assert caught.value.code == "ContractInvalidJson"
    assert "file.json" in caught.value.message


@pytest.mark.parametrize("count", [MAX_DEPTH + 1, 900, 200_000])
@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}")])
def test_depth_is_bounded(count: int, pair: tuple[str, str]) -> None:
    inner = "1" if pair[0] != "[" else ""
    with pytest.raises(JsonError) as caught:
        load_json((pair[0] * count + inner + pair[1] * count).encode(), "x")
    assert caught.value.code == "LimitJsonDepth"
    load_json((pair[0] * MAX_DEPTH + "1" + pair[1] * MAX_DEPTH).encode(), "x")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{}", "ContractInvalidJson"),
        (b"{}\n\n{}\n", "ContractInvalidJson"),
        (b"\n", "ContractInvalidJson"),
        (b"{}\n{\n", "ContractInvalidJson"),
        (b'"' + b"x" * MAX_LINE_BYTES + b'"\n', "LimitLineBytes"),
    ],
)
def test_lines_are_strict_too(data: bytes, code: str) -> None:
    with pytest.raises(JsonError) as caught:
        load_ndjson(data, "x")
    assert caught.value.code == code


def _keys(count: int, last: str) -> bytes:
    return b"{" + b",".join(b'"k%d":0' % number for number in range(count)) + last.encode() + b"}"


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda n: _keys(n, ""), 4_000),
        (lambda n: _keys(n, f',"k{n - 1}":0'), 4_000),  # the last one is there twice
        (lambda n: _keys(n, ',"k0":0'), 4_000),
        (lambda n: b'{"a":[' + b",".join([b'{"b":1,"b":1}'] * n) + b"]}", 4_000),
        (lambda n: b"1." + b"1" * n, 100_000),
        (lambda n: b"1" * n, 100_000),
        (lambda n: b"1" * n + b".5", 100_000),
        (lambda n: b"1e-" + b"9" * n, 100_000),
        (lambda n: b'"' + rb"\u00e9" * n + b'"', 50_000),
        (lambda n: b'"' + rb"\ud83d\ude00" * n + b'"', 50_000),
        (lambda n: b'"' + rb"\ud83d" * n + b'"', 50_000),
        (lambda n: b"[" * n + b"]" * n, 50_000),
        (lambda n: b"[" + b"[],[[]]," * n + b"[]]", 10_000),
        (lambda n: b" " * n, 100_000),
    ],
)
def test_reading_takes_time_in_proportion(make: Callable[[int], bytes], size: int) -> None:
    def read(data: bytes) -> None:
        with contextlib.suppress(JsonError):
            load_json(data, "x")

    assert is_linear(make, read, size)


def test_a_message_quotes_no_more_than_a_person_reads() -> None:
    name = b"x" * 500_000
    for data in (b'{"%b":1,"%b":1}' % (name, name), b"1" * 500_000 + b".5"):
        with pytest.raises(JsonError) as caught:
            load_json(data, "file.json")
        assert len(caught.value.message) < 200
