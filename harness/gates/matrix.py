"""What a gate session measured, a line for each runtime."""

import json
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from harness.bundle.reader import read_archive
from harness.contracts.gate_summary import GateResultSummary, RuntimeSummary


@frozen
class GateFacts:
    """What one archive says of its runtime; `sdk_version` None without an SDK layer."""

    sdk_version: str | None = None
    tool_call_ids: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


def facts_of(archive: Path) -> GateFacts:
    """Read back from the archive, as acceptance does."""
    members = read_archive(archive).members
    told = (json.loads(line)["sdk_version"] for line in members["layers/sdk.ndjson"].splitlines())
    bindings = json.loads(members["correlation-report.json"])["bindings"]
    return GateFacts(
        sdk_version=next(told, None),
        tool_call_ids=tuple(binding["tool_call_id"] for binding in bindings),
        paths=tuple(json.loads(members["capability-surface.json"])["filesystem_paths"]),
    )


def by_runtime(gates: Sequence[GateResultSummary]) -> tuple[RuntimeSummary, ...]:
    """Gates of one fixture together, in the order in which the fixtures come first."""
    groups: dict[str, list[GateResultSummary]] = {}
    for gate in gates:
        groups.setdefault(gate.fixture.partition(":")[0], []).append(gate)
    return tuple(
        RuntimeSummary(
            runtime=runtime,
            sdk_version=group[0].sdk_version,
            id_source=group[0].id_source,
            calls=len({one for gate in group for one in gate.tool_call_ids}),
            paths=len({path for gate in group for path in gate.paths}),
            seconds=round(sum(run.seconds for gate in group for run in gate.runs), 3),
            passed=all(gate.passed for gate in group),
        )
        for runtime, group in groups.items()
    )
