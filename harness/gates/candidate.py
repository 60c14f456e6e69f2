"""The candidate table: what a runtime must show before it may be a fixture, judged from archives alone.

Six runs: the default scenario three times, `multi-tool`, two identical calls at once, and a model that
gives its call no id. Every finding says what was seen; one that fails names both values.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from harness.bundle.verify import check
from harness.contracts.probe_report import ProbeFinding, ProbeRow
from harness.evidence.accounting import OTHER_WITNESSES

SINGLE = ("single-1", "single-2", "single-3")
MULTI, IDENTICAL, NO_ID = "multi-tool", "identical-calls", "no-id"
RUNS = (*SINGLE, MULTI, IDENTICAL, NO_ID)
TARGET = "/workspace/policy-input.txt"
# What the multi-tool scenario asks for, in the order of its ids (docs/runtimes.md).
MULTI_FILES = (
    TARGET,
    "/workspace/a.txt",
    "/workspace/b.txt",
    "/workspace/denied/secret.txt",
    "/workspace/missing.txt",
)
DENIED = MULTI_FILES[3]
MISSING_ID = "missing_tool_call_id"
SDK_EVENTS = ["tool_call_started", "tool_call_completed", "run_finished"]
HEALTH = {
    "kernel_layer": "complete",
    "ringbuf_drops": 0,
    "policy_layer": "present",
    "sdk_layer": "self_reported",
    "cgroup_correlation": "clean",
}

Findings = Iterator[tuple[bool, str]]


@frozen
class Declared:
    """What is known of the runtime before it runs: from fixture.toml and image.lock.toml.

    multi_ids  the ids that its model gives the calls of multi-tool; locked  package -> version;
    divergences  what `determinism.divergences` says of the three runs
    """

    id_source: str
    network: str
    volatile: tuple[str, ...]
    multi_ids: tuple[str, ...]
    image_id: str | None
    locked: dict[str, str]
    divergences: tuple[str, ...] = ()


@frozen
class Seen:
    """One run: its archive's documents by member, and the data of its raw decision log, which alone has the
    reason of a denial."""

    documents: Mapping[str, Any]
    decisions: Sequence[Mapping[str, Any]]

    def __getitem__(self, member: str) -> Any:
        return self.documents[member]

    @property
    def policy_ids(self) -> list[str]:
        return [line["tool_call_id"] for line in self["layers/policy.ndjson"]]

    def sdk_ids(self, *event_types: str) -> list[str]:
        lines = self["layers/sdk.ndjson"]
        return [x["tool_call_id"] for x in lines if x["tool_call_id"] and x["event_type"] in event_types]

    def roles_at(self, path: str) -> list[str]:
        """Who touched it, by the kernel."""
        return sorted({x["role"] for x in self["companion/kernel.ndjson"] if x["path"] == path})


def seen(archive: Path, decision_log: bytes) -> Seen:
    """Read back what a run left; VerificationError for an archive that does not hold."""
    documents = {
        name: json.loads(data) if name.endswith(".json") else [json.loads(line) for line in data.splitlines()]
        for name, data in check(archive).members.items()
    }
    return Seen(documents, [json.loads(line)["data"] for line in decision_log.splitlines()])


def judge(runs: Mapping[str, Seen], declared: Declared) -> tuple[ProbeRow, ...]:
    """A row for each requirement, in the order of the table."""
    rows: tuple[tuple[str, Callable[[Mapping[str, Seen], Declared], Findings]], ...] = (
        ("offline", _offline),
        ("stable identity", _identity),
        ("comparable surface", _surface),
        ("locked dependencies", _locked),
        ("Linux/eBPF fit", _fit),
        ("small event shape", _shape),
        ("evidence boundary", _boundary),
    )
    judged = []
    for requirement, look in rows:
        findings = tuple(ProbeFinding(passed=good, text=text) for good, text in look(runs, declared))
        passed = all(finding.passed for finding in findings)
        judged.append(ProbeRow(requirement=requirement, passed=passed, findings=findings))
    return tuple(judged)


def _offline(runs: Mapping[str, Seen], declared: Declared) -> Findings:
    seals = [seal for run in runs.values() for seal in run["companion/network.json"]["seals"]]
    problems = sorted({problem for seal in seals for problem in seal["problems"]})
    yield not problems, f"network seals of {len(runs)} runs: {', '.join(problems) or 'no problem'}"
    loopback = sum(seal["packets"] for seal in seals if seal["declared"] == "loopback")
    others = sum(seal["packets"] for seal in seals if seal["declared"] != "loopback")
    yield not others, f"packets on any link: {others}" + (f", {loopback} to itself" if loopback else "")
    endpoints = {x for run in runs.values() for x in run["capability-surface.json"]["network_endpoints"]}
    allowed = {x for x in endpoints if declared.network == "loopback" and x.startswith("127.")}
    yield endpoints == allowed, f"endpoints: {', '.join(sorted(endpoints)) or 'none'}"


def _identity(runs: Mapping[str, Seen], declared: Declared) -> Findings:
    yield True, f"id_source: {declared.id_source}"
    singles = [runs[name].policy_ids for name in SINGLE]
    same = all(ids == singles[0] for ids in singles) and len(singles[0]) == 1
    yield same, f"one call, three runs: {' '.join(str(ids) for ids in singles)}"
    yield from _lost(runs)
    multi = runs[MULTI]
    calls = {x["tool_call_id"]: x["paths"] for x in multi["companion/attribution.json"]["calls"]}
    expected = {one: [path] for one, path in zip(declared.multi_ids, MULTI_FILES, strict=False)}
    if calls == expected and len(calls) == len(MULTI_FILES):
        yield True, f"{len(calls)} calls: each id with the file that the model asked for under it"
    else:
        yield False, f"multi-tool: the model gave {json.dumps(expected)}, judged was {json.dumps(calls)}"
    yield from _joined(multi, MULTI)
    yield from _identical(runs[IDENTICAL])
    yield from _absent(runs[NO_ID])
    yield from _denied(multi, declared)


def _lost(runs: Mapping[str, Seen]) -> Findings:
    """In all runs but one the model gives each call an id: what comes without has lost it."""
    lost = {
        name: [one["reason_code"] for one in run.decisions if one["tool_call_id"] is None]
        for name, run in runs.items()
        if name != NO_ID
    }
    counts = [f"{name} {len(x)} of {len(runs[name].decisions)}" for name, x in lost.items() if x]
    because = ", ".join(sorted({reason for reasons in lost.values() for reason in reasons}))
    found = f"{', '.join(counts)}: {because}" if counts else "none"
    yield not counts, f"calls that came without the id that the model gave: {found}"


def _joined(run: Seen, name: str) -> Findings:
    """Each id once started, once completed, once decided."""
    started, completed = run.sdk_ids("tool_call_started"), run.sdk_ids("tool_call_completed")
    triples = [Counter(ids) for ids in (started, completed, run.policy_ids)]
    if triples[0] == triples[1] == triples[2] and set(triples[0].values()) == {1}:
        yield True, f"{name}: {len(started)} ids, each started, completed and decided once"
    else:
        yield False, f"{name}: started {started}, completed {completed}, decided {run.policy_ids}"


def _identical(run: Seen) -> Findings:
    calls = [(x["tool_call_id"], x["tool"], x["paths"]) for x in run["companion/attribution.json"]["calls"]]
    prefix = run["companion/runspec.json"]["env"].get("ASSAY_RUNNER_CALL_IDS", "")
    alike = [call for call in calls if call[1:] == ("read_file", [TARGET])]
    known = all(call[0].startswith(prefix) for call in calls)
    if len(calls) == len(alike) == 2 and calls[0][0] != calls[1][0] and known:
        yield True, f"two identical calls at once: {calls[0][0]} and {calls[1][0]}"
    else:
        yield False, f"two identical calls at once, ids {prefix or '…'}001 and …002: judged was {calls}"
    yield from _joined(run, IDENTICAL)


def _absent(run: Seen) -> Findings:
    """The model gave no id: none may be in the policy layer, and nothing may have been done."""
    made_up = [data["tool_call_id"] for data in run.decisions if data["tool_call_id"] is not None]
    told = [one for one in run.sdk_ids("tool_call_started", "tool_call_completed") if one]
    reasons = [data["reason_code"] for data in run.decisions if data["tool_call_id"] is None]
    ended = [x["event_type"] for x in run["layers/sdk.ndjson"]][-1:]
    idless = run["companion/accounting.json"]["idless_calls"]
    if made_up or run.policy_ids:
        found = json.dumps(made_up or run.policy_ids)
        yield False, f"no id: the model gave null, the policy layer has {found}: made up, and believed"
    elif reasons and set(reasons) == {MISSING_ID} and idless == len(reasons):
        yield not told, f"no id: the model gave null{_told(told)}; denied {MISSING_ID}"
    elif not run.decisions:
        yield True, f"no id: the model gave null{_told(told)}; refused before the policy ({', '.join(ended)})"
    else:
        yield False, f"no id: the model gave null, {idless} calls without one, denied for {reasons}"
    readers = run.roles_at(TARGET)
    yield not readers, f"no id: {TARGET} was touched by {', '.join(readers) or 'nobody'}"


def _told(ids: list[str]) -> str:
    return f", the SDK told {json.dumps(sorted(set(ids)))}" if ids else ""


def _denied(run: Seen, declared: Declared) -> Findings:
    decisions = {x["tool_call_id"]: x["decision"] for x in run["layers/policy.ndjson"]}
    one = declared.multi_ids[3] if len(declared.multi_ids) > 3 else None
    yield decisions.get(one) == "deny", f"denied call {one}: the policy layer says {decisions.get(one)}"
    readers = run.roles_at(DENIED)
    yield not readers, f"denied call {one}: {DENIED} was touched by {', '.join(readers) or 'nobody'}"


def _surface(runs: Mapping[str, Seen], _declared: Declared) -> Findings:
    run = runs[SINGLE[0]]
    surface = run["capability-surface.json"]
    for key, expected in (("mcp_tools", ["read_file"]), ("policy_decisions", ["allow:read_file"])):
        yield surface[key] == expected, f"{key}: {', '.join(surface[key]) or 'none'}"
    by_tools = {
        (path["path"], action["action"], action["result"])
        for path in run["companion/surface.json"]["paths"]
        for action in path["actions"]
        if "tools" in action["roles"]
    }
    read = by_tools == {(TARGET, "read", "done")}
    yield read, f"the tools: {'; '.join(' '.join(one) for one in sorted(by_tools)) or 'touched nothing'}"
    own = set(surface["filesystem_paths"]) - {TARGET}
    outside = sum(not path.startswith("/workspace/") for path in own)
    yield True, f"the agent itself: {len(own)} paths, {outside} of them outside of /workspace"


def _locked(runs: Mapping[str, Seen], declared: Declared) -> Findings:
    used = {(run["companion/runspec.json"]["image_id"]) for run in runs.values()}
    yield used == {declared.image_id}, f"image: {', '.join(sorted(used))}, the lock says {declared.image_id}"
    told = {
        (line["sdk_name"], line["sdk_version"]) for run in runs.values() for line in run["layers/sdk.ndjson"]
    }
    if not told:
        yield False, "the SDK told no version"
    for name, version in sorted(told, key=str):
        locked = declared.locked.get(name or "")
        yield version == locked is not None, f"{name}: {version} told, {locked} locked"
    yield not declared.divergences, next(iter(declared.divergences), "three runs, equal bytes")


def _fit(runs: Mapping[str, Seen], _declared: Declared) -> Findings:
    for name in (SINGLE[0], MULTI, IDENTICAL):
        books = runs[name]["companion/accounting.json"]
        counts = books["capture"]
        broken = [f"identity_broken:{x['name']}" for x in books["identities"] if not x["holds"]]
        lost = sum(kind["dropped"] for kind in counts["kinds"].values()) if counts else None
        seen = counts["received"] if counts else 0
        # What other witnesses miss is no matter of the kernel's: see the evidence boundary.
        codes = [code for code in books["unclean"] if not code.startswith(OTHER_WITNESSES)]
        because = ", ".join(dict.fromkeys((*codes, *broken)))
        good = not because and lost == 0
        yield good, f"{name}: {seen} kernel records, {lost} lost" + (f", {because}" if because else "")


def _shape(runs: Mapping[str, Seen], _declared: Declared) -> Findings:
    run = runs[SINGLE[0]]
    events = [line["event_type"] for line in run["layers/sdk.ndjson"]]
    yield events == SDK_EVENTS, f"SDK events: {', '.join(events)}"
    report = run["correlation-report.json"]
    one = len(report["bindings"]) == 1 and report["status"] == "clean"
    yield one, f"bindings: {len(report['bindings'])}, correlation {report['status']}"


def _boundary(runs: Mapping[str, Seen], declared: Declared) -> Findings:
    for name in SINGLE:
        health = runs[name]["observation-health.json"]
        wrong = [f"{key} is {health[key]}" for key, value in HEALTH.items() if health[key] != value]
        yield not wrong, f"{name}: {'; '.join(wrong) or 'health is clean'}"
    for name in (*SINGLE, MULTI, IDENTICAL):
        books = runs[name]["companion/accounting.json"]
        if not books["clean"]:
            yield False, f"{name}: not clean because of: {', '.join(books['unclean'])}"
    refused = runs[NO_ID]["companion/accounting.json"]
    because = ", ".join(refused["unclean"]) or "nothing"
    yield not refused["clean"], f"the run without an id is not clean because of: {because}"
    more = [f"network {declared.network!r}"] if declared.network != "none" else []
    more += [f"volatile {glob}" for glob in declared.volatile]
    yield True, f"declared beyond the usual: {', '.join(more) or 'nothing'}"
