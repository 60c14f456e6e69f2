"""The members whose bytes must be the same in every run of a gate (contracts §7.3; design §6)."""

from collections.abc import Container

COMPARED = (
    "observation-health.json",
    "capability-surface.json",
    "correlation-report.json",
    "layers/sdk.ndjson",
    "layers/policy.ndjson",
    "companion/kernel.ndjson",
    "companion/surface.json",
    "companion/processes.json",
    "companion/attribution.json",
    "companion/policy.ndjson",
)
_LATER = frozenset({"companion/policy.ndjson"})  # runs of before have no such member


def compared(*archives: Container[str]) -> tuple[str, ...]:
    """Those to compare of archives with these members: a later one only if each of them has it."""
    return tuple(
        name for name in COMPARED if name not in _LATER or all(name in members for members in archives)
    )
