"""What must follow from the layers: surface, correlation, and what health says about them."""

import re
from collections.abc import Iterator

from attrs import evolve

from harness.bundle.books import accounting_problems
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
    KernelLayer,
    ObservationHealth,
    PolicyLayer,
    SdkLayer,
)
from harness.contracts.kernel_event import KernelEvent
from harness.contracts.manifest import COMPANION_MANIFEST, CORRELATION, HEALTH, KERNEL, POLICY, SDK, SURFACE
from harness.contracts.policy_event import PolicyEvent
from harness.contracts.sdk_event import SdkEvent
from harness.contracts.surface import DIMENSIONS, CapabilitySurface
from harness.evidence.correlate import correlate, surface
from harness.evidence.layers import tool_call_ids

_COUNT = re.compile(r"([a-z_]+)=([0-9]+)(?: |$)")
_DOWNGRADED = "kernel_layer downgraded to absent"


def derived_problems(contents: Contents) -> Iterator[Problem]:
    """Only of members that could be read; the others already have their problem."""
    kernel = contents.lines(KERNEL, KernelEvent)
    policy = contents.lines(POLICY, PolicyEvent)
    sdk = contents.lines(SDK, SdkEvent)
    health = contents.document(HEALTH, ObservationHealth)
    accounting = contents.document(companion.ACCOUNTING, AccountingV1)
    if kernel is not None and policy is not None:
        claimed = contents.document(SURFACE, CapabilitySurface)
        if claimed is not None:
            yield from _surface_problems(claimed, surface(claimed.run_id, kernel, policy))
    if kernel is not None and policy is not None and sdk is not None:
        report = contents.document(CORRELATION, CorrelationReport)
        idless = accounting.idless_calls if accounting else 0
        if report is not None:
            wanted = correlate(report.run_id, policy, len(kernel), sdk, idless)
            yield from _correlation_problems(report, wanted, COMPANION_MANIFEST in contents.models)
        if health is not None:
            yield from _health_problems(health, kernel, policy, sdk)
    if accounting is not None:
        yield from accounting_problems(accounting, health)


def _surface_problems(claimed: CapabilitySurface, wanted: CapabilitySurface) -> Iterator[Problem]:
    for name in DIMENSIONS:
        have, want = set(getattr(claimed, name)), set(getattr(wanted, name))
        for value in sorted(want - have):
            yield Problem("ContractSurfaceMismatch", SURFACE, f"/{name}", repr(value), "not there")
        for value in sorted(have - want):
            yield Problem("ContractSurfaceMismatch", SURFACE, f"/{name}", "no such value", repr(value))


def _correlation_problems(
    report: CorrelationReport, wanted: CorrelationReport, ours: bool
) -> Iterator[Problem]:
    """`ours`: written with a companion. The reference's generations differ in two optional things:
    a session cgroup id in a binding, and the ambiguity that several decisions give without one."""
    if not ours:
        report = evolve(report, bindings=tuple(evolve(b, cgroup_id=None) for b in report.bindings))
        if SEVERAL_POLICY_EVENTS not in report.ambiguities:
            rest = tuple(text for text in wanted.ambiguities if text != SEVERAL_POLICY_EVENTS)
            status = Correlation.PARTIAL if rest else Correlation.CLEAN
            wanted = evolve(wanted, ambiguities=rest, status=status)
    have, want = unstructure(report), unstructure(wanted)
    for key in ("status", "bindings", "ambiguities"):
        if have[key] != want[key]:
            expected, actual = _json(want[key]), _json(have[key])
            yield Problem("ContractCorrelationMismatch", CORRELATION, f"/{key}", expected, actual)


def _json(value: object) -> str:
    text = to_bytes(value).decode()
    return text if len(text) <= 400 else f"{text[:400]}…"


def _health_problems(
    health: ObservationHealth,
    kernel: tuple[KernelEvent, ...],
    policy: tuple[PolicyEvent, ...],
    sdk: tuple[SdkEvent, ...],
) -> Iterator[Problem]:
    layer = PolicyLayer.PRESENT if policy else PolicyLayer.ABSENT
    if health.policy_layer is not layer:
        yield _health("/policy_layer", layer, health.policy_layer)
    self_report = SdkLayer.SELF_REPORTED if sdk else SdkLayer.ABSENT
    if health.sdk_layer is not self_report:
        yield _health("/sdk_layer", self_report, health.sdk_layer)
    contract_only = CONTRACT_ONLY_NOTE in health.notes
    if contract_only and (kernel or health.kernel_layer is not KernelLayer.ABSENT):
        yield _health("/notes", "no contract_only_mode beside a kernel layer", CONTRACT_ONLY_NOTE)
    kernel_counts = {"monitor_events": len(kernel)}
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
        yield _health("/kernel_layer", expected, health.kernel_layer)
    downgraded = _DOWNGRADED in (health.note(KERNEL_NOTE) or "")
    accounting = health.note(ACCOUNTING_NOTE) or ""
    if clean and (downgraded or contract_only or "unclean=" in accounting):
        yield _health("/cgroup_correlation", "partial, as the notes say", health.cgroup_correlation)
    if not clean and not downgraded and not contract_only:
        yield _health("/notes", f"{KERNEL_NOTE} with {_DOWNGRADED!r}", repr(health.note(KERNEL_NOTE)))
    if "other_losses=" in accounting and health.kernel_layer is KernelLayer.COMPLETE:
        yield _health("/kernel_layer", "not complete, as the notes say", health.kernel_layer)


def _note_problems(
    health: ObservationHealth, code: str, wanted: bool, counts: dict[str, int]
) -> Iterator[Problem]:
    same = [note for note in health.notes if note.partition(":")[0] == code]
    if len(same) != int(wanted):
        yield _health("/notes", f"{int(wanted)} {code} notes", str(len(same)))
        return
    for note in same:
        said = {key: int(value) for key, value in _COUNT.findall(note)}
        for key, count in counts.items():
            if said.get(key) != count:
                yield _health("/notes", f"{code}: {key}={count}", note)


def _health(pointer: str, expected: str, actual: str) -> Problem:
    return Problem("ContractHealthMismatch", HEALTH, pointer, str(expected), str(actual))
