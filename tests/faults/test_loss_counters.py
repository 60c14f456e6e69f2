"""Every loss there is, one by one, in the books of a run that really took place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from harness.bench import Bench
from harness.bundle.verify import verify
from harness.bundle.writer import write_archive
from harness.errors import EvidenceError
from harness.evidence.assemble import assemble
from harness.evidence.model import (
    CaptureAccounting,
    ChannelLog,
    Flag,
    KernelRecord,
    Kind,
    KindCounters,
    Observation,
    Role,
    RoleOutcome,
    StampedLine,
)
from harness.run import Measured, measure
from tests.faults.agents import with_tools

pytestmark = pytest.mark.linux

Damage = Callable[[Observation], Observation]


@pytest.fixture(scope="module")
def whole(bench: Bench) -> Measured:
    """A clean run with tools and a policy."""
    measured = measure(bench, with_tools(bench))
    measured.verdict()
    return measured


def books(**changes: Any) -> Damage:
    """Change fields of the accounting."""

    def damage(observation: Observation) -> Observation:
        assert observation.accounting is not None
        return evolve(observation, accounting=evolve(observation.accounting, **changes))

    return damage


def counted(change: Callable[[CaptureAccounting], CaptureAccounting]) -> Damage:
    """Change the accounting by what is in it."""

    def damage(observation: Observation) -> Observation:
        assert observation.accounting is not None
        return evolve(observation, accounting=change(observation.accounting))

    return damage


def kernel(**changes: int) -> Damage:
    """Add to counters of the kind `open`, as the program in the kernel does; names in seen, too."""

    def change(accounting: CaptureAccounting) -> CaptureAccounting:
        counters = accounting.kinds[Kind.OPEN]
        more = {name: getattr(counters, name) + value for name, value in changes.items()}
        kinds = dict(accounting.kinds) | {Kind.OPEN: evolve(counters, **more)}
        return evolve(accounting, kinds=kinds)

    return counted(change)


def _first(observation: Observation, wanted: Callable[[KernelRecord], bool]) -> int:
    return next(
        i for i, r in enumerate(observation.records) if r.role is Role.SUBJECT and not r.setup and wanted(r)
    )


def record(wanted: Callable[[KernelRecord], bool], **changes: Any) -> Damage:
    """Change the first record of the agent for which `wanted` holds; without changes: remove it."""

    def damage(observation: Observation) -> Observation:
        at = _first(observation, wanted)
        before, after = observation.records[:at], observation.records[at + 1 :]
        changed = (observation.records[at]._replace(**changes),) if changes else ()
        return evolve(observation, records=before + changed + after)

    return damage


def sealed(**changes: Any) -> Damage:
    """Change the network seal of the agent's container."""

    def damage(observation: Observation) -> Observation:
        return evolve(
            observation,
            seals=tuple(evolve(s, **changes) if s.role is Role.SUBJECT else s for s in observation.seals),
        )

    return damage


def field(**changes: Any) -> Damage:
    """Change fields of the observation."""
    return lambda observation: evolve(observation, **changes)


def said(*lines: bytes) -> Damage:
    """More lines of the proxy."""

    def damage(observation: Observation) -> Observation:
        log = observation.decisions
        more = tuple(StampedLine(log.lines[-1].time_ns + 1, line) for line in lines)
        return evolve(observation, decisions=evolve(log, lines=log.lines + more))

    return damage


def is_open(found: KernelRecord) -> bool:
    return found.kind is Kind.OPEN and found.result >= 0


def is_path(found: KernelRecord) -> bool:
    return found.kind in (Kind.OPEN, Kind.PATH) and found.result < 0


def is_fork(found: KernelRecord) -> bool:
    return found.kind is Kind.FORK and found.args[1] == 1


def minus_one(name: str) -> Damage:
    return counted(lambda accounting: evolve(accounting, **{name: getattr(accounting, name) - 1}))


BROKEN = "identity_broken:"
# What is done to the run -> the codes it must be called unclean for, all of them and no other.
DAMAGES: dict[str, tuple[Damage, set[str]]] = {
    # the kernel's counters, with `seen` as it would be counted
    "dropped": (kernel(seen=1, dropped=1), {"ring_drops"}),
    "oversized": (kernel(seen=1, oversized=1), {"oversized"}),
    "fault": (kernel(seen=1, fault=1), {"kernel_fault"}),
    "truncated": (kernel(truncated=1), {"truncated"}),
    "unreadable": (kernel(unreadable=1), {"unreadable"}),
    # the same without `seen`: a counter that lies
    "seen one more": (kernel(seen=1), {BROKEN + "open_seen", BROKEN + "total_seen"}),
    "dropped, not seen": (kernel(dropped=1), {"ring_drops", BROKEN + "open_seen", BROKEN + "total_seen"}),
    "submitted one more": (
        kernel(seen=1, submitted=1),
        {BROKEN + "open_decoded", BROKEN + "received"},
    ),
    "kinds unknown": (
        books(kinds={}),
        {BROKEN + name for name in ("exec_decoded", "exit_decoded", "fork_decoded", "open_decoded")}
        | {BROKEN + name for name in ("path_decoded", "received", "sock_decoded")},
    ),
    "a kind that never was": (
        counted(lambda a: evolve(a, kinds=dict(a.kinds) | {Kind.URING: KindCounters(1, 1)})),
        {BROKEN + "received", BROKEN + "uring_decoded"},
    ),
    # user space's counters
    "received one less": (minus_one("received"), {BROKEN + "received", BROKEN + "decoded"}),
    "decoded one less": (minus_one("decoded"), {BROKEN + name for name in ("classes", "decoded", "records")}),
    "decode errors": (books(decode_errors=1), {"decode_errors", BROKEN + "decoded"}),
    "nothing received": (books(received_bytes=0), {BROKEN + "bytes"}),
    "ring fuller than full": (
        counted(lambda a: evolve(a, ring_high_water=a.ring_bytes + 1)),
        {BROKEN + "ring_high_water"},
    ),
    "frozen without a freeze": (books(frozen_ns=1), {BROKEN + "freezes"}),
    "recursion misses": (books(recursion_misses=1), {"recursion_misses"}),
    "a sentinel lost": (minus_one("sentinels_seen"), {"sentinel_missing", BROKEN + "sentinels"}),
    "no sentinels": (books(sentinels_expected=0, sentinels_seen=0), {"sentinel_missing"}),
    "agent's boundary lost": (books(boundaries=frozenset({Role.TOOLS})), {"boundary_missing:subject"}),
    "tools' boundary lost": (books(boundaries=frozenset({Role.SUBJECT})), {"boundary_missing:tools"}),
    "capture process died": (books(errors=("capture_process_died",)), {"capture:capture_process_died"}),
    "spool failed": (books(errors=("spool_failed",)), {"capture:spool_failed"}),
    "sentinels lost at the start": (
        books(errors=("opening_sentinels_lost",)),
        {"capture:opening_sentinels_lost"},
    ),
    "ring never empty": (books(errors=("ring_not_drained",)), {"capture:ring_not_drained"}),
    "too many records": (books(errors=("too_many_records",)), {"capture:too_many_records"}),
    # the records
    "a record removed": (
        record(is_open),
        {BROKEN + name for name in ("classes", "open_decoded", "records")},
    ),
    "a fork removed": (
        record(is_fork),
        # nobody knows any more that it is the bridge who connects to the socket of the tools
        {BROKEN + name for name in ("classes", "fork_decoded", "records")}
        | {"unlabelled_process", "control_touched:subject"},
    ),
    "a name cut": (record(is_open, flags=Flag.OBJECT | Flag.TRUNCATED), {"truncated"}),
    "a walk that failed": (record(is_open, flags=Flag.OBJECT | Flag.WALK_FAULT), {"walk_fault"}),
    "a name unreadable": (record(is_path, flags=Flag.UNREADABLE, raw=b""), {"unreadable"}),
    "an io_uring that worked": (
        record(is_open, kind=Kind.URING, syscall=425),
        {"io_uring_used", BROKEN + "open_decoded", BROKEN + "uring_decoded"},
    ),
    "a 32-bit call": (
        record(is_open, kind=Kind.COMPAT),
        {"compat_syscall", BROKEN + "open_decoded", BROKEN + "compat_decoded"},
    ),
    "a move out of the slice": (
        record(is_open, kind=Kind.ATTACH, raw=b"/"),
        {"left_slice", BROKEN + "open_decoded", BROKEN + "attach_decoded"},
    ),
    # the machine
    "survivors": (field(survivors=1), {"slice_not_empty"}),
    "a packet": (sealed(packets=1), {"network_packets:subject"}),
    "another link": (sealed(links_end=("eth0", "lo")), {"network_seal:subject"}),
    "a route": (sealed(foreign_routes=("default/0 table 254",)), {"network_seal:subject"}),
    "a namespace not looked at": (field(seals=()), {"network_seal:subject", "network_seal:tools"}),
    "proxy failed": (field(tools=RoleOutcome(exit_code=1, signal=None)), {"proxy_failed"}),
    "proxy killed": (field(tools=RoleOutcome(exit_code=None, signal=9)), {"proxy_failed"}),
    "proxy ended first": (
        lambda o: evolve(o, tools=RoleOutcome(0, None, ended_ns=1), subject=evolve(o.subject, ended_ns=2)),
        {"proxy_closed_early"},
    ),
    "any other problem": (field(problems=("proxy_not_ready",)), {"proxy_not_ready"}),
    # the other witnesses
    "no decisions": (field(decisions=ChannelLog()), {"missing_witness:policy"}),
    "proxy hung up early": (
        lambda o: evolve(o, decisions=evolve(o.decisions, errors=("closed_early",))),
        {"decisions:closed_early"},
    ),
    "no JSON": (said(b"{"), {"decisions:InvalidJson"}),
    "an event of no kind": (said(b'{"type":"assay.other"}'), {"decisions:UnexpectedEventType"}),
}


@pytest.mark.breaks(
    "unclean:kernel_fault",
    "unclean:truncated",
    "unclean:decode_errors",
    "unclean:unlabelled_process",
    "unclean:slice_not_empty",
    "unclean:sentinel_missing",
    "unclean:network_seal:",
    "unclean:missing_witness:policy",
    "unclean:decisions:closed_early",
    "unclean:decisions:",
    "unclean:recursion_misses",
    "unclean:proxy_closed_early",
    "unclean:capture:spool_failed",
    "unclean:capture:opening_sentinels_lost",
    "unclean:capture:ring_not_drained",
    "unclean:capture:too_many_records",
)
@pytest.mark.parametrize("what", DAMAGES)
def test_each_loss_makes_the_run_unclean(what: str, whole: Measured, tmp_path: Path) -> None:
    damage, codes = DAMAGES[what]
    observation = damage(whole.observation)
    assembled = assemble(observation, whole.plan.context())
    assert set(assembled.unclean) == codes
    assert not assembled.clean
    damaged = evolve(whole, observation=observation, assembled=assembled)
    with pytest.raises(EvidenceError) as caught:
        damaged.verdict()
    assert caught.value.exit_code == 3
    # the archive is whole, and says it
    path = tmp_path / "damaged.tar.gz"
    write_archive(path, assembled.v0, assembled.companion, whole.plan.spec.run_id)
    assert verify(path).problems == ()
    others = ("decisions:", "missing_witness:", "network_", "proxy_")  # say nothing about the kernel's view
    complete = assembled.health.kernel_layer.value == "complete"
    assert complete == all(code.startswith(others) for code in codes)


def test_the_same_run_undamaged_is_clean(whole: Measured) -> None:
    assembled = assemble(whole.observation, whole.plan.context())
    assert (assembled.unclean, assembled.missing_witnesses) == ((), ())
    assert assembled.v0 == whole.assembled.v0
    assert assembled.companion == whole.assembled.companion
