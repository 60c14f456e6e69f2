"""Acceptance of one archive against its gate (contracts §7.2): what must be there, and nothing else.

Everything is read back from the archive itself, after it has been verified: a gate never trusts
what the run still had in memory.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.bundle.verify import check
from harness.errors import VerificationError
from harness.spec import Fixture, GateSpec

WINDOW = {"start": "run_started", "end": "run_finished"}


def failures(archive: Path, fixture: Fixture) -> list[str]:
    """One line per assertion that does not hold; empty for a passed acceptance."""
    gate = fixture.file.gate
    assert gate is not None, "catalog gives only fixtures with a gate"
    try:
        members = check(archive).members
    except VerificationError as error:
        return [f"the archive does not verify: {error}"]
    documents: dict[str, Any] = {
        name: json.loads(data) if name.endswith(".json") else [json.loads(x) for x in data.splitlines()]
        for name, data in members.items()
    }
    return [
        *_health(documents, fixture.file.witnesses),
        *_surface(documents["capability-surface.json"], gate),
        *_correlation(documents, fixture.file.witnesses, gate),
        *_sdk(documents["layers/sdk.ndjson"], gate),
        *_writes(documents, gate),
        *_companion(documents),
    ]


def _differs(what: str, actual: object, expected: object) -> Iterator[str]:
    if actual != expected:
        yield f"{what}: expected {json.dumps(expected)}, found {json.dumps(actual)}"


def _health(documents: dict[str, Any], witnesses: tuple[str, ...]) -> Iterator[str]:
    health = documents["observation-health.json"]
    layers = {
        "platform": "linux",
        "kernel_layer": "complete",
        "ringbuf_drops": 0,
        "policy_layer": "present" if "policy" in witnesses else "absent",
        "sdk_layer": "self_reported" if "sdk" in witnesses else "absent",
        "cgroup_correlation": "clean",
    }
    for key, expected in layers.items():
        yield from _differs(f"health {key}", health[key], expected)
    for witness, member in (("policy", "layers/policy.ndjson"), ("sdk", "layers/sdk.ndjson")):
        if witness not in witnesses:
            yield from _differs(f"lines of {member}", len(documents[member]), 0)
    if not documents["layers/kernel.ndjson"]:
        yield "the kernel layer is empty"


def _surface(surface: dict[str, Any], gate: GateSpec) -> Iterator[str]:
    names = ("filesystem_paths", "network_endpoints", "process_execs", "mcp_tools", "policy_decisions")
    for name in names:
        yield from _differs(f"surface {name}", surface[name], sorted(getattr(gate, name)))
    for path in gate.absent_paths:
        if path in surface["filesystem_paths"]:
            yield f"surface filesystem_paths: {path} must not be there"


def _correlation(documents: dict[str, Any], witnesses: tuple[str, ...], gate: GateSpec) -> Iterator[str]:
    report = documents["correlation-report.json"]
    bindings = report["bindings"]
    yield from _differs("tool calls", [b["tool_call_id"] for b in bindings], list(gate.tool_call_ids))
    lines = documents["layers/policy.ndjson"]
    yield from _differs("policy lines", [x["tool_call_id"] for x in lines], list(gate.tool_call_ids))
    if "policy" in witnesses:
        yield from _differs("correlation status", report["status"], gate.correlation_status)
        yield from _differs("correlation ambiguities", report["ambiguities"], list(gate.ambiguities))
    for binding in bindings:
        yield from _differs("binding window", binding["window"], WINDOW)
        if not binding["kernel_event_count"]:
            yield f"binding {binding['tool_call_id']}: no kernel events"


def _sdk(lines: list[dict[str, Any]], gate: GateSpec) -> Iterator[str]:
    if gate.sdk is None:
        return
    yield from _differs("sdk events", [x["event_type"] for x in lines], list(gate.sdk.events))
    for key, expected in (
        ("sdk_name", gate.sdk.name),
        ("sdk_version", gate.sdk.version),
        ("source", gate.sdk.source),
    ):
        yield from _differs(f"sdk {key}", sorted({x[key] for x in lines}), [expected])
    ids = {x["tool_call_id"] for x in lines} - {None}
    yield from _differs("sdk tool calls", len(ids), gate.sdk.tool_calls)
    yield from _differs("sdk tool call ids", sorted(ids), sorted(gate.tool_call_ids))


def _writes(documents: dict[str, Any], gate: GateSpec) -> Iterator[str]:
    for write in gate.writes:
        lines = [x for x in documents["layers/kernel.ndjson"] if x["value"] == write.path]
        created = [
            x
            for x in lines
            if x["kind"] == "openat"
            and x["access_mode"] in ("write", "read_write")
            and "create" in x.get("operation_flags", ())
            and x["status"] == "success"
        ]
        yield from _differs(f"kernel lines that create {write.path}", len(created), 1)
        roles = {x["role"] for x in documents["companion/kernel.ndjson"] if x["path"] == write.path}
        yield from _differs(f"roles that touched {write.path}", sorted(roles), [write.role])


def _companion(documents: dict[str, Any]) -> Iterator[str]:
    accounting = documents["companion/accounting.json"]
    yield from _differs("accounting unclean", accounting["unclean"], [])
    yield from _differs("missing witnesses", accounting["missing_witnesses"], [])
    for identity in accounting["identities"]:
        if not identity["holds"]:
            yield f"identity {identity['name']}: {identity['left']} is not {identity['right']}"
    for seal in documents["companion/network.json"]["seals"]:
        yield from _differs(f"network of {seal['role']}", seal["problems"], [])
