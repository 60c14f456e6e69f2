"""Runtime drift v0.2: what differs between two archives, and what may have caused it (contracts §6.3)."""

from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from harness.bundle.reader import Archive
from harness.compare.drift_options import DriftOptions
from harness.compare.drift_provenance import provenance
from harness.compare.members import document, lines, open_archive
from harness.compare.projection import Declared, host_of, project, split_operation
from harness.contracts.health import EndpointScope, ObservationHealth
from harness.contracts.kernel_event import OPENAT, KernelEvent, Status
from harness.contracts.manifest import HEALTH, KERNEL, SDK, SURFACE
from harness.contracts.projection import PathClass, Projection
from harness.contracts.rules import sorted_unique
from harness.contracts.runtime_drift import (
    TAXONOMY_NON_CLAIMS,
    Classification,
    DriftArchive,
    DriftDimension,
    DriftReport,
    DriftRow,
    DriftSummary,
    Taxonomy,
)
from harness.contracts.sdk_event import TOOL_CALL_TYPES, SdkEvent, SdkEventType
from harness.contracts.surface import CapabilitySurface

SOURCES = {
    DriftDimension.FILESYSTEM_PATHS: "capability_surface.filesystem_paths",
    DriftDimension.FILE_OPERATIONS: "kernel_layer.openat",
    DriftDimension.NETWORK: "capability_surface.network_endpoints",
    DriftDimension.EXECS: "capability_surface.process_execs",
    DriftDimension.SDK_EVENTS: "sdk_layer.tool_call_events",
    DriftDimension.MCP_TOOLS: "capability_surface.mcp_tools",
    DriftDimension.ORDER: "sdk_layer.tool_call_started",
}
_BY_PATH = (DriftDimension.FILESYSTEM_PATHS, DriftDimension.FILE_OPERATIONS)


@frozen(kw_only=True)
class Arm:
    """One archive as drift sees it."""

    archive: Archive
    path: str
    health: ObservationHealth
    surface: CapabilitySurface
    kernel: tuple[KernelEvent, ...]
    sdk: tuple[SdkEvent, ...]

    @property
    def reference(self) -> DriftArchive:
        return DriftArchive(
            path=self.path,
            run_id=self.archive.run_id,
            runtime_label=self.sdk[0].source if self.sdk else None,
            manifest_digest=self.archive.identity,
            sdk_event_count=len(self.sdk),
        )

    @property
    def scope(self) -> str:
        """The claim scope of its endpoints, as printed; the first generation has none."""
        return self.health.network_endpoint_claim_scope or "unspecified"

    @property
    def tool_order(self) -> tuple[str, ...]:
        started = SdkEventType.TOOL_CALL_STARTED
        return tuple(event.tool or "" for event in self.sdk if event.event_type is started)

    def values(self, dimension: DriftDimension) -> tuple[str, ...]:
        """The raw values, sorted, each once."""
        if dimension is DriftDimension.FILE_OPERATIONS:
            return sorted_unique(_file_operations(self.kernel))
        if dimension is DriftDimension.SDK_EVENTS:
            return sorted_unique(
                f"{e.event_type}:{e.tool}" for e in self.sdk if e.event_type in TOOL_CALL_TYPES
            )
        if dimension is DriftDimension.ORDER:
            return sorted_unique(self.tool_order)
        name = SOURCES[dimension].partition(".")[2]
        values: tuple[str, ...] = getattr(self.surface, name)
        return values


def load_arm(path: Path) -> Arm:
    """An archive of ours or of the reference, or the folder of an extracted one; errors as `load_side`."""
    archive = open_archive(path)
    return Arm(
        archive=archive,
        path=str(path),
        health=document(archive, HEALTH, ObservationHealth),
        surface=document(archive, SURFACE, CapabilitySurface),
        kernel=lines(archive, KERNEL, KernelEvent),
        sdk=lines(archive, SDK, SdkEvent),
    )


def drift(a: Arm, b: Arm, options: DriftOptions | None = None) -> DriftReport:
    """The report; it classifies raw values, declared names stand beside them."""
    options = options or DriftOptions()
    rows = tuple(_row(dimension, a, b, options) for dimension in DriftDimension)
    counts = {kind: sum(row.classification is kind for row in rows) for kind in Classification}
    return DriftReport(
        archive_a=a.reference,
        archive_b=b.reference,
        taxonomy=Taxonomy(categories=tuple(PathClass), non_claims=TAXONOMY_NON_CLAIMS),
        provenance=provenance(a.archive, b.archive, (a.path, b.path), options),
        rows=rows,
        summary=DriftSummary(
            dimensions_checked=len(rows),
            task_induced=counts[Classification.TASK],
            provider_induced=counts[Classification.PROVIDER],
            runtime_induced=counts[Classification.RUNTIME],
            inconclusive=counts[Classification.INCONCLUSIVE],
        ),
    )


def _row(dimension: DriftDimension, a: Arm, b: Arm, options: DriftOptions) -> DriftRow:
    left, right = a.values(dimension), b.values(dimension)
    if dimension is DriftDimension.ORDER:
        classification, detail = _order(a.tool_order, b.tool_order)
    else:
        classification, detail = _classify(dimension, left, right, options)
    diagnostic = EndpointScope.DIAGNOSTIC_ONLY in (a.scope, b.scope)
    if dimension is DriftDimension.NETWORK and diagnostic and left and right and left != right:
        classification = Classification.INCONCLUSIVE
        detail = f"network_endpoints claim scope is diagnostic-only (arm-a={a.scope}, arm-b={b.scope})"
    return DriftRow(
        dimension=dimension,
        source=SOURCES[dimension],
        only_in_a=sorted_unique(set(left) - set(right)),
        only_in_b=sorted_unique(set(right) - set(left)),
        in_both=sorted_unique(set(left) & set(right)),
        classification=classification,
        detail=detail,
        projection=_projection(dimension, left, right, options),
    )


def _projection(
    dimension: DriftDimension, left: Sequence[str], right: Sequence[str], options: DriftOptions
) -> Projection:
    declared: Declared | None = None
    if dimension in _BY_PATH:
        declared = options.paths
    elif dimension is DriftDimension.NETWORK:
        declared = options.endpoints
    return project(dimension, declared, left, right)


def _classify(
    dimension: DriftDimension, left: Sequence[str], right: Sequence[str], options: DriftOptions
) -> tuple[Classification, str]:
    """The first condition that holds, in the contract's order."""
    if not left and not right:
        return Classification.INCONCLUSIVE, "dimension empty in both arms"
    if not left or not right:
        arm = "arm-b" if left else "arm-a"
        detail = f"dimension absent in {arm}; cannot tell if not emitted or not measured"
        return Classification.INCONCLUSIVE, detail
    unshared = set(left) ^ set(right)
    if not unshared:
        return Classification.TASK, "full overlap"
    network = dimension is DriftDimension.NETWORK
    provider = {one for one in unshared if network and host_of(one) in options.provider_hosts}
    fixture = {one for one in unshared if _is_fixture(one, options.fixture_paths)}
    if provider == unshared:
        detail = f"all {len(unshared)} non-shared item(s) match provider host whitelist"
        return Classification.PROVIDER, detail
    if fixture == unshared:
        return Classification.TASK, f"all {len(unshared)} non-shared item(s) match known fixture paths"
    rest = len(unshared - provider - fixture)
    counts = f"{len(fixture)} fixture, {rest} unclassified"
    if network:
        counts = f"{len(provider)} provider, {counts}"
    return Classification.RUNTIME, f"{len(unshared)} non-shared item(s); {counts}"


def _is_fixture(value: str, fixture_paths: Sequence[str]) -> bool:
    return value in fixture_paths or split_operation(value)[1] in fixture_paths


def _order(left: Sequence[str], right: Sequence[str]) -> tuple[Classification, str]:
    """Tool names in the order of their calls; ids are the runtime's own and left out."""
    if not left and not right:
        return Classification.INCONCLUSIVE, "no tool_call_started events in either arm"
    if not left or not right:
        return Classification.INCONCLUSIVE, "invocation order absent in one arm"
    if left == right:
        return Classification.TASK, f"identical sequence: {' -> '.join(left)}"
    return Classification.RUNTIME, f"a: {' -> '.join(left)} | b: {' -> '.join(right)}"


def _file_operations(events: Sequence[KernelEvent]) -> list[str]:
    """`<access_mode>:<path>` of each open that succeeded, and `<flag>:<path>` of each of its flags."""
    found = []
    for event in events:
        if event.event_type != OPENAT or event.value is None or event.status is not Status.SUCCESS:
            continue
        if event.access_mode is not None:
            found.append(f"{event.access_mode}:{event.value}")
        found += [f"{flag}:{event.value}" for flag in event.operation_flags or ()]
    return found
