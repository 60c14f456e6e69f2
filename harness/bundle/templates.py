"""Canonical lines by regular expression: what a line of a model looks like when its strings need no escape.

A line that matches is exactly what the codec would accept and write back; a line that does not match may
still be good, and then the codec decides. Made from the models, so that there is one source of truth.
"""

import re
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import attrs

from harness.contracts.converter import OMIT_NONE

# Bytes that json.dumps writes as they are; no more digits than fit 64 bits, the codec takes longer ones.
PLAIN = r'[^"\\\x00-\x1f]*'
_STRING = f'"{PLAIN}"'
_NATURAL = r"(?:0|[1-9][0-9]{0,18})"
_INTEGER = r"(?:0|-?[1-9][0-9]{0,18})"
_SCALARS = {str: _STRING, bool: "(?:true|false)", int: _INTEGER, NoneType: "null"}


def template(cls: type, first: str) -> re.Pattern[str]:
    """Matches a canonical line of `cls` from the key `first` on to its end; a group for each key."""
    hints = get_type_hints(cls, include_extras=True)
    fields = attrs.fields(cls)
    names = [field.name for field in fields]
    parts = []
    for field in fields[names.index(first) :]:
        comma = "" if field.name == first else ","
        value = rf'{comma}"{field.name}":(?P<{field.name}>{_pattern(hints[field.name], field)})'
        parts.append(f"(?:{value})?" if field.metadata.get(OMIT_NONE) else value)
    return re.compile("".join(parts) + r"\}")


def _pattern(hint: Any, field: Any) -> str:
    """An `omittable` key is never null."""
    options = list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]
    if field.metadata.get(OMIT_NONE):
        options = [option for option in options if option is not NoneType]
    return "(?:" + "|".join(_one(option) for option in options) + ")"


def _one(hint: Any) -> str:
    if get_origin(hint) is Annotated:  # the one rule of the layers' numbers is: not negative
        if get_args(hint)[0] is not int:
            raise TypeError(f"no pattern for {hint}")
        return _NATURAL
    if get_origin(hint) is tuple:
        item = _one(get_args(hint)[0])
        return rf"\[(?:{item}(?:,{item})*)?\]"
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return '"(?:' + "|".join(re.escape(member.value) for member in hint) + ')"'
    return _SCALARS[hint]
