"""Drop diagnostics as text (contracts §2.9): three layers, then who made the pressure.

What was not observed is said to be so, and never printed as 0.
"""

from collections.abc import Iterator

from harness.evidence.drop_diagnostics import DropDiagnostics, Ranked
from harness.present.words import shown

NOT_OBSERVABLE = "not observable"
_COUNTERS = ("seen", "submitted", "dropped", "oversized", "fault", "truncated", "unreadable")


def as_text(found: DropDiagnostics) -> str:
    """Lines ending in a newline."""
    lines = [
        f"drop diagnostics of {found.run_id}: for people; no part of the archive, and no gate reads them",
        "host " + " ".join(f"{name}={shown(value)}" for name, value in found.host.items()),
        *_kernel(found),
        *_reader(found),
        *_normalizer(found),
        *_sources(found),
    ]
    return "\n".join(lines) + "\n"


def _kernel(found: DropDiagnostics) -> Iterator[str]:
    yield "A kernel-side loss"
    if not found.observed:
        yield f"  counters: {NOT_OBSERVABLE} (the capture process died)"
        return
    for kind, counters in found.kinds.items():
        yield f"  {kind}: " + " ".join(f"{name}={getattr(counters, name)}" for name in _COUNTERS)
    yield f"  unattributed={found.unattributed}"


def _reader(found: DropDiagnostics) -> Iterator[str]:
    capture = found.capture
    yield "B user-space reader pressure"
    if found.observed:
        high, size = capture.ring_high_water, capture.ring_bytes
        yield f"  reader backlog: high water {high} of {size} bytes ({100 * high / size:.1f} %)"
        yield f"  freezes={capture.freezes} frozen_ms={capture.frozen_ns / 1e6:.1f}"
    else:
        yield f"  reader backlog: {NOT_OBSERVABLE}"
        yield f"  freezes: {NOT_OBSERVABLE}"
    yield f"  poll lag: {NOT_OBSERVABLE}"
    submitted = found.submitted if found.observed else NOT_OBSERVABLE
    yield f"  submitted={submitted} received={capture.received} bytes={capture.received_bytes}"
    yield f"  decoded={capture.decoded} decoder rejects={capture.decode_errors}"
    yield from (f"  error {shown(code)}" for code in capture.errors)


def _normalizer(found: DropDiagnostics) -> Iterator[str]:
    reduction = f"{found.retained / found.raw:.3f}" if found.raw else "n/a"
    yield "C normalizer filtering"
    yield (
        f"  raw={found.raw} filtered={found.raw - found.retained} retained={found.retained} "
        f"reduction={reduction}"
    )
    yield "  classes " + " ".join(f"{name}={count}" for name, count in found.classes.items())
    yield from _ranked("filtered", found.filtered)


def _sources(found: DropDiagnostics) -> Iterator[str]:
    yield "top sources of what came through (what was lost has no name)"
    yield from _ranked("by process", found.by_process)
    yield from _ranked("by path", found.by_path)
    if found.busiest is not None:
        busiest = found.busiest
        yield f"  busiest 10 ms: {busiest.records} records at {busiest.at_ms} ms"
        yield from (f"    {count} {shown(name)}" for count, name in busiest.sources)
    lost = ", ".join(f"{stage} {count}" for stage, count in found.lost.items() if count)
    if not found.observed:
        lost = NOT_OBSERVABLE + (f", beside {lost}" if lost else "")
    yield f"lost: {lost or 'nothing'}"


def _ranked(title: str, ranked: Ranked) -> Iterator[str]:
    yield f"  {title}" + ("" if ranked else ": none")
    yield from (f"    {count} {shown(name)}" for count, name in ranked)
