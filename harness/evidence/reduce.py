"""What is kept of a run that passed a bound: its beginning, and how its first processes ended."""

from collections import Counter
from itertools import accumulate

from attrs import evolve, frozen

from harness.contracts.bounds import KEPT_LINE_BYTES, KEPT_LINES, KEPT_NAME_BYTES, KEPT_RECORDS
from harness.evidence.model import ChannelLog, KernelRecord, Kind, Observation
from harness.evidence.processes import FIRST_PID


@frozen
class Share:
    """How much is kept: kernel records and bytes of their names; lines of each channel and their bytes."""

    records: int = KEPT_RECORDS
    name_bytes: int = KEPT_NAME_BYTES
    lines: int | None = None  # None: all
    line_bytes: int = KEPT_LINE_BYTES


# Tried one after the other, until what is left fits.
SHARES = (
    Share(),
    Share(lines=KEPT_LINES),
    Share(KEPT_RECORDS // 10, KEPT_NAME_BYTES // 10, KEPT_LINES // 10, KEPT_LINE_BYTES // 10),
    Share(0, 0, 0, 0),
)


def reduced(observation: Observation, share: Share, beyond: str) -> Observation:
    """The observation with no more than `share` of it; `beyond` names the bound. What is gone is counted."""
    records, gone = _beginning(observation.records, share)
    accounting = observation.accounting
    if accounting is not None:
        accounting = evolve(accounting, left_out=dict(Counter(accounting.left_out) + gone))
    return evolve(
        observation,
        records=records,
        accounting=accounting,
        decisions=_first_lines(observation.decisions, share),
        sdk_events=_first_lines(observation.sdk_events, share),
        beyond=beyond,
    )


def _beginning(
    records: tuple[KernelRecord, ...], share: Share
) -> tuple[tuple[KernelRecord, ...], Counter[Kind]]:
    kept: list[KernelRecord] = []
    gone, names = Counter[Kind](), 0
    for record in records:
        names += len(record.walked) + len(record.raw)
        first = len(kept) < share.records and names <= share.name_bytes
        if first or (record.kind is Kind.EXIT and record.vpid == FIRST_PID and record.args[1]):
            kept.append(record)
        else:
            gone[record.kind] += 1
    return tuple(kept), gone


def _first_lines(log: ChannelLog, share: Share) -> ChannelLog:
    if share.lines is None:
        return log
    sizes = accumulate(len(line.data) + 1 for line in log.lines)
    count = min(share.lines, sum(size <= share.line_bytes for size in sizes))
    return evolve(log, lines=log.lines[:count], left_out=log.left_out + len(log.lines) - count)
