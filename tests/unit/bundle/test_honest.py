"""Whatever a run was like, its own archive verifies: losses, tripwires, odd names, garbage."""

import random
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from harness.bundle.verify import verify
from harness.bundle.writer import write_archive
from harness.evidence import accounting
from harness.evidence.assemble import assemble
from harness.evidence.image import ImageFiles
from harness.evidence.model import Flag, Kind, KindCounters, Role, RoleOutcome
from tests.unit.evidence import build

_NAMES = (
    "/workspace/a", "/workspace/b", "/dev/shm/x", "/proc/1/maps", "/etc/ld.so.cache", "/opt/app/x.mjs",
    "/a/node_modules/x",
    "/x/target/debug/y.so", "/tmp/é\u2028\"\\", "/run/assay/mcp/mcp.sock", "/tmp/v-123",
)  # fmt: skip
FILES = ImageFiles("sha256:" + "0" * 64, frozenset({b"/opt/app/x.mjs"}))
_LATIN = b"/workspace/\xff\xfe"
_PATH_CALLS = (87, 84, 82, 316, 86, 88, 83, 133, 76, 90, 92, 132, 188, 197, 161, 303, 319, 80)
_TWO_NAMES = (82, 316, 86, 88)


def add_some(run: build.Run, chance: random.Random) -> None:
    """Operations of any kind, by any process that was there."""
    for _ in range(chance.randrange(25)):
        name = chance.choice([name for name in run.vpids if "." in name])
        path = chance.choice(_NAMES)
        how = chance.choice((0, 0o1, 0o2, 0o3, 0o1101, 0o102, 0o20200000, 0o10000000, 0o2000))
        fields = {"args": (how, chance.choice((0, 0o600, 0o4755)), chance.choice((0, 0, 8)))}
        match chance.randrange(11):
            case 0:
                made = Flag.CREATED if how & 0o100 else 0  # nothing is created unasked
                flags = Flag.OBJECT | chance.choice((0, made, Flag.UNLINKED, Flag.DETACHED))
                run.put(
                    name,
                    "opened",
                    chance.choice((path, _LATIN)),
                    how,
                    flags=flags,
                    inode_mode=0o040755,
                    **fields,
                )
            case 1:
                run.put(name, "failed_open", path, chance.choice((1, 2, 13, 512, 4095, 999)), how, **fields)
            case 2 | 3:
                call, result = chance.choice(_PATH_CALLS), chance.choice((0, 0, -2, -17))
                args = (chance.choice((0, 2, 0o644)), 0, 0)
                run.put(name, "named", call, path, result, args=args)
                if call in _TWO_NAMES:
                    run.put(name, "named", call, chance.choice(_NAMES), result, args=args, part=1)
                    same = run.trace.records[-2]
                    run.trace.records[-1] = run.trace.records[-1]._replace(tid=same.tid, vtid=same.vtid)
            case 4:
                argv = chance.choice((build.AGENT, build.SERVER, ("sh", "-c", "x"), ("/bin/\xe9", "?")))
                run.put(
                    name,
                    "exec",
                    argv,
                    path=chance.choice(("", "/usr/bin/dash")),
                    called=chance.choice(("", "./x")),
                )
            case 5:
                run.put(name, "add", Kind.EXEC, syscall=59, raw=b"/nowhere\xff", result=-2)
            case 6:
                address = chance.choice(
                    (build.inet((1, 2, 3, 4), 5), build.unix(path), b"\x10\0", b"", b"\1")
                )
                run.put(
                    name, "sock", chance.choice((42, 49, 44, 46)), address, chance.choice((0, -101, -115))
                )
            case 7:
                run.put(
                    name,
                    "sock",
                    41,
                    b"",
                    chance.choice((3, -1)),
                    args=(chance.choice((1, 2, 16, 17, 77)), 3, 0),
                )
            case 8:
                run.put(name, "net", chance.choice((0, 1, 2)), bytes(chance.choice((4, 16))), 53)
            case 9:
                kind = chance.choice((Kind.ATTACH, Kind.COMPAT, Kind.URING))
                run.put(name, "add", kind, syscall=425, result=chance.choice((0, -38)), raw=b"/sys/fs/cgroup")
            case _:
                run.trace.opened(path, role=Role(name.split(".")[0]), vpid=900 + chance.randrange(3))


def harmed(records: list[Any], chance: random.Random) -> dict[str, Any]:
    """Books of a run in which things were lost, or not."""
    books: dict[str, Any] = {}
    if chance.random() < 0.1:
        books["kinds"] = {}  # the capture process died with them
    elif chance.random() < 0.4:
        field = chance.choice(("dropped", "oversized", "fault"))
        count = sum(record.kind is Kind.OPEN for record in records)
        lost = KindCounters(seen=count + 2, submitted=count, **{field: 2})
        books["kinds"] = {**build.accounting_of(records).kinds, Kind.OPEN: lost}
    if chance.random() < 0.3:
        books |= chance.choice(
            (
                {"decode_errors": 1}, {"recursion_misses": 3}, {"sentinels_seen": 1},
                {"freezes": 2, "frozen_ns": 9}, {"boundaries": frozenset({Role.SUBJECT})},
                {"errors": ("lost_child",)}, {"ring_high_water": 1 << 24},
                {"sentinels_expected": 0, "sentinels_seen": 0}, {"received": 7}, {"freezes": 1},
            )
        )  # fmt: skip
    return books


def fields_of(run: build.Run, chance: random.Random) -> dict[str, Any]:
    records = run.trace.records
    fields: dict[str, Any] = {"accounting": build.accounting_of(records, **harmed(records, chance))}
    lines: list[Any] = list(run.lines)
    if chance.random() < 0.3:
        lines += [
            build.decision("tc_2", run.now, verdict=chance.choice(("deny", "allow")), tool="write_file")
        ]
    if chance.random() < 0.2:
        lines += chance.choice(([b"{"], [build.decision(None, run.now)], [build.cloud_event("x")]))
    fields["decisions"] = build.log(*lines, errors=chance.choice(((), (), ("closed_early",))))
    if chance.random() < 0.3:
        fields["sdk_events"] = build.log(
            *chance.choice(((), (b"x",), (build.sdk_event(4, "tool_call_started", "tc_9"),)))
        )
    if chance.random() < 0.3:
        fields["seals"] = chance.choice(
            (
                (),
                (build.seal(Role.SUBJECT, packets=3), build.seal(Role.TOOLS)),
                (build.seal(Role.SUBJECT, links_end=("eth0", "lo"), problems=("x",)),),
            )
        )
    ended = [r.args[0] for r in records if r.kind is Kind.EXIT and r.role is Role.TOOLS and r.vpid == 1]
    fields["tools"] = RoleOutcome(ended[0] >> 8 if ended else None, None, 1, run.now)
    fields["timed_out"] = chance.random() < 0.1
    fields["survivors"] = chance.choice((0, 0, 0, 2))
    fields["problems"] = chance.choice(((), (), ("engine_lost", "proxy_not_ready")))
    return fields


@pytest.mark.parametrize("block", range(4))
def test_the_archive_of_any_run_verifies(block: int, tmp_path: Path) -> None:
    path = tmp_path / "run.tar.gz"
    for seed in range(block * 60, block * 60 + 60):
        chance = random.Random(seed)
        run = build.Run(seed, hidden_write=bool(seed % 2))
        if seed % 3:
            add_some(run, chance)
        context = build.context(
            volatile=chance.choice(((), ("/tmp/v-*", "/opt/zz*"), ("/proc/1/maps", "/proc/self/maps"))),
            image=evolve(build.IMAGE, files=chance.choice((None, FILES))),
        )
        fields: dict[str, Any] = fields_of(run, chance) if seed % 5 else {}
        if seed % 11 == 0:
            fields |= {"accounting": None, "records": ()}
        told: dict[str, Any] = {"records": run.trace.records, "decisions": build.log(*run.lines)}
        assembled = assemble(build.observe(**(told | fields)), context)
        write_archive(path, assembled.v0, assembled.companion, build.RUN_ID)
        assert verify(path).problems == (), (seed, assembled.unclean)


@pytest.mark.parametrize("oversized", [0, 2])
def test_an_archive_from_before_skipped_events_were_a_loss_still_verifies(
    oversized: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They made the kernel layer absent then, and no number of theirs was in its health."""
    run = build.Run(1)
    records = run.trace.records
    kinds = dict(build.accounting_of(records).kinds)
    count = kinds[Kind.OPEN].submitted
    kinds[Kind.OPEN] = KindCounters(seen=count + oversized, submitted=count, oversized=oversized)
    books = build.accounting_of(records, kinds=kinds, recursion_misses=3)
    observation = build.observe(records=records, decisions=build.log(*run.lines), accounting=books)

    def archived(name: str) -> tuple[Path, str]:
        assembled = assemble(observation, build.context())
        path = tmp_path / name
        write_archive(path, assembled.v0, assembled.companion, build.RUN_ID)
        return path, assembled.health.kernel_layer

    now, layer = archived("now.tar.gz")
    assert (verify(now).problems, layer) == ((), "partial_ringbuf_drops")
    since = accounting.losses
    monkeypatch.setattr(accounting, "LOSSES", accounting.LOSSES - {accounting.SKIPPED})
    monkeypatch.setattr(accounting, "losses", lambda *given: (since(*given)[0], oversized))
    before, layer = archived("before.tar.gz")
    monkeypatch.undo()
    assert layer == "absent"
    assert verify(before).problems == ()
