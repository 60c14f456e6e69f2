"""A whole archive from changed parts: what an honest writer would have made of other kernel and policy lines.

And what a forger does: manifests that fit whatever the members are.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve

from harness.contracts import companion, manifest
from harness.contracts.canonical import load_json, load_ndjson, ndjson, sha256_of, to_bytes
from harness.contracts.companion import AccountingV1, KernelEventV1, PolicyEventV1
from harness.contracts.converter import parse, unstructure
from harness.contracts.kernel_event import EXEC, KernelEvent, open_event, other_event
from harness.contracts.policy_event import PolicyEvent
from harness.contracts.sdk_event import SdkEvent
from harness.evidence.accounting import Books, losses
from harness.evidence.correlate import correlate, surface
from harness.evidence.health import derive_health
from harness.evidence.kernel_v0 import OTHER_IDS
from harness.evidence.layers import tool_call_ids
from harness.evidence.surface_v1 import is_main, surface_v1
from harness.evidence.syscalls import FLAG_NAMES

Members = dict[str, bytes]
_ACCESS = {"read": 0, "write": 1, "read_write": 2, "unknown": 3, "path": 0o10000000}


def document(model: object) -> bytes:
    return to_bytes(unstructure(model))


def remake_manifests(members: Mapping[str, bytes], run_id: str | None = None) -> Members:
    """Both manifests made to fit whatever the members now are."""
    run_id = (
        run_id or load_json(members.get(manifest.MANIFEST, members[manifest.CORRELATION]), "run")["run_id"]
    )
    v0 = {name: data for name, data in members.items() if name in manifest.V0_MEMBERS[1:]}
    extra = {name: data for name, data in members.items() if name in companion.COMPANION_SCHEMAS}
    head = document(manifest.ArchiveManifest(run_id=run_id, files=manifest.describe(v0)))
    made = {manifest.MANIFEST: head, **v0}
    if extra:
        made[manifest.COMPANION_MANIFEST] = document(
            manifest.CompanionManifest(
                run_id=run_id, v0_manifest_sha256=sha256_of(head), files=manifest.describe(extra)
            )
        )
        made |= extra
    return made


def derive(members: Members) -> None:
    """Make all that follows from companion/kernel.ndjson, the policy layer and the books anew."""
    run_id = load_json(members[companion.HOST], "host")["run_id"]
    told = {to_bytes(event | {"seq": 0}) for event in load_ndjson(members[companion.KERNEL], "kernel")}
    documents = [load_json(line, "line") | {"seq": seq} for seq, line in enumerate(sorted(told))]
    members[companion.KERNEL] = ndjson(documents)
    lines = [parse(KernelEventV1, event) for event in documents]
    policy = [parse(PolicyEvent, event) for event in load_ndjson(members[manifest.POLICY], "policy")]
    sdk = [parse(SdkEvent, event) for event in load_ndjson(members[manifest.SDK], "sdk")]
    kernel = _v0(run_id, lines)
    members[manifest.KERNEL] = ndjson(unstructure(event) for event in kernel)
    members[manifest.SURFACE] = document(surface(run_id, kernel, policy))
    members[companion.SURFACE] = document(surface_v1(run_id, lines, policy))
    members[manifest.CORRELATION] = document(correlate(run_id, policy, len(kernel), sdk))
    books = _books(load_json(members[companion.ACCOUNTING], "books"), lines)
    members[companion.ACCOUNTING] = to_bytes(books)
    kept = parse(AccountingV1, books)
    assert kept.capture is not None
    drops, lost = losses(kept.capture, set(kept.unclean))
    health = derive_health(
        run_id,
        kernel_events=len(kernel),
        kernel_asked=True,
        ring_drops=drops,
        other_losses=lost,
        unclean=Books((), kept.unclean, drops, lost).kernel_unclean,
        policy_events=len(policy),
        sdk_events=len(sdk),
        sdk_tool_calls=len(tool_call_ids(sdk)),
    )
    members[manifest.HEALTH] = document(health)
    members[companion.ATTRIBUTION] = to_bytes(
        _attributed(load_json(members[companion.ATTRIBUTION], "attribution"), lines, policy)
    )
    tell_policy(members)


def tell_policy(members: Members) -> None:
    """companion/policy.ndjson for the decisions of the policy layer, and its number of lines in the books."""
    calls = load_json(members[companion.ATTRIBUTION], "attribution")["calls"]
    paths = {call["tool_call_id"]: tuple(call["paths"]) for call in calls}
    told = [
        PolicyEventV1(
            run_id=event["run_id"], seq=seq, connection=1, event="decided", method="tools/call",
            reason="P_POLICY_ALLOW", name=event["tool"], tool_call_id=event["tool_call_id"],
            decision=event["decision"], rule="reads", paths=paths.get(event["tool_call_id"]) or None,
        )
        for seq, event in enumerate(load_ndjson(members[manifest.POLICY], "policy"))
    ]  # fmt: skip
    members[companion.POLICY] = ndjson(unstructure(event) for event in told)
    books = parse(AccountingV1, load_json(members[companion.ACCOUNTING], "books"))
    members[companion.ACCOUNTING] = document(evolve(books, policy_events=len(told)))


def _v0(run_id: str, lines: Iterable[KernelEventV1]) -> list[KernelEvent]:
    events: dict[tuple[object, ...], KernelEvent] = {}
    bits = {name: bit for bit, name in FLAG_NAMES}
    for line in lines:
        if line.event_class != "evidence":
            continue
        result = 3 if line.outcome == "ok" else -2 if line.outcome == "ENOENT" else -13
        if line.access is not None:
            flags = _ACCESS[line.access]
            for name in line.flags or ():
                flags |= bits.get(name, 0)
            mode = int(line.mode or "0", 8)
            events[line.path, flags, mode, result >= 0, line.role] = open_event(
                run_id=run_id, seq=len(events), pid=7, value=line.path, flags=flags, mode=mode, resolve=0,
                return_value=result,
            )  # fmt: skip
        elif line.operation == "exec" or line.operation in OTHER_IDS:
            number = EXEC if line.operation == "exec" else OTHER_IDS[line.operation]
            events[line.path, number, result >= 0, line.role] = other_event(
                run_id=run_id, seq=len(events), pid=7, event_type=number, value=line.path, return_value=result
            )
    return list(events.values())


def _books(books: dict[str, Any], lines: Iterable[KernelEventV1]) -> dict[str, Any]:
    """Records of plumbing reads become what the lines need, so that the sum stays."""
    classes = books["records"]["classes"]
    for name in {line.event_class for line in lines}:
        missing = sum(line.event_class == name for line in lines) - classes[name]
        if missing > 0:
            classes[name] += missing
            classes["image_runtime"] -= missing
    return books


def _attributed(
    report: dict[str, Any], lines: Iterable[KernelEventV1], policy: Iterable[PolicyEvent]
) -> dict[str, Any]:
    for call, event in zip(report["calls"], policy, strict=True):
        call |= {"tool_call_id": event.tool_call_id, "tool": event.tool, "decision": event.decision}
        call["evidence"] = []
    report |= {"ambiguous": [], "unattributed": []}
    for line in filter(is_main, lines):
        keys = ("role", "process", "operation", "outcome", "path", "path2", "address")
        entry = {key: getattr(line, key) for key in keys if key == "path" or getattr(line, key) is not None}
        if line.role == "tools" and report["calls"]:
            call = report["calls"][0]
            entry["match"] = "exact" if line.path in call["paths"] else "window"
            call["evidence"].append(entry)
        else:
            report["unattributed"].append(entry | {"match": "unattributed"})
    for entries in (*(call["evidence"] for call in report["calls"]), report["unattributed"]):
        entries[:] = [load_json(one, "entry") for one in sorted({to_bytes(entry) for entry in entries})]
    return report
