"""Declared names for raw values of a drift row (contracts §6.3): exact, never guessed."""

import ipaddress
from collections.abc import Iterable, Sequence

from attrs import frozen

from harness.contracts.projection import (
    NETWORK_SCHEMA,
    NON_CLAIMS,
    PATH_SCHEMA,
    SAMPLE_LIMIT,
    TAXONOMY_SCHEMA,
    ClaimLevel,
    Mapping,
    PathClass,
    Projection,
    ProjectionRule,
    ProjectionSchema,
    ProjectionStatus,
    Relation,
    SideName,
    UnmatchedSide,
    UnmatchedSummary,
)
from harness.contracts.rules import sorted_unique
from harness.errors import InputError

# What may stand before a path as "<operation>:" and stays there (contracts §2.13).
OPERATIONS = frozenset(
    {
        "append",
        "create",
        "exclusive",
        "open",
        "open_append",
        "open_create",
        "open_read",
        "open_read_write",
        "open_truncate",
        "open_write",
        "read",
        "read_write",
        "truncate",
        "unknown",
        "write",
    }
)
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@frozen
class Alias:
    """`raw` is a path, a HOST:PORT, or a CIDR block, as its rule says."""

    raw: str
    name: str
    path_class: PathClass
    rule: ProjectionRule


@frozen
class Declared:
    """The aliases of one kind of row; nothing declared: no projection."""

    schema: ProjectionSchema
    relation: Relation
    aliases: tuple[Alias, ...] = ()

    def projected(self, value: str) -> tuple[str, Alias] | None:
        """The declared name and the alias it comes from: exact ones first, then the narrowest block."""
        operation, path = split_operation(value)
        for alias in self.aliases:
            if alias.rule is ProjectionRule.NETWORK_CIDR:
                continue
            if alias.raw == value:
                return alias.name, alias
            if operation and self.relation is Relation.PATH and alias.raw == path:
                return f"{operation}:{alias.name}", alias
        blocks = [(_network(one.raw), one) for one in self.aliases if one.rule is ProjectionRule.NETWORK_CIDR]
        address = _address(host_of(value)) if blocks else None
        inside = [(net, one) for net, one in blocks if address is not None and address in net]
        if not inside:
            return None
        return (best := max(inside, key=lambda found: found[0].prefixlen)[1]).name, best


PATHS = Declared(ProjectionSchema(PATH_SCHEMA), Relation.PATH)
ENDPOINTS = Declared(ProjectionSchema(NETWORK_SCHEMA), Relation.NETWORK)


def read_aliases(texts: Iterable[str], rule: ProjectionRule) -> tuple[Alias, ...]:
    """`RAW=NAME` or `RAW=NAME@CLASS` each; the last "=" divides, the class is one of the taxonomy's.

    InputError for another form, an impossible block, or two names for one raw value.
    """
    default = PathClass.WORKLOAD_FIXTURE if rule is ProjectionRule.PATH_ALIAS else PathClass.PROVIDER_API
    known: dict[str, Alias] = {}
    for text in texts:
        raw, equals, name = text.rpartition("=")
        stem, at, last = name.rpartition("@")
        named = at and last in tuple(PathClass)
        alias = Alias(raw, stem if named else name, PathClass(last) if named else default, rule)
        if not (equals and raw.strip() and alias.name.strip()):
            raise InputError(
                "is no RAW=NAME", place=f"{rule} {text!r}", hint="write RAW=NAME or RAW=NAME@CLASS"
            )
        if rule is ProjectionRule.NETWORK_CIDR:
            _network(raw)
        if known.setdefault(raw, alias) != alias:
            raise InputError("has two names", place=f"{rule} {raw!r}", hint="declare it once")
    return tuple(known.values())


def project(dimension: str, declared: Declared | None, a: Sequence[str], b: Sequence[str]) -> Projection:
    """The projected rows beside the raw ones; raw values without a name stay as they are."""
    if declared is None or not declared.aliases:
        return Projection(
            schema=ProjectionSchema.NOT_APPLIED, status=ProjectionStatus.NOT_APPLIED, dimension=dimension
        )
    mappings: list[Mapping] = []
    names: dict[SideName, set[str]] = {}
    unmatched: dict[SideName, UnmatchedSide] = {}
    for side, values in ((SideName.A, a), (SideName.B, b)):
        found = {value: declared.projected(value) for value in values}
        names[side] = {hit[0] if hit else value for value, hit in found.items()}
        mappings += [_mapping(side, value, hit, declared) for value, hit in found.items() if hit]
        rest = sorted_unique(value for value, hit in found.items() if not hit)
        unmatched[side] = UnmatchedSide(side=side, count=len(rest), samples=rest[:SAMPLE_LIMIT])
    mappings.sort(key=lambda one: (one.side, one.raw_value, one.projected_value, one.rule))
    left, right = names[SideName.A], names[SideName.B]
    return Projection(
        schema=declared.schema,
        status=ProjectionStatus.APPLIED,
        dimension=dimension,
        claim_level=ClaimLevel.PROJECTED_EQUIVALENT if mappings else ClaimLevel.INCONCLUSIVE,
        taxonomy_schema=TAXONOMY_SCHEMA,
        only_in_a=sorted_unique(left - right),
        only_in_b=sorted_unique(right - left),
        in_both=sorted_unique(left & right),
        rules=tuple(sorted({one.rule for one in mappings})),
        mappings=tuple(mappings),
        unmatched_summary=UnmatchedSummary(a=unmatched[SideName.A], b=unmatched[SideName.B]),
        non_claims=NON_CLAIMS,
    )


def split_operation(value: str) -> tuple[str, str]:
    """(operation, path) of "read:/x"; ("", value) of anything else."""
    operation, colon, path = value.partition(":")
    return (operation, path) if colon and operation in OPERATIONS and path.startswith("/") else ("", value)


def host_of(endpoint: str) -> str:
    """The host of "a.b.c.d:port", "[addr]:port" or "name:port"."""
    host = endpoint.rpartition(":")[0] or endpoint
    return host.removeprefix("[").removesuffix("]")


def _mapping(side: SideName, value: str, hit: tuple[str, Alias], declared: Declared) -> Mapping:
    name, alias = hit
    return Mapping(
        side=side,
        raw_value=value,
        projected_value=name,
        path_class=alias.path_class,
        relation=declared.relation,
        rule=alias.rule,
    )


def _network(text: str) -> _Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise InputError(
            f"is no block of addresses: {error}", place=f"CIDR {text!r}", hint="for instance 10.0.0.0/8"
        ) from None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
