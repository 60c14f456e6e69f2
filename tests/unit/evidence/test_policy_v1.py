"""companion/policy.ndjson: what the proxy decided, refused, limited and ended, and nothing that varies."""

import json
from typing import Any

import pytest

from harness.contracts.bounds import MAX_CHANNEL_LINES
from harness.contracts.companion_policy import TOLD_OF_A_KIND, TOLD_OF_A_RUN, UNTOLD
from harness.contracts.converter import unstructure
from harness.evidence.correlate import surface
from harness.evidence.layers import PolicyLayer, policy_layer
from harness.policy import refusals
from tests.unit.evidence.build import RUN_ID, answer, cloud_event, decision


def layer(*lines: dict[str, Any]) -> PolicyLayer:
    return policy_layer([json.dumps(line).encode() for line in lines], RUN_ID)


def told(*lines: dict[str, Any]) -> list[dict[str, Any]]:
    out = []
    for line in map(unstructure, layer(*lines).told):
        assert (line.pop("schema"), line.pop("run_id")) == ("assay.runner.policy_event.v1", RUN_ID)
        out.append(line)
    assert [line.pop("seq") for line in out] == list(range(len(out)))
    return out


def rejected(connection: int, reason: str = "bad_json", **data: object) -> dict[str, Any]:
    return cloud_event("assay.proxy.rejected", connection=connection, reason=reason, **data)


def test_names_are_kept_byte_for_byte() -> None:
    names = [(" tc_1", " read_file "), ("tc_1", "read_file"), ("TC_1", "Read_File"), ("e\u0301", "\u00e9")]
    found = layer(*(decision(call, 1, tool=tool) for call, tool in names))
    assert [(event.tool_call_id, event.tool) for event in found.events] == names
    assert [(event.tool_call_id, event.name) for event in found.told] == names
    assert set(surface(RUN_ID, (), found.events).mcp_tools) == {tool for _, tool in names}


def test_each_event_is_told_in_the_order_of_its_connection() -> None:
    found = told(
        cloud_event("assay.proxy.ready", policy_digest="sha256:x"),
        rejected(2, "method_not_permitted", method="resources/read", request_id="r"),
        decision("tc_1", 10, paths=["/b", "/a", "/b"]) | {},
        answer("tc_1", 20),
        rejected(2, "bad_json", method=None, request_id=None),
        rejected(1, "duplicate_key", method=None, request_id=0),
        cloud_event("assay.server.ended", connection=2, reason="response_too_long"),
        cloud_event("assay.server.ended", connection=1, reason="server_exited"),
        cloud_event("assay.proxy.limited", connection=33, reason="too_many_connections"),
    )
    assert found == [
        {
            "connection": 1, "event": "decided", "method": "tools/call", "reason": "unknown",
            "name": "read_file", "tool_call_id": "tc_1", "decision": "allow", "rule": "",
            "paths": ["/a", "/b"],
        },
        {"connection": 1, "event": "refused", "method": None, "reason": "duplicate_key", "request_id": 0},
        {"connection": 1, "event": "ended", "method": None, "reason": "server_exited"},
        {
            "connection": 2, "event": "refused", "method": "resources/read",
            "reason": "method_not_permitted", "request_id": "r",
        },
        {"connection": 2, "event": "refused", "method": None, "reason": "bad_json"},
        {"connection": 2, "event": "killed", "method": None, "reason": "response_too_long"},
        {"connection": 33, "event": "limited", "method": None, "reason": "too_many_connections"},
    ]  # fmt: skip


def test_what_was_judged_of_resources_and_notes_are_told() -> None:
    data = {"connection": 1, "method": "resources/read", "name": "file:///a", "decision": "deny"}
    more = {"reason_code": "P_POLICY_DENY", "rule": "no", "request_id": 9, "notes": ["not_judged:uri:url"]}
    found = told(cloud_event("assay.proxy.judged", **data, **more))
    assert found == [
        {
            "connection": 1, "event": "decided", "method": "resources/read", "reason": "P_POLICY_DENY",
            "name": "file:///a", "decision": "deny", "rule": "no", "notes": ["not_judged:uri:url"],
        }
    ]  # fmt: skip
    twice = decision("tc_1", 1)
    twice["data"] |= {"duplicate_id": True, "notes": ["a"], "id_key": "k"}
    assert (told(twice)[0]["notes"], told(twice)[0]["id_key"]) == (["a", "duplicate_id"], "k")


def test_calls_without_an_id_are_told_too() -> None:
    found = layer(decision(None, 1, verdict="deny"), decision(" ", 1, verdict="deny"))
    assert (found.idless_calls, len(found.events)) == (2, 0)
    assert [(event.name, event.tool_call_id) for event in found.told] == [("read_file", None)] * 2


@pytest.mark.breaks("unclean:decisions:TooManyRefusals")
def test_a_run_whose_refusals_were_not_all_told_is_not_clean() -> None:
    found = layer(rejected(1), cloud_event("assay.proxy.limited", connection=0, reason=UNTOLD))
    assert [problem.identity for problem in found.problems] == ["TooManyRefusals"]
    assert layer(rejected(1, count=10**6)).problems == ()


def test_no_time_enters() -> None:
    assert told(decision("tc_1", 10)) == told(decision("tc_1", 99))


def test_the_proxy_tells_no_more_than_verifiers_take() -> None:
    assert (refusals.TOLD, refusals.MAX_TOLD, refusals.UNTOLD) == (TOLD_OF_A_KIND, TOLD_OF_A_RUN, UNTOLD)
    assert TOLD_OF_A_RUN < MAX_CHANNEL_LINES // 4
