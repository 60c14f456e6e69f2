"""One archive as one HTML page: is it clean, what was touched, by which call, by which process."""

import json
from collections.abc import Iterable, Iterator, Sequence

from harness.bundle.reader import Archive
from harness.compare.members import document, lines
from harness.contracts.companion import (
    ACCOUNTING,
    ATTRIBUTION,
    POLICY,
    PROCESSES,
    RUNSPEC,
    SURFACE,
    AccountingV1,
    AttributedEvidence,
    AttributionV1,
    CapabilitySurfaceV1,
    PathCapability,
    PolicyEventV1,
    ProcessNode,
    ProcessTreeV1,
    RunSpecDocV1,
)
from harness.contracts.companion_policy import DECIDED, REFUSED
from harness.contracts.correlation import CorrelationReport
from harness.contracts.health import ObservationHealth
from harness.contracts.manifest import CORRELATION, HEALTH
from harness.contracts.manifest import SURFACE as SURFACE_V0
from harness.contracts.surface import DIMENSIONS, CapabilitySurface
from harness.present import words
from harness.present.page import code, facts, flowing, page, table, tag, text
from harness.present.summary import Summary, as_lines, summary_of

_FIRST = 10  # of what stands on the first screen
_MAX_EVENTS = 1000  # rows of a table about the proxy
_EMPTY = '<p class="soft">none</p>'


def as_report(archive: Archive) -> str:
    """The archive must hold: see bundle.verify. Without a companion it tells what v0 knows."""
    health = document(archive, HEALTH, ObservationHealth)
    correlation = document(archive, CORRELATION, CorrelationReport)
    body = [f"<h1>{flowing(archive.run_id)}</h1>"]
    if archive.has_companion:
        body += _about(document(archive, RUNSPEC, RunSpecDocV1))
        body += _summary(summary_of(archive.members))
    body += ["<h2>Health</h2>", *_health(archive, health, correlation)]
    if SURFACE in archive.members:
        body += _surface(document(archive, SURFACE, CapabilitySurfaceV1))
    else:
        body += _surface_v0(document(archive, SURFACE_V0, CapabilitySurface))
    if POLICY in archive.members:
        body += _proxy(lines(archive, POLICY, PolicyEventV1))
    if ATTRIBUTION in archive.members:
        body += _attribution(document(archive, ATTRIBUTION, AttributionV1))
    if PROCESSES in archive.members:
        body += _processes(document(archive, PROCESSES, ProcessTreeV1).processes)
    body.append(f'<footer class="soft">identity {code(archive.identity)}</footer>')
    return page(f"assay-runner report: {archive.run_id}", body)


def _about(spec: RunSpecDocV1) -> Iterator[str]:
    lock = (
        "the one of its lock" if spec.image_locked else "not compared with a lock, or not the one of its lock"
    )
    yield facts(
        [
            ("fixture", spec.fixture or "none"),
            ("image", f"{spec.image} {spec.image_id} ({lock})" if spec.image else "none"),
            ("command", " ".join(spec.command)),
            ("witnesses", ", ".join(spec.witnesses)),
        ]
    )


def _summary(summary: Summary) -> Iterator[str]:
    """Before all else: what a person would ask first."""
    yield (
        "<h2>What it did</h2><ul>"
        + "".join(f"<li>{flowing(line)}</li>" for line in as_lines(summary))
        + "</ul>"
    )
    if summary.hidden:
        yield f'<div class="card bad"><p>{tag("bad", "outside any tool call")} by the agent itself:</p><ul>'
        yield "".join(f"<li>{code(name)}</li>" for name in summary.hidden[:_FIRST])
        yield f"</ul>{_more(len(summary.hidden))}</div>"


def _more(count: int) -> str:
    return f'<p class="soft">and {count - _FIRST} more: see below</p>' if count > _FIRST else ""


def _health(archive: Archive, health: ObservationHealth, correlation: CorrelationReport) -> Iterator[str]:
    if ACCOUNTING in archive.members:
        books = document(archive, ACCOUNTING, AccountingV1)
        if books.clean:
            yield f"<p>{tag('good', 'clean')} every record is accounted for</p>"
        else:
            yield f"<p>{tag('bad', 'not clean')} {text(', '.join(books.unclean))}</p>"
    yield facts(
        [
            ("kernel", f"{health.kernel_layer}, {health.ringbuf_drops} records dropped"),
            ("policy", health.policy_layer),
            ("SDK", health.sdk_layer),
            ("cgroup correlation", health.cgroup_correlation),
            ("call correlation", ", ".join((correlation.status, *correlation.ambiguities))),
        ]
    )
    yield "<ul>" + "".join(f'<li class="soft">{text(note)}</li>' for note in health.notes) + "</ul>"


def _surface(surface: CapabilitySurfaceV1) -> Iterator[str]:
    yield "<h2>Surface</h2><h3>Paths</h3>"
    yield _paths(surface.paths)
    rows = {
        "Network": [
            [code(f"{one.operation} {one.family} {one.address}"), _by(one.result, one.roles)]
            for one in surface.network
        ],
        "Programs": [
            [code(" ".join(one.argv or (one.path,))), _by(one.result, one.roles)] for one in surface.execs
        ],
        "Tools": [[code(one.tool), text(", ".join(one.decisions))] for one in surface.tools],
    }
    for title, found in rows.items():
        yield f"<h3>{title}</h3>"
        yield table(("what", "how"), found) if found else _EMPTY
    yield f"<details><summary>{len(surface.telemetry)} reads of the runtime's own kind</summary>"
    yield _paths(surface.telemetry)
    yield "</details>"


def _paths(paths: Iterable[PathCapability]) -> str:
    rows = [
        [
            code(one.path),
            "<br>".join(f"{text(act.action)} {_by(act.result, act.roles)}" for act in one.actions),
        ]
        for one in paths
    ]
    return table(("path", "what was done"), rows) if rows else _EMPTY


def _by(result: str, roles: Sequence[str]) -> str:
    tried = "" if result == "done" else f" ({result})"
    return text(f"by {', '.join(roles)}{tried}")


def _surface_v0(surface: CapabilitySurface) -> Iterator[str]:
    yield '<h2>Surface</h2><p class="soft">v0: names only, attempts included</p>'
    for name in DIMENSIONS:
        values = getattr(surface, name)
        yield f"<h3>{text(words.TITLES[name])}</h3>"
        yield "<ul>" + "".join(f"<li>{code(value)}</li>" for value in values) + "</ul>" if values else _EMPTY


def _proxy(events: Sequence[PolicyEventV1]) -> Iterator[str]:
    """All that the policy proxy told: what it decided, and what it refused, limited or ended."""
    yield "<h2>Policy proxy</h2>"
    decided = [event for event in events if event.event == DECIDED]
    others = [event for event in events if event.event != DECIDED]
    allowed = sum(event.decision == "allow" for event in decided)
    refused = sum(event.count or 1 for event in others if event.event == REFUSED)
    counts = (("allowed", allowed), ("denied", len(decided) - allowed), ("refused unjudged", refused))
    yield facts(counts)
    for title, found in (("Decided", decided), ("Refused, limited, ended", others)):
        yield f"<h3>{title}</h3>"
        yield table(("what", "how"), map(_told, found[:_MAX_EVENTS])) if found else _EMPTY
        if len(found) > _MAX_EVENTS:
            yield f'<p class="soft">and {len(found) - _MAX_EVENTS} more, in companion/policy.ndjson</p>'


def _told(event: PolicyEventV1) -> list[str]:
    names = [name for name in (event.method, event.name, event.tool_call_id) if name is not None]
    request = "" if event.request_id is None else f", request {json.dumps(event.request_id)}"
    more = "" if event.count is None else f", {event.count} times more"
    rule = "" if event.rule is None else f" by rule {event.rule}"
    notes = "" if event.notes is None else f" ({', '.join(event.notes)})"
    how = f"{event.decision or event.event}{rule}: {event.reason}{request}{more}{notes}"
    return [code(" ".join(names) or event.event), text(f"connection {event.connection}: {how}")]


def _attribution(attribution: AttributionV1) -> Iterator[str]:
    yield "<h2>Attribution</h2>"
    for call in attribution.calls:
        answered = "" if call.answered else ", not answered"
        told = text(f"{call.tool}: {call.decision}{answered}")
        yield f'<div class="card"><p>{code(call.tool_call_id)} {told}</p>'
        yield _evidence(call.evidence)
        yield "</div>"
    for title, found in (
        ("Of one of several calls", attribution.ambiguous),
        ("Of no tool call", attribution.unattributed),
    ):
        yield f"<h3>{title}</h3>"
        yield _evidence(found)


def _evidence(found: Sequence[AttributedEvidence]) -> str:
    rows = []
    for one in found:
        names = [name for name in (one.path, one.path2, one.address) if name is not None]
        whose = f", of {' or '.join(one.candidates)}" if one.candidates else ""
        how = f"{one.operation} ({one.outcome}) by {one.process}, {one.match}{whose}"
        rows.append([code(" → ".join(names) or "no name"), text(how)])
    return table(("what", "how"), rows) if rows else _EMPTY


def _processes(processes: Sequence[ProcessNode]) -> Iterator[str]:
    """Nested by parent, without recursion: a stranger's tree may be deep."""
    yield "<h2>Processes</h2>"
    below: dict[str | None, list[ProcessNode]] = {}
    known = {node.process for node in processes}
    for node in processes:
        below.setdefault(node.parent if node.parent in known else None, []).append(node)
    waiting: list[ProcessNode | str] = ["</ul>", *reversed(below.pop(None, [])), "<ul>"]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
            continue
        yield f"<li>{_process(item)}"
        children = below.pop(item.process, [])
        waiting += ["</ul></li>", *reversed(children), "<ul>"] if children else ["</li>"]
    if astray := sum(map(len, below.values())):
        yield f'<p class="changed">{astray} processes descend from each other alone</p>'


def _process(node: ProcessNode) -> str:
    commands = (
        " then ".join(code(" ".join(one.argv)) for one in node.execs) or "forked, no program of its own"
    )
    ended = f" exit {node.exit_code}" if node.exit_code is not None else ""
    ended = f" signal {node.signal}" if node.signal is not None else ended
    return f'<span class="soft">{text(node.process)}{text(ended)}</span> {commands}'
