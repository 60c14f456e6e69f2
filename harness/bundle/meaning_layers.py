"""What must follow from the three layers: surface, correlation, and what health says about them."""

import re
from collections.abc import Iterator

from attrs import evolve

from harness.bundle.contents import Contents
from harness.bundle.problem import Problem
from harness.contracts import companion
from harness.contracts.canonical import to_bytes
from harness.contracts.companion import AccountingV1
from harness.contracts.converter import unstructure
from harness.contracts.correlation import SEVERAL_POLICY_EVENTS, CorrelationReport
from harness.contracts.health import (
    ACCOUNTING_NOTE,
    CONTRACT_ONLY_NOTE,
    KERNEL_NOTE,
    POLICY_NOTE,
    SDK_NOTE,
    Correlation,
    EndpointScope,
    KernelLayer,
    NetworkCoverage,
    ObservationHealth,
    PolicyLayer,
    SdkLayer,
)
from harness.contracts.kernel_event import KernelEvent
from harness.contracts.manifest import CORRELATION, EVENTS, HEALTH, POLICY, SURFACE
from harness.contracts.surface import DIMENSIONS, CapabilitySurface
from harness.evidence.correlate import correlate, surface
from harness.evidence.layers import SOURCE_PREFIX, tool_call_ids

_COUNT = re.compile(r"([a-z_]+)=([0-9]+)(?: |$)")
_NETWORK = re.compile(r"(network_protocol_coverage|network_endpoint_claim_scope)=([a-z_]+)(?: |$)")
_DOWNGRADED = "kernel_layer downgraded to absent"
_SCOPES = {
    NetworkCoverage.UNKNOWN: EndpointScope.UNKNOWN,
    NetworkCoverage.ABSENT: EndpointScope.NOT_APPLICABLE,
}


def surface_problems(contents: Contents) -> Iterator[Problem]:
    """contracts §2.2"""
    claimed = contents.document(SURFACE, CapabilitySurface)
    events = (
        KernelEvent(
            run_id="",
            seq=0,
            pid=0,
            event_type=fact.event_type,
            kind="",
            value=fact.value,
        )
        for fact in contents.v0.facts()
    )
    wanted = surface(contents.run_id, events, contents.policy)
    for name in DIMENSIONS:
        have, want = set(getattr(claimed, name)), set(getattr(wanted, name))
        for value in sorted(want - have):
            yield Problem("ContractSurfaceMismatch", SURFACE, f"/{name}", repr(value), "not there")
        for value in sorted(have - want):
            yield Problem("ContractSurfaceMismatch", SURFACE, f"/{name}", "no such value", repr(value))


def correlation_problems(contents: Contents) -> Iterator[Problem]:
    """contracts §5.4. The reference's generations differ in two optional things: a session cgroup id in a
    binding, and the ambiguity that several decisions give without one."""
    report = contents.document(CORRELATION, CorrelationReport)
    idless = 0
    if contents.has_companion:
        idless = contents.document(companion.ACCOUNTING, AccountingV1).idless_calls
    wanted = correlate(contents.run_id, contents.policy, contents.v0.count, contents.sdk, idless)
    if not contents.has_companion:
        report = evolve(report, bindings=tuple(evolve(b, cgroup_id=None) for b in report.bindings))
        if SEVERAL_POLICY_EVENTS not in report.ambiguities:
            rest = tuple(text for text in wanted.ambiguities if text != SEVERAL_POLICY_EVENTS)
            status = Correlation.PARTIAL if rest else Correlation.CLEAN
            wanted = evolve(wanted, ambiguities=rest, status=status)
    have, want = unstructure(report), unstructure(wanted)
    for key in ("status", "bindings", "ambiguities"):
        if have[key] != want[key]:
            expected, actual = short(want[key]), short(have[key])
            yield Problem("ContractCorrelationMismatch", CORRELATION, f"/{key}", expected, actual)


def short(value: object) -> str:
    """A value for people: canonical JSON, cut."""
    text = to_bytes(value).decode()
    return text if len(text) <= 400 else f"{text[:400]}…"


def health_problems(contents: Contents) -> Iterator[Problem]:
    """contracts §3.5, §3.7"""
    health = contents.document(HEALTH, ObservationHealth)
    kernel, policy, sdk = contents.v0.count, contents.policy, contents.sdk
    layer = PolicyLayer.PRESENT if policy else PolicyLayer.ABSENT
    if health.policy_layer is not layer:
        yield unhealthy("/policy_layer", layer, health.policy_layer)
    self_report = SdkLayer.SELF_REPORTED if sdk else SdkLayer.ABSENT
    if health.sdk_layer is not self_report:
        yield unhealthy("/sdk_layer", self_report, health.sdk_layer)
    contract_only = CONTRACT_ONLY_NOTE in health.notes
    if contract_only and (kernel or health.kernel_layer is not KernelLayer.ABSENT):
        yield unhealthy("/notes", "no contract_only_mode beside a kernel layer", CONTRACT_ONLY_NOTE)
    kernel_counts = {"monitor_events": kernel}
    if _DOWNGRADED not in (health.note(KERNEL_NOTE) or ""):
        kernel_counts["ringbuf_drops"] = health.ringbuf_drops
    calls = len(tool_call_ids(sdk))
    yield from _note_problems(health, KERNEL_NOTE, not contract_only, kernel_counts)
    yield from _note_problems(health, POLICY_NOTE, bool(policy), {"decision_events": len(policy)})
    yield from _note_problems(health, SDK_NOTE, bool(sdk), {"sdk_events": len(sdk), "sdk_tool_calls": calls})
    yield from _claim_problems(health, contract_only)


def _claim_problems(health: ObservationHealth, contract_only: bool) -> Iterator[Problem]:
    """A capture that is not clean claims no kernel layer, and says so in its notes (§3.5)."""
    clean = health.cgroup_correlation is Correlation.CLEAN
    absent = health.kernel_layer is KernelLayer.ABSENT
    if clean == absent:
        expected = "present beside a clean correlation" if clean else "absent beside one that is not clean"
        yield unhealthy("/kernel_layer", expected, health.kernel_layer)
    downgraded = _DOWNGRADED in (health.note(KERNEL_NOTE) or "")
    accounting = health.note(ACCOUNTING_NOTE) or ""
    if clean and (downgraded or contract_only or "unclean=" in accounting):
        yield unhealthy("/cgroup_correlation", "partial, as the notes say", health.cgroup_correlation)
    if not clean and not downgraded and not contract_only:
        yield unhealthy("/notes", f"{KERNEL_NOTE} with {_DOWNGRADED!r}", repr(health.note(KERNEL_NOTE)))
    if "other_losses=" in accounting and health.kernel_layer is KernelLayer.COMPLETE:
        yield unhealthy("/kernel_layer", "not complete, as the notes say", health.kernel_layer)


def _note_problems(
    health: ObservationHealth, code: str, wanted: bool, counts: dict[str, int]
) -> Iterator[Problem]:
    same = [note for note in health.notes if note.partition(":")[0] == code]
    if len(same) != int(wanted):
        yield unhealthy("/notes", f"{int(wanted)} {code} notes", str(len(same)))
        return
    for note in same:
        said = dict(_COUNT.findall(note))
        for key, count in counts.items():
            if said.get(key) != str(count):
                yield unhealthy("/notes", f"{code}: {key}={count}", note)


def network_coverage_problems(contents: Contents) -> Iterator[Problem]:
    """contracts §3.5, the two later fields: the scope follows from the coverage, the note repeats both."""
    health = contents.document(HEALTH, ObservationHealth)
    coverage, scope = health.network_protocol_coverage, health.network_endpoint_claim_scope
    if coverage is not None:
        if health.kernel_layer is KernelLayer.ABSENT and coverage is not NetworkCoverage.ABSENT:
            yield unhealthy("/network_protocol_coverage", NetworkCoverage.ABSENT, coverage)
        wanted = _SCOPES.get(coverage, EndpointScope.DIAGNOSTIC_ONLY)
        if scope is not wanted:
            yield unhealthy("/network_endpoint_claim_scope", wanted, str(scope))
    for key, said in _NETWORK.findall(health.note(KERNEL_NOTE) or ""):
        if said != getattr(health, key):
            yield unhealthy(f"/{key}", f"{said}, as the notes say", str(getattr(health, key)))


def run_end_problems(contents: Contents) -> Iterator[Problem]:
    """A run that succeeded ended by itself with 0; nothing ends in two ways (contracts §2.7)."""
    end = contents.finished
    if end.exit_code is not None and end.signal is not None:
        yield Problem("ContractRunEventMismatch", EVENTS, "line 2 at /signal", "null", str(end.signal))
    if end.success and end.exit_code != 0:
        place = "line 2 at /success"
        yield Problem("ContractRunEventMismatch", EVENTS, place, "false", f"true with {end.exit_code}")


def policy_source_problems(contents: Contents) -> Iterator[Problem]:
    """A source that names a run names this one (contracts §5.1)."""
    for number, event in enumerate(contents.policy, start=1):
        if event.source.startswith(SOURCE_PREFIX) and event.source != SOURCE_PREFIX + contents.run_id:
            place = f"line {number} at /source"
            yield Problem(
                "ContractPolicyMismatch", POLICY, place, SOURCE_PREFIX + contents.run_id, event.source
            )


def unhealthy(pointer: str, expected: str, actual: str) -> Problem:
    return Problem("ContractHealthMismatch", HEALTH, pointer, str(expected), str(actual))
