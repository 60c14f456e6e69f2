"""What a person declares about two archives before their drift is told apart (contracts §6.3)."""

from collections.abc import Iterable

from attrs import evolve, frozen

from harness.compare.projection import ENDPOINTS, PATHS, Declared, read_aliases
from harness.contracts.fidelity import ClaimKind
from harness.contracts.projection import ProjectionRule
from harness.contracts.runtime_drift import DriftDimension, RenderKind
from harness.errors import InputError

PROVIDER_HOSTS = (
    "api.openai.com",
    "auth.openai.com",
    "oauth.openai.com",
    "generativelanguage.googleapis.com",
    "oauth2.googleapis.com",
    "accounts.google.com",
)
_KINDS = {
    "positive": ClaimKind.POSITIVE,
    "exhaustive": ClaimKind.EXHAUSTIVE,
    "bounded_negative": ClaimKind.NEGATIVE,
}


@frozen(kw_only=True)
class DriftOptions:
    """Nothing declared is the default; provenance that is not given stays null in the report."""

    fixture_paths: tuple[str, ...] = ()
    provider_hosts: tuple[str, ...] = PROVIDER_HOSTS
    paths: Declared = PATHS
    endpoints: Declared = ENDPOINTS
    assay_commit: str | None = None
    comparator_commit: str | None = None
    rendered_at: str | None = None
    render_kind: RenderKind = RenderKind.UNSPECIFIED
    source_run_url: str | None = None
    workflow_url: str | None = None
    runner_label: str | None = None
    raw_captures_unchanged: bool | None = None


def declare(
    options: DriftOptions,
    *,
    path_aliases: Iterable[str] = (),
    network_aliases: Iterable[str] = (),
    network_cidrs: Iterable[str] = (),
) -> DriftOptions:
    """Options with the aliases of the command line, `RAW=NAME` each; InputError for another form."""
    paths = read_aliases(path_aliases, ProjectionRule.PATH_ALIAS)
    endpoints = read_aliases(network_aliases, ProjectionRule.NETWORK_ALIAS)
    endpoints += read_aliases(network_cidrs, ProjectionRule.NETWORK_CIDR)
    return evolve(
        options,
        paths=evolve(options.paths, aliases=paths),
        endpoints=evolve(options.endpoints, aliases=endpoints),
    )


def read_assertion(text: str) -> tuple[ClaimKind, DriftDimension]:
    """`positive|exhaustive|bounded_negative:<dimension>`; InputError for anything else."""
    kind, _, dimension = text.partition(":")
    if kind not in _KINDS or dimension not in tuple(DriftDimension):
        raise InputError(
            "is no KIND:DIMENSION",
            place=f"--assert-claim {text!r}",
            hint=f"kinds: {', '.join(_KINDS)}; dimensions: {', '.join(DriftDimension)}",
        )
    return _KINDS[kind], DriftDimension(dimension)
