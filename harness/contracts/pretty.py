"""Documents that people read and keep under version control (contracts §6.1).

Indent 2, UTF-8 written raw, one newline at the end: the bytes of
`json.dumps(document, indent=2, ensure_ascii=False)`, which Python makes too slowly for a list of a
million paths.
"""

import json
from collections.abc import Sequence
from json.encoder import encode_basestring
from typing import Any

_INDENT = "  "


def pretty(document: object) -> str:
    """The text without the last newline; ValueError for NaN and infinities."""
    return "".join(_parts(document))


def pretty_bytes(document: object) -> bytes:
    """The exact bytes of a document on stdout or in a file."""
    return "".join([*_parts(document), "\n"]).encode()


def _parts(document: object) -> list[str]:
    parts: list[str] = []
    _write(document, "\n", parts)
    return parts


def _write(node: Any, newline: str, parts: list[str]) -> None:
    inner = newline + _INDENT
    if isinstance(node, dict) and node:
        before = "{"
        for key, value in node.items():
            parts += (before, inner, _text(key), ": ")
            _write(value, inner, parts)
            before = ","
        parts += (newline, "}")
    elif isinstance(node, list | tuple) and node:
        if set(map(type, node)) == {str}:
            parts += ("[", inner, *_strings(node, "," + inner), newline, "]")
            return
        before = "["
        for value in node:
            parts += (before, inner)
            _write(value, inner, parts)
            before = ","
        parts += (newline, "]")
    else:
        parts.append(_text(node))


def _strings(values: Sequence[str], between: str) -> tuple[str, ...]:
    """JSON strings with `between` between them, at once where none of them needs an escape."""
    text = "".join(values)
    if text.isprintable() and '"' not in text and "\\" not in text:
        return ('"', f'"{between}"'.join(values), '"')
    return (between.join(map(encode_basestring, values)),)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
