"""Where pressure on the capture came from, for people (contracts §2.9): never evidence, read by no gate.

Worked out after the run from what the run has anyway, so a run that is not asked for it pays nothing, and
one that is has the same archive and the same verdict.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from attrs import frozen

from harness.evidence.assemble import RunContext
from harness.evidence.classify import Classified, EventClass, classify
from harness.evidence.model import CaptureAccounting, KernelRecord, Kind, KindCounters, Observation, Role
from harness.evidence.processes import Processes, read_processes

HOST_FACTS = ("kernel", "cpus", "ringbuf_pages", "runner", "attach", "cgroup")
UNKNOWN = "unknown"
TOP = 5
SLOT_NS = 10**7
_DIED = "capture_process_died"
_PAGE = 4096

Ranked = tuple[tuple[int, str], ...]  # (count, name): most first, then by name


@frozen
class Busiest:
    """The 10 ms in which most records came through; `at_ms` counts from the first record of the run."""

    at_ms: int
    records: int
    sources: Ranked


@frozen(kw_only=True)
class DropDiagnostics:
    """Counts of each stage a record passes. What was lost has no name: sources are of what came through.

    host          facts by name; "unknown" when nobody supplied it
    kinds         the kernel's counters, of kinds that were seen at all
    unattributed  events that the kernel skipped, so that not even their kind is known
    observed      False: the capture process died, and its counters with it
    submitted     sum over the kinds
    classes       records by class; `retained` of them are evidence, out of `raw`
    by_process    "role process kind" of what came through; `by_path` names, `filtered` those left out
    """

    run_id: str
    host: Mapping[str, str]
    kinds: Mapping[Kind, KindCounters]
    unattributed: int
    observed: bool
    capture: CaptureAccounting
    submitted: int
    raw: int
    retained: int
    classes: Mapping[EventClass, int]
    by_process: Ranked
    by_path: Ranked
    filtered: Ranked
    busiest: Busiest | None

    @property
    def lost(self) -> dict[str, int]:
        """Records lost at each stage."""
        kinds = self.kinds.values()
        return {
            "ring full": sum(k.dropped for k in kinds),
            "oversized": sum(k.oversized for k in kinds),
            "kernel fault": sum(k.fault for k in kinds),
            "skipped by the kernel": self.unattributed,
            "not received": max(0, self.submitted - self.capture.received) if self.observed else 0,
            "decoder rejects": self.capture.decode_errors,
        }


def drop_diagnostics(
    observation: Observation, context: RunContext, host: Mapping[str, str]
) -> DropDiagnostics | None:
    """None when the run had no kernel capture. `host` are further facts, by the names of HOST_FACTS."""
    capture = observation.accounting
    if capture is None:
        return None
    processes = read_processes(observation.records)
    classified = classify(observation.records, processes, context.classification)
    measured = [r for r in observation.records if r.role is not Role.HARNESS]
    kinds = {kind: capture.kinds[kind] for kind in Kind if kind in capture.kinds and capture.kinds[kind].seen}
    known = {"kernel": observation.host.get("kernel", ""), "cgroup": _cgroup(observation.host)}
    known |= {"ringbuf_pages": str(capture.ring_bytes // _PAGE), **host}
    return DropDiagnostics(
        run_id=context.run_id,
        host={name: known.get(name) or UNKNOWN for name in HOST_FACTS},
        kinds=kinds,
        unattributed=capture.recursion_misses,
        observed=_DIED not in capture.errors,
        capture=capture,
        submitted=sum(k.submitted for k in kinds.values()),
        raw=sum(classified.counts.values()),
        retained=classified.counts[EventClass.EVIDENCE],
        classes={found: count for found, count in classified.counts.items() if count},
        by_process=_ranked(_source(record, processes) for record in measured),
        by_path=_ranked(_names(classified, filtered=False)),
        filtered=_ranked(_names(classified, filtered=True)),
        busiest=_busiest(measured, processes),
    )


def _source(record: KernelRecord, processes: Processes) -> str:
    who = "(setup)" if record.setup else processes.label(record)
    return f"{record.role} {who} {record.kind}"


def _names(classified: Classified, *, filtered: bool) -> Iterable[str]:
    """The path of every operation, once for each of its records."""
    for operation, found in classified.operations:
        if operation.path is not None and not (filtered and found is EventClass.EVIDENCE):
            for _ in operation.records:
                yield operation.path.decode("utf-8", "replace")


def _busiest(records: list[KernelRecord], processes: Processes) -> Busiest | None:
    if not records:
        return None
    slots = Counter(record.time_ns // SLOT_NS for record in records)
    slot, count = min(slots.items(), key=lambda item: (-item[1], item[0]))
    sources = _ranked(_source(r, processes) for r in records if r.time_ns // SLOT_NS == slot)
    begun = min(slots)
    return Busiest((slot - begun) * SLOT_NS // 10**6, count, sources)


def _ranked(names: Iterable[str]) -> Ranked:
    counted = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))
    return tuple((count, name) for name, count in counted[:TOP])


def _cgroup(host: Mapping[str, str]) -> str:
    facts = (host.get("cgroup_driver"), host.get("cgroup_version"))
    return " v".join(fact for fact in facts if fact)
