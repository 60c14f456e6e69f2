"""The members whose bytes must be the same in every run of a gate (contracts §7.3; design §6)."""

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
)
