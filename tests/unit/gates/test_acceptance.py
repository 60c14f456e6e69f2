"""Acceptance on archives made without a machine: each assertion of contracts §7.2 can fail."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.bundle.reader import Archive
from harness.contracts.manifest import ArchiveManifest
from harness.engine.image_lock import read_lock
from harness.errors import InputError
from harness.gates import acceptance
from harness.gates.catalog import ORDER, all_gates, find_fixture, gate_name
from harness.spec import Fixture

Documents = dict[str, Any]


@pytest.fixture
def documents() -> Documents:
    """What an accepted S5 archive holds, as far as acceptance looks."""
    run, call = "r", "tc_runner_policy_001"
    events = ("tool_call_started", "tool_call_completed", "run_finished")
    return {
        "observation-health.json": {
            "platform": "linux",
            "kernel_layer": "complete",
            "ringbuf_drops": 0,
            "policy_layer": "present",
            "sdk_layer": "self_reported",
            "cgroup_correlation": "clean",
        },
        "capability-surface.json": {
            "filesystem_paths": ["/workspace/openai-agents-input.txt", "/workspace/policy-input.txt"],
            "network_endpoints": [],
            "process_execs": [],
            "mcp_tools": ["read_file"],
            "policy_decisions": ["allow:read_file"],
        },
        "correlation-report.json": {
            "run_id": run,
            "status": "clean",
            "bindings": [{"tool_call_id": call, "kernel_event_count": 2, "window": acceptance.WINDOW}],
            "ambiguities": [],
        },
        "layers/kernel.ndjson": [{"kind": "openat", "value": path} for path in ("/a", "/b")],
        "layers/policy.ndjson": [{"tool_call_id": call}],
        "layers/sdk.ndjson": [
            {
                "event_type": event,
                "sdk_name": "@openai/agents",
                "sdk_version": "0.20.0",
                "source": "openai-agents-fixture",
                "tool_call_id": None if event == "run_finished" else call,
            }
            for event in events
        ],
        "companion/kernel.ndjson": [],
        "companion/accounting.json": {
            "unclean": [],
            "missing_witnesses": [],
            "identities": [{"holds": True}],
        },
        "companion/network.json": {"seals": [{"role": "subject", "problems": []}]},
    }


def judged(
    documents: Documents, monkeypatch: pytest.MonkeyPatch, fixture: Fixture | None = None
) -> list[str]:
    members = {
        name: json.dumps(value).encode()
        if name.endswith(".json")
        else b"".join(json.dumps(line).encode() + b"\n" for line in value)
        for name, value in documents.items()
    }
    archive = Archive("any", members, ArchiveManifest(run_id="r", files={}))
    monkeypatch.setattr(acceptance, "check", lambda _: archive)
    return acceptance.failures(Path("any"), fixture or find_fixture("openai-agents"))


def test_a_good_archive_is_accepted(documents: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged(documents, monkeypatch) == []


def put(*path: str | int, value: Any) -> Callable[[Documents], None]:
    def change(documents: Documents) -> None:
        target: Any = documents
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


BROKEN = {
    "kernel layer": put("observation-health.json", "kernel_layer", value="partial_ringbuf_drops"),
    "drops": put("observation-health.json", "ringbuf_drops", value=1),
    "policy layer": put("observation-health.json", "policy_layer", value="absent"),
    "sdk layer": put("observation-health.json", "sdk_layer", value="absent"),
    "correlation health": put("observation-health.json", "cgroup_correlation", value="partial"),
    "a path more": put("capability-surface.json", "filesystem_paths", value=["/workspace/x"]),
    "a hidden write": put(
        "capability-surface.json", "filesystem_paths", 0, value="/workspace/hidden-write-output.txt"
    ),
    "an endpoint": put("capability-surface.json", "network_endpoints", value=["1.2.3.4:5"]),
    "an execution": put("capability-surface.json", "process_execs", value=["/bin/sh"]),
    "another tool": put("capability-surface.json", "mcp_tools", value=["write_file"]),
    "another decision": put("capability-surface.json", "policy_decisions", value=["deny:read_file"]),
    "partial": put("correlation-report.json", "status", value="partial"),
    "ambiguous": put("correlation-report.json", "ambiguities", value=["x"]),
    "another call": put("correlation-report.json", "bindings", 0, "tool_call_id", value="tc_other"),
    "no kernel events": put("correlation-report.json", "bindings", 0, "kernel_event_count", value=0),
    "another window": put("correlation-report.json", "bindings", 0, "window", value={}),
    "empty kernel layer": put("layers/kernel.ndjson", value=[]),
    "two policy lines": put("layers/policy.ndjson", value=[{"tool_call_id": "a"}, {"tool_call_id": "b"}]),
    "sdk order": put("layers/sdk.ndjson", 0, "event_type", value="run_failed"),
    "sdk version": put("layers/sdk.ndjson", 0, "sdk_version", value="0.0.1"),
    "sdk name": put("layers/sdk.ndjson", 1, "sdk_name", value="other"),
    "sdk source": put("layers/sdk.ndjson", 2, "source", value="other"),
    "sdk id": put("layers/sdk.ndjson", 0, "tool_call_id", value="tc_other"),
    "unclean": put("companion/accounting.json", "unclean", value=["ring_drops"]),
    "missing witness": put("companion/accounting.json", "missing_witnesses", value=["sdk"]),
    "identity": put(
        "companion/accounting.json",
        "identities",
        value=[{"holds": False, "name": "n", "left": 1, "right": 2}],
    ),
    "network": put("companion/network.json", "seals", 0, "problems", value=["network_packets: 3"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_assertion_can_fail(name: str, documents: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN[name](documents)
    assert judged(documents, monkeypatch) != []


def test_the_catalog_is_in_contract_order_and_names_what_it_knows() -> None:
    names = [gate_name(fixture) for fixture in all_gates()]
    known = [name for name in ORDER if name in names]
    assert names[: len(known)] == known
    with pytest.raises(InputError, match=r"known: .*kernel-only.*openai-agents"):
        find_fixture("no-such-gate")
    assert find_fixture("openai-agents-kernel-policy").name == "openai-agents"


SDK_GATES = [fixture for fixture in all_gates() if fixture.file.gate and fixture.file.gate.sdk]


@pytest.mark.parametrize("fixture", SDK_GATES, ids=lambda fixture: fixture.name)
def test_another_version_of_any_sdk_is_named(
    fixture: Fixture, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fixture.file.gate is not None
    expected = fixture.file.gate.sdk
    assert expected is not None
    lines = documents["layers/sdk.ndjson"]
    for line in lines:
        line.update(sdk_name=expected.name, sdk_version=expected.version, source=expected.source)
    assert not [one for one in judged(documents, monkeypatch, fixture) if "sdk_version" in one]
    for line in lines:
        line["sdk_version"] = "0.0.1"
    found = [one for one in judged(documents, monkeypatch, fixture) if "sdk_version" in one]
    assert found == [f'sdk sdk_version: expected ["{expected.version}"], found ["0.0.1"]']


@pytest.mark.parametrize("fixture", SDK_GATES, ids=lambda fixture: fixture.name)
def test_the_version_that_a_gate_expects_is_the_locked_one(fixture: Fixture) -> None:
    """A lock that moves on without the expectation is caught here already, before any run."""
    assert fixture.file.gate is not None
    assert fixture.file.gate.sdk is not None
    lock = read_lock(fixture.folder.parent / fixture.file.image)
    assert lock is not None
    assert lock.runtime[fixture.file.gate.sdk.name] == fixture.file.gate.sdk.version
