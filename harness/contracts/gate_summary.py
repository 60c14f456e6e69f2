"""summary.json of a gate session: every gate, its runs and what came of them."""

from attrs import frozen

from harness.contracts.converter import constant
from harness.contracts.rules import Digest

SCHEMA = "assay.runner.gate_summary.v1"


@frozen(kw_only=True)
class RunSummary:
    """`archive` relative to the summary; `failures` empty when accepted; phases in milliseconds."""

    archive: str
    passed: bool
    failures: tuple[str, ...]
    seconds: float
    phases_ms: dict[str, float]


@frozen(kw_only=True)
class GateResultSummary:
    """`divergences`: one line for each member whose bytes differ between runs; `image_locked`: the
    image was the one of its lock."""

    gate: str
    fixture: str
    image_id: Digest
    image_locked: bool
    passed: bool
    runs: tuple[RunSummary, ...]
    divergences: tuple[str, ...]
    median_phases_ms: dict[str, float]


@frozen(kw_only=True)
class GateSummary:
    schema: str = constant(SCHEMA)
    passed: bool
    gates: tuple[GateResultSummary, ...]
