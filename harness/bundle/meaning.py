"""The rules of the last stage: what one member says must follow from what others say."""

from collections.abc import Callable, Iterable

from attrs import frozen

from harness.bundle import books, meaning_kernel, meaning_layers, meaning_policy, meaning_run
from harness.bundle.contents import Contents
from harness.bundle.problem import Problem
from harness.contracts.health import ObservationHealth
from harness.contracts.manifest import HEALTH


def _nothing(_: Contents) -> str:
    return ""


def _no_companion(contents: Contents) -> str:
    return "" if contents.has_companion else "the archive has no companion"


def _never(field: str) -> Callable[[Contents], str]:
    def missing(contents: Contents) -> str:
        health = contents.document(HEALTH, ObservationHealth)
        return "" if getattr(health, field) is None else "the archive does not hold what it is derived from"

    return missing


@frozen
class Rule:
    """`missing` says why a rule cannot be checked of an archive, empty if it can."""

    name: str
    text: str
    problems: Callable[[Contents], Iterable[Problem]]
    missing: Callable[[Contents], str] = _nothing

    @property
    def checks(self) -> bool:
        """Whether there is anything in an archive that the rule could be checked by."""
        return self.problems is not _unchecked


def _unchecked(_: Contents) -> Iterable[Problem]:
    return ()


RULES: tuple[Rule, ...] = (
    Rule("surface", "the v0 surface follows from kernel and policy layer", meaning_layers.surface_problems),
    Rule("correlation", "the report follows from the three layers", meaning_layers.correlation_problems),
    Rule("health", "layers, notes and correlation of health fit the layers", meaning_layers.health_problems),
    Rule(
        "network_claims",
        "the later network fields of health fit each other and the note",
        meaning_layers.network_coverage_problems,
    ),
    Rule("run_end", "the run's end does not contradict itself", meaning_layers.run_end_problems),
    Rule("policy_source", "a decision's source names this run", meaning_layers.policy_source_problems),
    Rule(
        "network_coverage",
        "network coverage follows from counters of the hooks",
        _unchecked,
        _never("network_protocol_coverage"),
    ),
    Rule("redaction", "what was redacted was a secret, and counted", _unchecked, _never("redaction")),
    Rule(
        "accounting",
        "the books add up, and name each reason to be unclean",
        books.accounting_problems,
        _no_companion,
    ),
    Rule(
        "health_of_books",
        "health is what the books and the layers give",
        books.health_of_books_problems,
        _no_companion,
    ),
    Rule(
        "kernel_lines",
        "the companion's kernel lines use known words and have the class of their operation",
        meaning_kernel.line_problems,
        _no_companion,
    ),
    Rule(
        "kernel_layers",
        "the v0 kernel layer is the companion's evidence in v0's words",
        meaning_kernel.v0_problems,
        _no_companion,
    ),
    Rule(
        "companion_surface",
        "the v1 surface follows from the companion's kernel lines and the policy layer",
        meaning_kernel.surface_v1_problems,
        _no_companion,
    ),
    Rule(
        "processes",
        "the process tree has no gaps, and its executions are those of the kernel lines",
        meaning_run.process_problems,
        _no_companion,
    ),
    Rule(
        "attribution",
        "each operation that matters is attributed, as its call's words allow",
        meaning_run.attribution_problems,
        _no_companion,
    ),
    Rule(
        "policy_events",
        "the proxy's decisions are those of the policy layer, its refusals told one by one or counted",
        meaning_policy.policy_event_problems,
        meaning_policy.no_policy_events,
    ),
    Rule(
        "run_events",
        "the lifecycle lines fit the run spec and the process tree",
        meaning_run.run_event_problems,
        _no_companion,
    ),
    Rule(
        "network_seal", "seals are of the run's roles, as declared", meaning_run.seal_problems, _no_companion
    ),
    Rule(
        "runspec",
        "what was declared does not contradict itself",
        meaning_run.runspec_problems,
        _no_companion,
    ),
)
