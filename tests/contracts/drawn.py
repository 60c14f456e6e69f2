"""Documents drawn from the models' own types, and harm done to them at a random place."""

import copy
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import attrs
from hypothesis import strategies as st

from harness.contracts import (
    attestation,
    capability_diff,
    cross_runtime_diff,
    fidelity,
    policy_file,
    projection,
    rules,
    runtime_drift,
)
from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.converter import CONSTANT, OMIT_NONE, REQUIRED, Natural, NonEmpty, unstructure
from harness.contracts.kernel_event import KernelEvent, open_event, other_event

Documents = st.SearchStrategy[Any]
NAMES = st.sampled_from(["a", "b-c", "run_1", "é", "/x", "😀", "a\n"])
DIGEST = "sha256:" + "0f" * 32
RUN_IDS = st.sampled_from(["r", "run_1-X"])
GLOBS = ["/", "/**", "**", "/a/b", "/a/*.txt", "**/b"]

# What each rule of the contracts asks for, said a second time.
KNOWN: list[tuple[Any, Documents]] = [
    (Natural, st.integers(0, 3)),
    (NonEmpty, st.sampled_from(["x", " y", "\n z"])),
    (rules.RunId, RUN_IDS),
    (rules.Digest, st.just(DIGEST)),
    (rules.OrderedSet, st.sets(NAMES, max_size=3).map(sorted)),
    (attestation.Hex256, st.just("0f" * 32)),
    (capability_diff.Nothing, st.just([])),
    (policy_file.Names, st.lists(st.sampled_from(["a", "b*"]), min_size=1, max_size=2, unique=True)),
    (policy_file.Folder, st.sampled_from(["/", "/workspace", "/a/b.c"])),
    (policy_file.PathGlobs, st.lists(st.sampled_from(GLOBS), min_size=1, max_size=2, unique=True)),
    (policy_file.RuleId, st.sampled_from(["one", "two"])),
    (cross_runtime_diff.CrossRuntimeNonClaims, st.just(list(cross_runtime_diff.NON_CLAIMS))),
    (fidelity.FidelityNonClaims, st.just(list(fidelity.NON_CLAIMS))),
    (fidelity.ParityNonClaims, st.just(list(fidelity.PARITY_NON_CLAIMS))),
    (projection.ProjectionNonClaims, st.just(list(projection.NON_CLAIMS))),
    (runtime_drift.TaxonomyNonClaims, st.just(list(runtime_drift.TAXONOMY_NON_CLAIMS))),
    (runtime_drift.ProvenanceNonClaims, st.just(list(runtime_drift.PROVENANCE_NON_CLAIMS))),
]
SIMPLE: dict[Any, Documents] = {
    str: NAMES,
    int: st.integers(-2, 3),
    float: st.sampled_from([0.5, 2, -1.5]),
    bool: st.booleans(),
    NoneType: st.none(),
    object: st.just("anything"),
}

_KERNEL = st.one_of(
    st.builds(
        open_event,
        run_id=RUN_IDS,
        seq=st.integers(0, 2),
        pid=st.integers(0, 2),
        value=st.none() | NAMES,
        flags=st.sampled_from([0, 1, 2, 3, 0o101, 0o3101, 0o400]),
        mode=st.just(0),
        resolve=st.integers(0, 2),
        return_value=st.integers(-2, 2),
    ),
    st.builds(
        other_event,
        run_id=RUN_IDS,
        seq=st.integers(0, 2),
        pid=st.integers(0, 2),
        event_type=st.sampled_from([2, 4, 6, 7, 10, 20, 200, 217]),
        value=st.none() | NAMES,
        return_value=st.none() | st.integers(-2, 2),
    ),
).map(lambda event: load_json(to_bytes(unstructure(event)), "event"))


def documents_of(kind: Any) -> Documents:
    """Documents that keep every rule of the types; rules between keys are kept by chance."""
    for known, strategy in KNOWN:
        if kind == known:
            return strategy
    origin, args = get_origin(kind), get_args(kind)
    if kind in SIMPLE:
        return SIMPLE[kind]
    if origin is Annotated:
        raise TypeError(f"no documents for {kind!r}")
    if origin in (Union, UnionType):
        return st.one_of(*(documents_of(arg) for arg in args))
    if origin in (dict, Mapping):
        return st.dictionaries(NAMES, documents_of(args[1]), max_size=2)
    if origin is tuple and args[0] in _OPEN:
        return st.just([])  # a tree ends somewhere
    if origin is tuple:
        return st.lists(documents_of(args[0]), max_size=2)
    if issubclass(kind, StrEnum):
        return st.sampled_from([member.value for member in kind])
    return _KERNEL if kind is KernelEvent else _objects(kind)


_OPEN: set[type] = set()  # classes whose documents are being described


def _objects(cls: type) -> Documents:
    _OPEN.add(cls)
    try:
        return _keys(cls)
    finally:
        _OPEN.discard(cls)


def _keys(cls: type) -> Documents:
    always: dict[str, Documents] = {}
    sometimes: dict[str, Documents] = {}
    for field in attrs.fields(cls):
        if CONSTANT in field.metadata:
            always[field.name] = st.just(field.metadata[CONSTANT])
            continue
        kind: Any = field.type
        if field.metadata.get(OMIT_NONE):
            kind = Union[tuple(arg for arg in get_args(kind) if arg is not NoneType)]  # noqa: UP007
        must = field.metadata.get(REQUIRED) or field.default is attrs.NOTHING
        (always if must else sometimes)[field.name] = documents_of(kind)
    return st.fixed_dictionaries(always, optional=sometimes)


# No float that is a whole number: JSON Schema takes 1.0 for an integer, a contract does not.
_ODD: list[Any] = [None, True, False, 0, 1, -1, 0.5, "", " ", "x", "x\n", DIGEST + "\n", {}]
ODD = st.sampled_from([*_ODD, [], ["b", "a"], ["a", "a"]])


def harmed(documents: Documents) -> Documents:
    """Each document with one change at a random place: a key more or less, another value, an item twice."""

    @st.composite
    def harm(draw: Callable[[Any], Any]) -> Any:
        document = copy.deepcopy(draw(documents))
        node: Any = document
        while True:
            inside = [value for value in _values(node) if value and isinstance(value, dict | list)]
            if not inside or draw(st.integers(0, 2)) == 0:
                break
            node = draw(st.sampled_from(inside))
        if isinstance(node, dict) and node:
            key = draw(st.sampled_from(sorted(node)))
            how = draw(st.sampled_from(["drop", "add", "replace", "replace"]))
            if how == "drop":
                del node[key]
            else:
                node["new" if how == "add" else key] = draw(ODD)
        elif isinstance(node, list) and node:
            place = draw(st.integers(0, len(node) - 1))
            node.insert(place, draw(st.just(copy.deepcopy(node[-1])) | ODD))
        return document

    return harm()


def _values(node: Any) -> list[Any]:
    return list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
