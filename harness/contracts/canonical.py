"""Bytes of the artifacts (contracts §1.4) and the strict way back.

Compact separators, UTF-8 written raw, no trailing newline in a document, one in each NDJSON line.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, NoReturn

from harness.contracts.bounds import MAX_DEPTH, MAX_DIGITS, MAX_LINE_BYTES
from harness.contracts.converter import ContractError

EMPTY_SHA256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_QUOTED = 80  # characters of a stranger's text in a message
_BOM = b"\xef\xbb\xbf"


class JsonError(ContractError):
    """Bytes that are not the JSON we accept; `code` is of the vocabulary of contracts §1.7."""

    def __init__(self, message: str, *, code: str = "ContractInvalidJson", pointer: str = "") -> None:
        super().__init__(pointer, message)
        self.code = code


def to_bytes(obj: object) -> bytes:
    """Canonical bytes of one document; ValueError for NaN and infinities."""
    text = json.dumps(obj, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def ndjson(objs: Iterable[object]) -> bytes:
    """One canonical document a line, each line ended by a newline."""
    return b"".join(to_bytes(obj) + b"\n" for obj in objs)


def sha256_of(data: bytes) -> str:
    """`sha256:` and 64 lowercase hex digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Sha256:
    """A digest of bytes that come in pieces; `text` as of `sha256_of`."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    @property
    def text(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def load_json(data: bytes, place: str) -> Any:
    """One document; JsonError (naming `place`) for duplicate keys, NaN, a BOM, bad UTF-8, lone
    surrogates, or more than MAX_DEPTH nested levels."""
    if data.startswith(_BOM):
        raise JsonError(f"{place}: starts with a byte order mark")
    try:
        text = data.decode("utf-8")
        document = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_no_constant,
            parse_int=_bounded_int,
            parse_float=_finite_float,
        )
        _bound_depth(document, place)
        _no_surrogates(data, document)
    except RecursionError:
        raise JsonError(f"{place}: nested deeper than {MAX_DEPTH} levels", code="LimitJsonDepth") from None
    except UnicodeDecodeError as error:
        raise JsonError(f"{place}: not valid UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"{place}: not JSON at character {error.pos}: {error.msg}") from None
    except ValueError as error:
        raise JsonError(f"{place}: {error}") from None
    return document


def load_ndjson(data: bytes, place: str) -> list[Any]:
    """The documents of an NDJSON member in order; the last line too must end with a newline."""
    documents = []
    for number, line in enumerate(split_lines(data, place), start=1):
        documents.append(load_json(line, f"{place} line {number}"))
    return documents


def split_lines(data: bytes, place: str) -> list[bytes]:
    """The lines without their newlines; JsonError for a blank, overlong or unended line."""
    if not data:
        return []
    if not data.endswith(b"\n"):
        raise JsonError(f"{place}: the last line does not end with a newline")
    lines = data[:-1].split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise JsonError(f"{place} line {number}: blank line")
        if len(line) > MAX_LINE_BYTES:
            message = f"{place} line {number}: longer than {MAX_LINE_BYTES} bytes"
            raise JsonError(message, code="LimitLineBytes")
    return lines


def _bound_depth(document: object, place: str) -> None:
    level = _containers([document])
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [child for node in level for child in _containers(node)]
    if not level:
        return
    raise JsonError(f"{place}: nested deeper than {MAX_DEPTH} levels", code="LimitJsonDepth")


def _containers(node: Any) -> list[Any]:
    values = node.values() if isinstance(node, dict) else node
    return [value for value in values if isinstance(value, (dict, list))]


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise ValueError(f"key {_cut(twice)!r} is there twice")
    return document


def _cut(text: str) -> str:
    """What a message quotes: a stranger's text may be a megabyte."""
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _bounded_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _finite_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"number {_cut(text)} does not fit")
    return value


def _no_surrogates(data: bytes, document: object) -> None:
    """Lone surrogates can only come from escapes; they have no UTF-8 bytes to write back."""
    if b"\\u" in data:
        try:
            to_bytes(document)
        except UnicodeEncodeError:
            raise ValueError("a string holds a lone surrogate") from None
