"""A clean run is clean, and one wrong number anywhere makes it unclean."""

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve, fields

from harness.contracts.canonical import load_json
from harness.contracts.companion import AccountingV1
from harness.contracts.converter import parse
from harness.evidence.accounting import LOSSES
from harness.evidence.assemble import Assembled, assemble
from harness.evidence.model import (
    CaptureAccounting,
    Flag,
    KernelRecord,
    Kind,
    KindCounters,
    Observation,
    Role,
    RoleOutcome,
)
from tests.unit.evidence.build import Run, Trace, accounting_of, context, log, seal

Change = Callable[[Observation], Observation]


def run() -> Observation:
    return Run(7).observation()


def result(change: Change) -> Assembled:
    return assemble(change(run()), context())


def accounting_of_run(assembled: Assembled) -> AccountingV1:
    data = assembled.companion["companion/accounting.json"]
    return parse(AccountingV1, load_json(data, "accounting"))


def counters(**changes: Any) -> Change:
    def change(observation: Observation) -> Observation:
        assert observation.accounting is not None
        return evolve(observation, accounting=evolve(observation.accounting, **changes))

    return change


def added(name: str, number: int = 1) -> Change:
    def change(observation: Observation) -> Observation:
        return counters(**{name: getattr(observation.accounting, name) + number})(observation)

    return change


def of_kind(kind: Kind, name: str) -> Change:
    def change(observation: Observation) -> Observation:
        assert observation.accounting is not None
        counted = observation.accounting.kinds[kind]
        wrong = evolve(counted, **{name: getattr(counted, name) + 1})
        return counters(kinds={**observation.accounting.kinds, kind: wrong})(observation)

    return change


def with_record(make: Callable[[Trace], KernelRecord], **flags: Any) -> Change:
    """One more record, and books that balance with it."""

    def change(observation: Observation) -> Observation:
        trace = Trace()
        record = make(trace)
        last = max(r.seq for r in observation.records)
        root = next(r for r in observation.records if r.role is record.role and not r.setup and r.vpid == 1)
        record = record._replace(seq=last + 1, time_ns=root.time_ns + 1, pid=root.pid, **flags)
        records = (*observation.records, record)
        return evolve(observation, records=records, accounting=accounting_of(records))

    return change


def set_to(**changes: Any) -> Change:
    return lambda observation: evolve(observation, **changes)


def test_the_baseline_is_clean() -> None:
    clean = result(lambda observation: observation)
    told = accounting_of_run(clean)
    assert clean.clean
    assert (clean.unclean, clean.missing_witnesses) == ((), ())
    assert told.clean
    assert all(identity.holds for identity in told.identities)
    assert told.records.total == len(run().records)
    assert told.io_uring_refused == 1
    assert clean.health.kernel_layer == "complete"


@pytest.mark.breaks(
    "counter:seen",
    "counter:submitted",
    "counter:dropped",
    "counter:oversized",
    "counter:fault",
    "counter:truncated",
    "counter:unreadable",
    "identity:<kind>_seen",
    "identity:total_seen",
    "unclean:oversized",
    "unclean:ring_drops",
)
@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("name", [field.name for field in fields(KindCounters)])
def test_every_counter_of_every_kind_counts(kind: Kind, name: str) -> None:
    assert not result(of_kind(kind, name)).clean


# For every other counter: how to set it wrong, and a code that must say so.
WRONG: dict[str, tuple[Change, str]] = {
    "kinds": (counters(kinds={}), "identity_broken:open_decoded"),
    "received": (added("received"), "identity_broken:received"),
    "received_bytes": (counters(received_bytes=0), "identity_broken:bytes"),
    "decoded": (added("decoded", -1), "identity_broken:decoded"),
    "decode_errors": (added("decode_errors"), "decode_errors"),
    "recursion_misses": (added("recursion_misses"), "recursion_misses"),
    "sentinels_expected": (counters(sentinels_expected=0, sentinels_seen=0), "sentinel_missing"),
    "sentinels_seen": (added("sentinels_seen", -1), "sentinel_missing"),
    "boundaries": (counters(boundaries=frozenset({Role.SUBJECT})), "boundary_missing:tools"),
    "ring_bytes": (counters(ring_bytes=1), "identity_broken:ring_high_water"),
    "ring_high_water": (counters(ring_high_water=1 << 30), "identity_broken:ring_high_water"),
    "freezes": (added("freezes"), "identity_broken:freezes"),
    "frozen_ns": (added("frozen_ns"), "identity_broken:freezes"),
    "errors": (counters(errors=("attach_failed",)), "capture:attach_failed"),
    "left_out": (counters(left_out={Kind.OPEN: 1}), "kernel:left_out"),
}


def test_the_table_knows_every_counter() -> None:
    assert set(WRONG) == {field.name for field in fields(CaptureAccounting)}


@pytest.mark.breaks(
    "counter:decode_errors",
    "counter:freezes",
    "identity:<kind>_decoded",
    "identity:received",
    "identity:bytes",
    "identity:decoded",
    "identity:ring_high_water",
    "identity:freezes",
    "unclean:identity_broken:",
    "unclean:boundary_missing:",
    "unclean:capture:",
    "unclean:kernel:left_out",
)
@pytest.mark.parametrize("name", WRONG)
def test_every_wrong_counter_is_caught(name: str) -> None:
    change, code = WRONG[name]
    assert code in result(change).unclean


@pytest.mark.breaks("identity:sentinels")
def test_more_sentinels_than_sent_is_wrong_too() -> None:
    assert "identity_broken:sentinels" in result(added("sentinels_seen")).unclean


def test_freezes_with_their_time_are_no_fault() -> None:
    assert result(counters(freezes=3, frozen_ns=10**6)).clean


@pytest.mark.breaks("identity:records", "identity:classes")
def test_a_lost_record_is_noticed_although_the_counters_agree() -> None:
    def lose(observation: Observation) -> Observation:
        return evolve(observation, records=observation.records[:-1])

    codes = result(lose).unclean
    assert "identity_broken:records" in codes
    assert "identity_broken:classes" in codes


@pytest.mark.breaks("unclean:unpaired_names", "unclean:walk_fault", "unclean:io_uring_used")
@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda t: t.add(Kind.ATTACH, raw=b"/elsewhere"), "left_slice"),
        (lambda t: t.add(Kind.COMPAT), "compat_syscall"),
        (lambda t: t.add(Kind.URING, syscall=425, result=4), "io_uring_used"),
        (lambda t: t.named(82, "/half"), "unpaired_names"),
        (lambda t: t.opened("/x", flags=Flag.OBJECT | Flag.TRUNCATED), "truncated"),
        (lambda t: t.opened("/x", flags=Flag.OBJECT | Flag.WALK_FAULT), "walk_fault"),
        (lambda t: t.failed_open("", 2, flags=Flag.UNREADABLE), "unreadable"),
    ],
)
def test_records_that_make_a_run_unclean(make: Callable[[Trace], KernelRecord], code: str) -> None:
    assert result(with_record(make)).unclean == (code,)


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t.failed_open("", 14, flags=Flag.UNREADABLE),  # the syscall could not read it either
        lambda t: t.add(Kind.URING, syscall=425, result=-38),
        lambda t: t.exec(("x",), flags=Flag.OBJECT | Flag.ARGS_CUT),
        lambda t: t.opened("/memfd:x", flags=Flag.OBJECT | Flag.DETACHED),
        lambda t: t.add(Kind.ATTACH, setup=True),
    ],
)
def test_records_that_do_not(make: Callable[[Trace], KernelRecord]) -> None:
    assert result(with_record(make)).clean


def test_a_process_from_nowhere_makes_a_run_unclean() -> None:
    def enter(observation: Observation) -> Observation:
        stranger = observation.records[-1]._replace(role=Role.SUBJECT, pid=4242, vpid=77, seq=10**6)
        records = (*observation.records, stranger)
        return evolve(observation, records=records, accounting=accounting_of(records))

    assert result(enter).unclean == ("unlabelled_process",)


SUBJECT_SEAL, TOOLS_SEAL = seal(Role.SUBJECT), seal(Role.TOOLS)
LOOPBACK = {"declared": "loopback", "packets": 2}


def test_declared_packets_on_loopback_are_clean_and_told() -> None:
    observation = evolve(run(), seals=(seal(Role.SUBJECT, **LOOPBACK), TOOLS_SEAL))
    assembled = assemble(observation, context(network="loopback"))
    assert assembled.clean
    told = load_json(assembled.companion["companion/network.json"], "seal")["seals"]
    assert [(one["role"], one["declared"], one["packets"]) for one in told] == [
        ("subject", "loopback", 2),
        ("tools", "none", 0),
    ]
    assert load_json(assembled.companion["companion/runspec.json"], "spec")["network"] == "loopback"


@pytest.mark.breaks("unclean:sdk:left_out")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (set_to(survivors=1), "slice_not_empty"),
        (set_to(seals=(SUBJECT_SEAL,)), "network_seal:tools"),
        (set_to(seals=(SUBJECT_SEAL, seal(Role.TOOLS, links_end=("eth0", "lo")))), "network_seal:tools"),
        (set_to(seals=(seal(Role.SUBJECT, links_start=()), TOOLS_SEAL)), "network_seal:subject"),
        (set_to(seals=(seal(Role.SUBJECT, foreign_routes=("default",)), TOOLS_SEAL)), "network_seal:subject"),
        (set_to(seals=(seal(Role.SUBJECT, problems=("setns_failed",)), TOOLS_SEAL)), "network_seal:subject"),
        (set_to(seals=(seal(Role.SUBJECT, packets=2), TOOLS_SEAL)), "network_packets:subject"),
        # only the agent may be declared to talk to itself, and only over loopback
        (set_to(seals=(SUBJECT_SEAL, seal(Role.TOOLS, **LOOPBACK))), "network_packets:tools"),
        (
            set_to(seals=(seal(Role.SUBJECT, links_end=("eth0", "lo"), **LOOPBACK), TOOLS_SEAL)),
            "network_seal:subject",
        ),
        (set_to(tools=RoleOutcome(0, None, 1, 50)), "proxy_closed_early"),
        (set_to(tools=RoleOutcome(1, None, 1, 200)), "proxy_failed"),
        (set_to(problems=("oom_killed",)), "oom_killed"),
        (set_to(decisions=log(errors=("overlong_line",))), "decisions:overlong_line"),
        (set_to(decisions=log(b"garbage")), "decisions:InvalidJson"),
        (set_to(sdk_events=log(b"garbage")), "sdk:InvalidJson"),
        (set_to(sdk_events=log()), "missing_witness:sdk"),
        (set_to(sdk_events=log(left_out=1)), "sdk:left_out"),
        (set_to(decisions=log()), "missing_witness:policy"),
        (set_to(accounting=None, records=()), "missing_witness:kernel"),
    ],
)
def test_what_else_makes_a_run_unclean(change: Change, code: str) -> None:
    assert code in result(change).unclean


def test_a_run_without_tools_needs_neither_their_seal_nor_their_boundary() -> None:
    trace = Trace()
    trace.exec(("/bin/true",))
    records = tuple(trace.records)
    observation = evolve(
        run(),
        records=records, tools=None, seals=(SUBJECT_SEAL,), decisions=log(), sdk_events=log(),
        accounting=accounting_of(records, boundaries=frozenset({Role.SUBJECT})),
    )  # fmt: skip
    assert assemble(observation, context(witnesses=("kernel",))).clean


@pytest.mark.parametrize("name", ["dropped", "oversized", "fault"])
def test_counted_losses_make_the_layer_partial(name: str) -> None:
    """seen includes the lost record, so no identity breaks: the loss is known, and known to be all."""

    def lose(observation: Observation) -> Observation:
        return of_kind(Kind.OPEN, name)(of_kind(Kind.OPEN, "seen")(observation))

    lossy = result(lose)
    assert len(lossy.unclean) == 1
    assert LOSSES.issuperset(lossy.unclean)
    assert lossy.health.kernel_layer == "partial_ringbuf_drops"
    assert lossy.health.ringbuf_drops == (1 if name == "dropped" else 0)


def test_events_that_the_kernel_skipped_are_a_loss_with_a_number() -> None:
    lossy = result(counters(recursion_misses=26_206))
    assert lossy.unclean == ("recursion_misses",)
    assert lossy.health.kernel_layer == "partial_ringbuf_drops"
    assert lossy.health.ringbuf_drops == 0
    assert "other_losses=26206" in " ".join(lossy.health.notes)


def test_a_broken_identity_makes_the_layer_absent_and_says_so() -> None:
    broken = result(added("received"))
    assert broken.health.kernel_layer == "absent"
    assert broken.health.cgroup_correlation == "partial"
    assert "identity_broken:received" in " ".join(broken.health.notes)


def test_another_witness_says_nothing_about_the_kernel_layer() -> None:
    assert result(set_to(sdk_events=log())).health.kernel_layer == "complete"
