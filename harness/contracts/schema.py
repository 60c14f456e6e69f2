"""From the models of the contracts to JSON Schema 2020-12: one source, so that neither can drift.

What a schema cannot say (sorted order, equal run ids, bits of open flags) is listed in
docs/contracts/schemas.md; everything else that a model refuses, its schema refuses too.
"""

import inspect
from collections.abc import Mapping
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import attrs
from attrs import frozen

from harness.contracts import cross_runtime_diff, fidelity, projection, runtime_drift
from harness.contracts.attestation import Hex256
from harness.contracts.capability_diff import Nothing
from harness.contracts.converter import CONSTANT, OMIT_NONE, REQUIRED, Natural, NonEmpty, Rule
from harness.contracts.policy_file import FOLDER, PATH_GLOB, RESERVED_IDS, Folder, Names, PathGlobs, RuleId
from harness.contracts.rules import Digest, OrderedSet, RunId
from harness.contracts.schema_rules import MODEL_RULES

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

# In Python `$` also matches before a last newline; elsewhere the look-ahead is true by itself.
_END = r"$(?!\n)"
_TEXT = {"type": "array", "items": {"type": "string"}}
_SPELT = _TEXT | {"items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": True}
_PRIMITIVES: dict[type, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
}


def _rule(annotated: Any) -> Rule:
    """The last rule of an Annotated type, which is what the type is known by."""
    found: Rule = [extra for extra in get_args(annotated)[1:] if isinstance(extra, Rule)][-1]
    return found


_RULES: dict[Rule, Schema] = {
    _rule(Natural): {"minimum": 0},
    _rule(NonEmpty): {"pattern": r"\S"},
    _rule(RunId): {"pattern": "^[A-Za-z0-9_-]+" + _END},
    _rule(Digest): {"pattern": "^sha256:[0-9a-f]{64}" + _END},
    _rule(Hex256): {"pattern": "^[0-9a-f]{64}" + _END},
    _rule(OrderedSet): {"uniqueItems": True},
    _rule(Nothing): {"maxItems": 0},
    _rule(Names): _SPELT,
    _rule(Folder): {"pattern": FOLDER},
    _rule(PathGlobs): _SPELT | {"items": {"type": "string", "pattern": PATH_GLOB}},
    _rule(RuleId): {"not": {"enum": list(RESERVED_IDS)}},
    _rule(cross_runtime_diff.CrossRuntimeNonClaims): {"const": list(cross_runtime_diff.NON_CLAIMS)},
    _rule(fidelity.FidelityNonClaims): {"const": list(fidelity.NON_CLAIMS)},
    _rule(fidelity.ParityNonClaims): {"const": list(fidelity.PARITY_NON_CLAIMS)},
    _rule(projection.ProjectionNonClaims): {"const": list(projection.NON_CLAIMS)},
    _rule(runtime_drift.TaxonomyNonClaims): {"const": list(runtime_drift.TAXONOMY_NON_CLAIMS)},
    _rule(runtime_drift.ProvenanceNonClaims): {"const": list(runtime_drift.PROVENANCE_NON_CLAIMS)},
}


@frozen
class SchemaFile:
    """One file below schemas/. Several models: a document of any one of them; `also` holds beside them."""

    id: str
    models: tuple[type, ...]
    also: tuple[Schema, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.id}.schema.json"


def json_schema(file: SchemaFile, rules: Mapping[type, tuple[Schema, ...]] = MODEL_RULES) -> Schema:
    """The schema document. `rules`: what a model's own `validate` asks for, as schema fragments.

    TypeError for a type or rule that has no schema yet.
    """
    made = _Definitions(rules)
    choices = [made.reference(model) for model in file.models]
    head: Schema = {"$schema": DIALECT, "$id": f"urn:assay-runner:{file.id}", "title": file.id}
    body: Schema = choices[0] if len(choices) == 1 else {"oneOf": choices}
    document = head | body
    if file.also:
        document["allOf"] = list(file.also)
    document["$defs"] = dict(sorted(made.definitions.items()))
    return document


class _Definitions:
    """Every class once, by name, as the schemas come to need it."""

    def __init__(self, rules: Mapping[type, tuple[Schema, ...]]) -> None:
        self._rules = rules
        self.definitions: dict[str, Schema] = {}

    def reference(self, cls: type) -> Schema:
        name = cls.__name__
        if name not in self.definitions:
            self.definitions[name] = {}  # holds the place, should a class contain itself
            self.definitions[name] = self._object(cls)
        return {"$ref": f"#/$defs/{name}"}

    def _object(self, cls: type) -> Schema:
        properties: Schema = {}
        required = []
        for field in attrs.fields(cls):
            properties[field.name] = self._field(field)
            if field.metadata.get(REQUIRED) or field.default is attrs.NOTHING:
                required.append(field.name)
        schema: Schema = {}
        summary = inspect.cleandoc(cls.__dict__.get("__doc__") or "").partition("\n\n")[0]
        if summary:
            schema["description"] = " ".join(summary.split())
        schema |= {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }
        if cls in self._rules:
            schema["allOf"] = list(self._rules[cls])
        return schema

    def _field(self, field: "attrs.Attribute[Any]") -> Schema:
        if CONSTANT in field.metadata:
            return {"const": field.metadata[CONSTANT]}
        kind: Any = field.type
        if field.metadata.get(OMIT_NONE):  # left out, never null
            kind = Union[tuple(arg for arg in get_args(kind) if arg is not NoneType)]  # noqa: UP007
        return self.of(kind)

    def of(self, kind: Any) -> Schema:
        """The schema of one type annotation."""
        origin, args = get_origin(kind), get_args(kind)
        if kind in _PRIMITIVES:
            return dict(_PRIMITIVES[kind])
        if kind in (Any, object):
            return {}
        if origin is Annotated:
            return self._annotated(args)
        if origin in (Union, UnionType):
            return self._union(args)
        if origin in (dict, Mapping):
            return self._table(args)
        if origin is tuple and args[-1] is Ellipsis:
            return {"type": "array", "items": self.of(args[0])}
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return {"enum": [member.value for member in kind]}
        if isinstance(kind, type) and attrs.has(kind):
            return self.reference(kind)
        raise TypeError(f"no schema for {kind!r}")

    def _annotated(self, args: tuple[Any, ...]) -> Schema:
        schema = self.of(args[0])
        for extra in args[1:]:
            if extra not in _RULES:
                raise TypeError(f"no schema for the rule {extra!r}")
            schema |= _RULES[extra]
        return schema

    def _union(self, args: tuple[Any, ...]) -> Schema:
        schemas = [self.of(arg) for arg in args]
        simple = [schema["type"] for schema in schemas if set(schema) == {"type"}]
        if len(simple) == len(schemas):
            return {"type": simple}
        return {"anyOf": schemas}

    def _table(self, args: tuple[Any, ...]) -> Schema:
        if args[0] is not str:
            raise TypeError(f"no schema for keys of {args[0]!r}")
        values = self.of(args[1])
        return {"type": "object"} | ({"additionalProperties": values} if values else {})
