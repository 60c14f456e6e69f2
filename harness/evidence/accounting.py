"""The books of a run: identities that must hold, and every reason why a run is not clean (design §4)."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from attrs import frozen

from harness.contracts.companion import CaptureCounts, ClassCounts, Identity, KindCounts, RoleSeal
from harness.evidence.classify import Classified, EventClass
from harness.evidence.layers import LayerProblem
from harness.evidence.model import (
    ENTRY,
    CaptureAccounting,
    ChannelLog,
    Flag,
    KernelRecord,
    Kind,
    KindCounters,
    NetworkSeal,
    Observation,
    Role,
)
from harness.evidence.operations import name_codes, unpaired
from harness.evidence.processes import Processes
from harness.evidence.syscalls import EFAULT

LOOPBACK = ("lo",)
LEFT_OUT = "left_out"  # after a channel's name, or "kernel:": some of it lies beyond a bound
# Records or names were lost: the kernel layer is partial. All other codes make it absent, except ...
SKIPPED = "recursion_misses"  # events that the kernel skipped: no record was made of them
LOSSES = frozenset(
    {
        "ring_drops",
        "oversized",
        "kernel_fault",
        "decode_errors",
        "truncated",
        "unreadable",
        "changed",
        "entry_missing",
        SKIPPED,
    }
)
# ... those that say nothing about the kernel's view.
OTHER_WITNESSES = (
    "decisions:", "sdk:", "missing_witness:", "network_seal:", "network_packets:", "proxy_", "engine_",
    "control_touched:", "roles_crossed",
)  # fmt: skip


@frozen
class Books:
    """`unclean` are stable codes, sorted; `lost` counts records or names lost other than by a full ring."""

    identities: tuple[Identity, ...]
    unclean: tuple[str, ...]
    ring_drops: int
    lost: int

    @property
    def kernel_unclean(self) -> tuple[str, ...]:
        """Codes that break the promise of the kernel layer other than by counted losses."""
        return tuple(c for c in self.unclean if c not in LOSSES and not c.startswith(OTHER_WITNESSES))


def keep_books(
    observation: Observation,
    processes: Processes,
    classified: Classified,
    problems: Iterable[str],
    missing_witnesses: Iterable[str],
) -> Books:
    """Check everything that was counted; `problems` are the layers' codes.

    Without kernel capture there are no identities, and the kernel's own codes cannot arise.
    """
    codes = set(problems) | {f"missing_witness:{name}" for name in missing_witnesses}
    codes |= set(_machine_codes(observation))
    accounting = observation.accounting
    if accounting is None:
        return Books((), tuple(sorted(codes)), 0, 0)
    counts = capture_counts(accounting)
    by_kind = {kind.value: accounting.left_out.get(kind, 0) for kind in Kind}
    records = len(observation.records) + sum(by_kind.values())
    for record in observation.records:
        by_kind[record.kind.value] += 1
    equations = tuple(identities(counts, by_kind, records, sum(classified.counts.values())))
    codes |= broken(equations)
    codes |= set(counter_codes(counts))
    codes |= {f"capture:{code}" for code in accounting.errors}
    codes |= {f"kernel:{LEFT_OUT}"} if any(accounting.left_out.values()) else set()
    codes |= set(_record_codes(observation.records, classified, processes))
    roles = roles_of(tools=observation.tools is not None)
    codes |= set(seal_codes([role_seal(seal) for seal in observation.seals], roles))
    codes |= {f"boundary_missing:{role}" for role in roles if role not in counts.boundaries}
    return Books(equations, tuple(sorted(codes)), *losses(counts, codes))


def losses(counts: CaptureCounts, codes: AbstractSet[str]) -> tuple[int, int]:
    """Records dropped by a full ring, and records or names lost otherwise."""
    kinds = counts.kinds.values()
    lost = sum(k.oversized + k.fault + k.truncated + k.unreadable for k in kinds)
    lost += counts.decode_errors + counts.recursion_misses
    if codes & (LOSSES - {"ring_drops"}):
        lost = max(lost, 1)  # a mark on a record counts although no counter has it
    return sum(k.dropped for k in kinds), lost


def broken(equations: Iterable[Identity]) -> set[str]:
    return {f"identity_broken:{equation.name}" for equation in equations if not equation.holds}


def roles_of(*, tools: bool) -> tuple[str, ...]:
    """The roles that such a run has."""
    return (Role.SUBJECT.value, Role.TOOLS.value) if tools else (Role.SUBJECT.value,)


def role_seal(seal: NetworkSeal) -> RoleSeal:
    """The seal as it goes into companion/network.json."""
    return RoleSeal(
        role=seal.role.value,
        links_start=seal.links_start,
        links_end=seal.links_end,
        foreign_routes=seal.foreign_routes,
        packets=seal.packets,
        declared=seal.declared,
        problems=seal.problems,
    )


def problem_codes(channel: str, log: ChannelLog, layer: Iterable[LayerProblem]) -> list[str]:
    """Codes of one recorder channel: the recorder's own, and those of what arrived on it."""
    cut = [f"{channel}:{LEFT_OUT}"] if log.left_out else []
    return (
        cut
        + [f"{channel}:{code}" for code in log.errors]
        + [f"{channel}:{found.identity}" for found in layer]
    )


def capture_counts(accounting: CaptureAccounting) -> CaptureCounts:
    """The counters as they go into companion/accounting.json; kinds in the order of bpf/record.h."""
    return CaptureCounts(
        kinds={kind.value: _kind_counts(counters) for kind, counters in _kinds(accounting).items()},
        received=accounting.received,
        received_bytes=accounting.received_bytes,
        decoded=accounting.decoded,
        decode_errors=accounting.decode_errors,
        recursion_misses=accounting.recursion_misses,
        sentinels_expected=accounting.sentinels_expected,
        sentinels_seen=accounting.sentinels_seen,
        boundaries=tuple(sorted(role.value for role in accounting.boundaries)),
        ring_bytes=accounting.ring_bytes,
        ring_high_water=accounting.ring_high_water,
        freezes=accounting.freezes,
        frozen_ns=accounting.frozen_ns,
    )


def class_counts(classified: Classified) -> ClassCounts:
    counts = {found.value: count for found, count in classified.counts.items()}
    return ClassCounts(classes=counts, total=sum(counts.values()))


def _kinds(accounting: CaptureAccounting) -> dict[Kind, KindCounters]:
    return {kind: accounting.kinds.get(kind, KindCounters()) for kind in Kind}


def _kind_counts(counters: KindCounters) -> KindCounts:
    return KindCounts(
        seen=counters.seen,
        submitted=counters.submitted,
        dropped=counters.dropped,
        oversized=counters.oversized,
        fault=counters.fault,
        truncated=counters.truncated,
        unreadable=counters.unreadable,
    )


def identities(
    counts: CaptureCounts, by_kind: Mapping[str, int], records: int, classified: int
) -> Iterator[Identity]:
    """Every equation of the books; the last three count what was decoded and what was put into classes."""
    for kind in Kind:
        k = counts.kinds[kind.value]
        yield _equal(f"{kind}_seen", k.seen, k.submitted + k.dropped + k.oversized + k.fault)
        if not counts.decode_errors:  # else it is not known which kind is missing
            yield _equal(f"{kind}_decoded", k.submitted, by_kind[kind.value])
    submitted = sum(k.submitted for k in counts.kinds.values())
    seen = sum(k.seen for k in counts.kinds.values())
    gone = sum(k.dropped + k.oversized + k.fault for k in counts.kinds.values())
    yield _equal("total_seen", seen, submitted + gone)
    yield _equal("received", submitted, counts.received)
    yield _equal("decoded", counts.received, counts.decoded + counts.decode_errors)
    yield _equal("records", counts.decoded, records)
    yield _equal("classes", counts.decoded, classified)
    yield _equal("sentinels", counts.sentinels_expected, counts.sentinels_seen)
    yield _equal("bytes", counts.received > 0, counts.received_bytes > 0)
    yield _equal("freezes", counts.freezes > 0, counts.frozen_ns > 0)
    high, size = counts.ring_high_water, counts.ring_bytes
    yield Identity(name="ring_high_water", left=high, right=size, holds=high <= size)


def _equal(name: str, left: int, right: int) -> Identity:
    return Identity(name=name, left=int(left), right=int(right), holds=left == right)


def counter_codes(counts: CaptureCounts) -> Iterator[str]:
    """Codes that follow from the counters."""
    kinds = counts.kinds.values()
    no_sentinel = counts.sentinels_expected < 1  # then nothing shows that the ring was alive
    yield from _true(
        ("ring_drops", any(k.dropped for k in kinds)),
        ("oversized", any(k.oversized for k in kinds)),
        ("kernel_fault", any(k.fault for k in kinds)),
        ("truncated", any(k.truncated for k in kinds)),
        ("unreadable", any(k.unreadable for k in kinds)),
        ("decode_errors", bool(counts.decode_errors)),
        (SKIPPED, bool(counts.recursion_misses)),
        ("sentinel_missing", no_sentinel or counts.sentinels_seen < counts.sentinels_expected),
    )


def _record_codes(
    records: Iterable[KernelRecord], classified: Classified, processes: Processes
) -> Iterator[str]:
    operations = [operation for operation, _ in classified.operations]
    tripped = {operation.name for operation in classified.of(EventClass.TRIPWIRE)}
    flags = 0
    for record in records:
        flags |= record.flags
        # A string that the kernel could not read either took part in nothing.
        if record.flags & Flag.UNREADABLE and record.result != -EFAULT and record.part != ENTRY:
            yield "unreadable"
    yield from name_codes(operations)
    yield from _true(
        ("truncated", bool(flags & Flag.TRUNCATED)),
        ("changed", bool(flags & Flag.CHANGED)),
        ("walk_fault", bool(flags & Flag.WALK_FAULT)),
        ("left_slice", "cgroup_attach" in tripped),
        ("compat_syscall", "compat_syscall" in tripped),
        ("io_uring_used", any(name.startswith("io_uring") for name in tripped)),
        ("unpaired_names", unpaired(operations) > 0),
        ("unlabelled_process", processes.unlabelled > 0),
    )


def seal_codes(found: Iterable[RoleSeal], roles: Iterable[str]) -> Iterator[str]:
    """Codes of roles whose network was not sealed, or carried packets that nobody announced."""
    seals = {seal.role: seal for seal in found}
    for role in roles:
        seal = seals.get(role)
        yield from _true(
            (f"network_seal:{role}", seal is None or not _sealed(seal)),
            (f"network_packets:{role}", seal is not None and seal.packets > 0 and not _announced(seal)),
        )


def _announced(seal: RoleSeal) -> bool:
    return seal.role == Role.SUBJECT and seal.declared == "loopback"


def _sealed(seal: RoleSeal) -> bool:
    only_loopback = seal.links_start == LOOPBACK and seal.links_end == LOOPBACK
    return only_loopback and not seal.foreign_routes and not seal.problems


def _machine_codes(observation: Observation) -> Iterator[str]:
    subject, tools = observation.subject, observation.tools
    ended_first = tools is not None and 0 < tools.ended_ns < subject.ended_ns
    yield from _true(
        ("slice_not_empty", observation.survivors > 0),
        ("proxy_closed_early", ended_first),
        ("proxy_failed", tools is not None and not tools.success),
    )
    yield from observation.problems


def _true(*codes: tuple[str, bool]) -> Iterator[str]:
    return (code for code, holds in codes if holds)
