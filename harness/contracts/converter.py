"""The one strict codec between JSON-like documents and the attrs models of the contracts.

Nothing is coerced in silence: a string is no number, a bool is no integer, a scalar is no list,
an unknown key is an error. Declaration order of a model is the key order of its contract (§1.4).
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import attrs
from attrs import frozen
from cattrs import AttributeValidationNote, Converter, IterableValidationNote
from cattrs.errors import BaseValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from harness.errors import InputError

T = TypeVar("T")
Hook = Callable[[Any, Any], Any]

OMIT_NONE = "omit_none"
REQUIRED = "required"
CONSTANT = "constant"

_PRIMITIVES = (str, int, float, bool)
_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    NoneType: "null",
    list: "a list",
    tuple: "a list",
    dict: "a table of keys",
}


class ContractError(Exception):
    """A document breaks its contract at a JSON pointer (RFC 6901; "" is the whole document)."""

    def __init__(self, pointer: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{pointer or '(top level)'}: {message}")
        self.pointer = pointer
        self.message = message
        self.hint = hint


class _WrongError(ValueError):
    """One value is wrong; its place is found while unwinding."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@frozen
class Rule:
    """What a value must hold beyond its type: put it into Annotated[type, Rule(...)]."""

    message: str
    holds: Callable[[Any], bool]


Natural = Annotated[int, Rule("must not be negative", lambda value: value >= 0)]
NonEmpty = Annotated[str, Rule("must not be empty", lambda value: bool(value.strip()))]


def constant(value: str | int) -> Any:
    """A key that is always written and must read back as exactly `value` (schema ids)."""
    return attrs.field(default=value, metadata={REQUIRED: True, CONSTANT: value})


def required(default: Any) -> Any:
    """A default for Python callers; a document must still carry the key."""
    return attrs.field(default=default, metadata={REQUIRED: True})


def nullable() -> Any:
    """A key that is always present, null when unknown."""
    return attrs.field(default=None, metadata={REQUIRED: True})


def omittable() -> Any:
    """A key that is left out when absent and never null."""
    return attrs.field(default=None, metadata={OMIT_NONE: True})


def parse(cls: type[T], data: object) -> T:
    """`data` (from JSON or TOML) as an instance of `cls`; ContractError at the first fault."""
    try:
        return _CONVERTER.structure(data, cls)
    except (BaseValidationError, _WrongError, ForbiddenExtraKeysError, ValueError, TypeError) as error:
        faults = _faults(error, "")
        first = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ContractError(first.pointer, first.message + more, hint=first.hint) from None


def structure(cls: type[T], data: object, *, place: str) -> T:
    """As `parse`, for input of a person: InputError with place, JSON pointer and remedy."""
    try:
        return parse(cls, data)
    except ContractError as error:
        where = f"{place} at {error.pointer}" if error.pointer else place
        raise InputError(
            error.message, place=where, hint=error.hint or "correct this value and try again"
        ) from None


def unstructure(obj: object) -> dict[str, Any]:
    """The document of a model: keys in declaration order, `omittable` ones left out when None."""
    document: dict[str, Any] = _CONVERTER.unstructure(obj)
    return document


@frozen
class _Fault:
    pointer: str
    message: str
    hint: str


def _faults(error: BaseException, pointer: str) -> list[_Fault]:
    pointer += "".join("/" + _escape(str(step)) for step in _steps(error))
    if isinstance(error, BaseValidationError):
        return [fault for inner in error.exceptions for fault in _faults(inner, pointer)]
    if isinstance(error, ForbiddenExtraKeysError):
        known = ", ".join(a.name for a in attrs.fields(error.cl))
        return [
            _Fault(f"{pointer}/{_escape(str(key))}", "this key is not known", f"known keys: {known}")
            for key in sorted(map(str, error.extra_fields))
        ]
    if isinstance(error, KeyError):
        return [_Fault(pointer, "this key is missing", "add it")]
    if isinstance(error, _WrongError):
        return [_Fault(pointer, error.message, error.hint)]
    return [_Fault(pointer, str(error), "")]


def _steps(error: BaseException) -> list[object]:
    steps: list[object] = []
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            steps.append(note.name)
        elif isinstance(note, IterableValidationNote):
            steps.append(note.index)
    return steps[::-1]  # notes are added from the inside out


def _escape(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def _expected(wanted: type, value: object) -> _WrongError:
    found = _NAMES.get(type(value), type(value).__name__)
    return _WrongError(f"must be {_NAMES[wanted]}, not {found}", f"give {_NAMES[wanted]}")


def _exact(wanted: type) -> Hook:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is not wanted:
            raise _expected(wanted, value)
        return value

    return hook


def _number(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise _expected(float, value)
    return float(value)


def _enum(value: Any, cls: Any) -> Any:
    known = [member.value for member in cls]
    if type(value) is not str or value not in known:
        raise _WrongError(f"{value!r} is not known", f"known: {', '.join(known)}")
    return cls(value)


def _sequence(wanted: Callable[[list[Any]], Any]) -> Callable[[Any, Converter], Hook]:
    def factory(cls: Any, converter: Converter) -> Hook:
        args = get_args(cls)
        item_type = args[0] if args else Any
        homogeneous = not args or get_origin(cls) is not tuple or args[-1] is Ellipsis

        def hook(value: Any, _: Any) -> Any:
            if type(value) is not list:
                raise _expected(list, value)
            if not homogeneous and len(value) != len(args):
                raise _WrongError(f"must have {len(args)} items, not {len(value)}", f"give {len(args)}")
            items = []
            # A surface may hold a million strings: they need no visit each.
            plain = homogeneous and item_type is str and set(map(type, value)) <= {str}
            for index, item in enumerate(() if plain else value):
                try:
                    items.append(converter.structure(item, item_type if homogeneous else args[index]))
                except Exception as error:
                    note = IterableValidationNote("item", index, item_type)
                    error.__notes__ = [*getattr(error, "__notes__", []), note]
                    raise
            result = wanted(value if plain else items)
            if len(result) != len(value):
                raise _WrongError("an item is there twice", "name each item once")
            return result

        return hook

    return factory


def _mapping(cls: Any, converter: Converter) -> Hook:
    args = get_args(cls)
    key_type, value_type = args or (str, Any)

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise _expected(dict, value)
        result = {}
        for key, item in value.items():
            try:
                result[converter.structure(key, key_type)] = converter.structure(item, value_type)
            except Exception as error:
                note = IterableValidationNote("value", key, value_type)
                error.__notes__ = [*getattr(error, "__notes__", []), note]
                raise
        return result

    return hook


def _union(cls: Any, converter: Converter) -> Hook:
    options = [option for option in get_args(cls) if option is not NoneType]
    null = len(options) < len(get_args(cls))

    def hook(value: Any, _: Any) -> Any:
        if value is None and null:
            return None
        if len(options) == 1:
            return converter.structure(value, options[0])
        if type(value) not in options:
            names = " or ".join(_NAMES[option] for option in options)
            raise _WrongError(f"must be {names}, not {_NAMES.get(type(value), '?')}", f"give {names}")
        return value

    return hook


def _ruled(cls: Any, converter: Converter) -> Hook:
    base, *extras = get_args(cls)
    rules = [extra for extra in extras if isinstance(extra, Rule)]

    def hook(value: Any, _: Any) -> Any:
        result = converter.structure(value, base)
        for rule in rules:
            if not rule.holds(result):
                raise _WrongError(rule.message, "correct this value")
        return result

    return hook


def _is_union(cls: Any) -> bool:
    if get_origin(cls) not in (Union, UnionType):
        return False
    options = [option for option in get_args(cls) if option is not NoneType]
    return len(options) == 1 or all(option in _PRIMITIVES for option in options)


def _class_structure(cls: Any, converter: Converter) -> Hook:
    inner = make_dict_structure_fn(
        cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True
    )
    fields = attrs.fields(cls)
    must = [field.name for field in fields if field.metadata.get(REQUIRED)]
    never_null = [field.name for field in fields if field.metadata.get(OMIT_NONE)]
    constants = {f.name: f.metadata[CONSTANT] for f in fields if CONSTANT in f.metadata}

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise _expected(dict, value)
        for name, wanted in constants.items():  # first: of a newer schema, nothing else is a fault
            if name in value and value[name] != wanted:
                raise _at(name, _WrongError(f"{value[name]!r} is not {wanted!r}", f"use {wanted!r}"))
        for name in must:
            if name not in value:
                raise _at(name, _WrongError("this key is missing", "add it"))
        for name in never_null:
            if name in value and value[name] is None:
                raise _at(name, _WrongError("must not be null", "leave the key out"))
        return inner(value, cls)

    return hook


def _at(name: str, error: _WrongError) -> _WrongError:
    error.__notes__ = [AttributeValidationNote(f"at {name}", name, object)]
    return error


def _class_unstructure(cls: Any, converter: Converter) -> Callable[[Any], dict[str, Any]]:
    inner = make_dict_unstructure_fn(cls, converter)
    # Not cattrs' omit_if_default: it would move these keys to the end.
    omit = [field.name for field in attrs.fields(cls) if field.metadata.get(OMIT_NONE)]

    def hook(value: Any) -> dict[str, Any]:
        document = inner(value)
        for name in omit:
            if document[name] is None:
                del document[name]
        return document

    return hook


def _origin_in(*origins: Any) -> Callable[[Any], bool]:
    return lambda cls: cls in origins or get_origin(cls) in origins


def _make() -> Converter:
    converter = Converter(
        forbid_extra_keys=True, unstruct_collection_overrides={tuple: list, frozenset: sorted}
    )
    for primitive in (str, int, bool):
        converter.register_structure_hook(primitive, _exact(primitive))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(StrEnum, _enum)  # else the hook of its base str would serve it
    converter.register_structure_hook_func(lambda cls: cls in (object, Any), lambda value, _: value)
    converter.register_structure_hook_factory(_origin_in(tuple), _sequence(tuple))
    converter.register_structure_hook_factory(_origin_in(frozenset), _sequence(frozenset))
    converter.register_structure_hook_factory(_origin_in(dict, Mapping), _mapping)
    converter.register_structure_hook_factory(_is_union, _union)
    converter.register_structure_hook_factory(_origin_in(Annotated), _ruled)
    converter.register_structure_hook_factory(attrs.has, _class_structure)
    converter.register_unstructure_hook_factory(attrs.has, _class_unstructure)
    return converter


_CONVERTER = _make()
