"""The books in companion/accounting.json: they add up, and health claims no more than they bear."""

from collections.abc import Iterator

from harness.bundle.problem import Problem
from harness.contracts.companion import ACCOUNTING, AccountingV1, CaptureCounts, Identity
from harness.contracts.health import CONTRACT_ONLY_NOTE, Correlation, KernelLayer, ObservationHealth
from harness.contracts.manifest import HEALTH

AT_MOST = frozenset({"ring_high_water"})  # the one identity that is no equation: left <= right


def accounting_problems(accounting: AccountingV1, health: ObservationHealth | None) -> Iterator[Problem]:
    for index, identity in enumerate(accounting.identities):
        if identity.holds != _holds(identity):
            expected = f"{_holds(identity)}: {identity.left} and {identity.right}"
            yield _books(f"/identities/{index}/holds", expected, str(identity.holds))
    total = sum(accounting.records.classes.values())
    if total != accounting.records.total:
        yield _books("/records/total", str(total), str(accounting.records.total))
    if accounting.clean != (not accounting.unclean):
        yield _books("/clean", str(not accounting.unclean), str(accounting.clean))
    broken = [identity.name for identity in accounting.identities if not _holds(identity)]
    if broken and accounting.clean:
        yield _books("/clean", f"False: broken {', '.join(broken)}", "True")
    if health is not None:
        yield from _health_problems(accounting.capture, broken, health)


def _health_problems(
    capture: CaptureCounts | None, broken: list[str], health: ObservationHealth
) -> Iterator[Problem]:
    """A clean correlation needs unbroken identities, and its losses are those that were counted."""
    contract_only = CONTRACT_ONLY_NOTE in health.notes
    if contract_only != (capture is None):
        yield _books("/capture", "null just when health says contract_only_mode", str(capture is not None))
    if capture is None or health.cgroup_correlation is not Correlation.CLEAN:
        return
    if broken:
        yield _health("/cgroup_correlation", f"partial: broken {', '.join(broken)}", "clean")
    drops = sum(kind.dropped for kind in capture.kinds.values())
    if health.ringbuf_drops != drops:
        yield _health("/ringbuf_drops", str(drops), str(health.ringbuf_drops))
    lost = drops + capture.decode_errors
    lost += sum(k.oversized + k.fault + k.truncated + k.unreadable for k in capture.kinds.values())
    if lost and health.kernel_layer is KernelLayer.COMPLETE:
        yield _health("/kernel_layer", f"not complete: {lost} losses", health.kernel_layer)


def _holds(identity: Identity) -> bool:
    if identity.name in AT_MOST:
        return identity.left <= identity.right
    return identity.left == identity.right


def _books(pointer: str, expected: str, actual: str) -> Problem:
    return Problem("ContractAccountingMismatch", ACCOUNTING, pointer, expected, actual)


def _health(pointer: str, expected: str, actual: str) -> Problem:
    return Problem("ContractHealthMismatch", HEALTH, pointer, expected, str(actual))
