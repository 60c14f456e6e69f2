"""summary.json of a gate session: every gate, its runs and what came of them, and a line for each runtime."""

from attrs import frozen

from harness.contracts.converter import Natural, constant, nullable
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
    image was the one of its lock.

    sdk_version  as the SDK told it in run 1; null without one. tool_call_ids, paths  of run 1
    """

    gate: str
    fixture: str
    id_source: str | None = nullable()
    sdk_version: str | None = nullable()
    tool_call_ids: tuple[str, ...]
    paths: tuple[str, ...]
    image_id: Digest
    image_locked: bool
    passed: bool
    runs: tuple[RunSummary, ...]
    divergences: tuple[str, ...]
    median_phases_ms: dict[str, float]


@frozen(kw_only=True)
class RuntimeSummary:
    """All gates of one fixture: distinct calls and paths, seconds of all runs together."""

    runtime: str
    sdk_version: str | None = nullable()
    id_source: str | None = nullable()
    calls: Natural
    paths: Natural
    seconds: float
    passed: bool


@frozen(kw_only=True)
class GateSummary:
    schema: str = constant(SCHEMA)
    passed: bool
    runtimes: tuple[RuntimeSummary, ...]
    gates: tuple[GateResultSummary, ...]
