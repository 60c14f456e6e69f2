"""Where two members differ first: bytes decide, a JSON pointer (RFC 6901) explains."""

from collections.abc import Callable
from typing import Any

from attrs import frozen

from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.converter import ContractError

ABSENT = "(absent)"
_EXCERPT = 40  # bytes shown on each side of nothing better than an offset
_LONGEST = 400  # characters of a shown value


@frozen
class Divergence:
    """`place` is a pointer (in NDJSON `/<line from 0>/key`) or `byte <offset>`."""

    member: str
    place: str
    left: str
    right: str


def first_divergence(a: bytes, b: bytes, member: str) -> Divergence | None:
    """None only when the bytes are equal."""
    if a == b:
        return None
    load: Callable[[bytes], Any] = _load_lines if member.endswith(".ndjson") else _load
    try:
        found = _first(load(a), load(b), "")
    except ContractError:
        found = None
    if found is None:  # no JSON, or the same documents spelt differently
        return _first_byte(a, b, member)
    pointer, left, right = found
    return Divergence(member, pointer, left, right)


def _load(data: bytes) -> Any:
    return load_json(data, "document")


def _load_lines(data: bytes) -> list[Any]:
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [load_json(line, "line") for line in lines]


def _first(a: Any, b: Any, pointer: str) -> tuple[str, str, str] | None:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            at = f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in a or key not in b:
                return at, _show(a, key), _show(b, key)
            if found := _first(a[key], b[key], at):
                return found
        return None
    if isinstance(a, list) and isinstance(b, list):
        for index, (left, right) in enumerate(zip(a, b, strict=False)):
            if found := _first(left, right, f"{pointer}/{index}"):
                return found
        if len(a) == len(b):
            return None
        end = min(len(a), len(b))
        return f"{pointer}/{end}", _item(a, end), _item(b, end)
    # 1, 1.0 and true are equal in Python and different in a contract.
    same = type(a) is type(b) and a == b
    return None if same else (pointer, _text(a), _text(b))


def _show(document: dict[str, Any], key: str) -> str:
    return _text(document[key]) if key in document else ABSENT


def _item(items: list[Any], index: int) -> str:
    return _text(items[index]) if index < len(items) else ABSENT


def _text(value: Any) -> str:
    text = to_bytes(value).decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _first_byte(a: bytes, b: bytes, member: str) -> Divergence:
    shorter = min(len(a), len(b))
    at = next((index for index in range(shorter) if a[index] != b[index]), shorter)
    left, right = (data[at : at + _EXCERPT] for data in (a, b))
    return Divergence(member, f"byte {at}", repr(left)[1:], repr(right)[1:])
