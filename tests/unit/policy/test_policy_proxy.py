"""What the proxy forwards, denies and records: real proxy, bridges, server and recorder."""

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.unit.policy.conftest import Rig

MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def test_a_session_of_the_2025_era(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    bridge.send(id=0, method="initialize", params={"protocolVersion": "2025-11-25", "capabilities": {}})
    assert bridge.receive()["result"]["protocolVersion"] == "2025-11-25"
    bridge.send(method="notifications/initialized")
    bridge.send(id=1, method="tools/list")
    assert bridge.receive()["result"]["tools"] == [{"name": "echo", "description": "déjà vu"}]
    bridge.call(2, "read_file", {"path": "a/../b.txt"}, "tc_1")
    assert json.loads(bridge.receive()["result"]["content"][0]["text"]) == {"path": "a/../b.txt"}
    assert bridge.close() == 0
    canonical = json.dumps({"path": "a/../b.txt"}, sort_keys=True, separators=(",", ":"))
    (decision,) = rig.data("tool.decision")
    digest = "sha256:" + hashlib.sha256(rig.policy.read_bytes()).hexdigest()
    assert decision.pop("monotonic_ns") > 0
    assert decision == {
        "tool": "read_file",
        "decision": "allow",
        "reason_code": "P_POLICY_ALLOW",
        "rule": "reads",
        "tool_call_id": "tc_1",
        "id_key": "dev.assay.runner/tool_call_id",
        "duplicate_id": False,
        "request_id": 2,
        "connection": 1,
        "policy_digest": digest,
        "paths": ["/workspace/b.txt"],
        "args_sha256": hashlib.sha256(canonical.encode()).hexdigest(),
    }
    (answered,) = rig.data("tool.answered")
    assert answered["monotonic_ns"] > 0
    assert (answered["tool_call_id"], answered["request_id"], answered["is_error"]) == ("tc_1", 2, False)
    assert rig.data("proxy.ready")[0]["policy_digest"] == digest
    assert not rig.data("proxy.rejected")
    for number, event in enumerate(rig.events(), 1):
        assert event["specversion"] == "1.0"
        assert event["source"] == "assay://runner-spike/run_x"
        assert event["id"] == f"evt_{number:06d}"
        assert event["time"].endswith("Z")


def test_a_session_of_the_2026_era(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    bridge.send(id="probe", method="server/discover", params={"_meta": MODERN})
    assert bridge.receive()["result"]["supportedVersions"] == ["2026-07-28"]
    bridge.call(1, "echo", {"a": 1}, "tc_1", **MODERN)
    assert bridge.receive()["result"]["resultType"] == "complete"
    bridge.call(2, "write_file", {"path": "x"}, "tc_2", **MODERN)
    assert bridge.receive()["result"] == {
        "content": [{"type": "text", "text": "denied by policy: tool 'write_file', rule 'default'"}],
        "isError": True,
        "_meta": {"dev.assay.runner/decision": "deny", "dev.assay.runner/rule": "default"},
        "resultType": "complete",
    }
    assert [message["method"] for message in rig.forwarded()] == ["server/discover", "tools/call"]


def test_a_legacy_server_is_not_asked_to_discover_and_not_started_for_it(rig: "Rig") -> None:
    rig.start(legacy=True)
    probe = rig.bridge()
    probe.send(id="probe", method="server/discover", params={"_meta": MODERN})
    assert probe.receive() == {
        "jsonrpc": "2.0",
        "id": "probe",
        "error": {"code": -32601, "message": "refused by the policy proxy: legacy_server"},
    }
    assert probe.close() == 0
    assert rig.received() == []
    bridge = rig.bridge()
    bridge.send(id=0, method="initialize", params={})
    assert "result" in bridge.receive()
    assert [message["method"] for message in rig.forwarded()] == ["initialize"]
    assert [event["reason"] for event in rig.data("proxy.rejected")] == ["legacy_server"]


@pytest.mark.parametrize(
    ("tool", "arguments", "rule", "code"),
    [
        ("write_file", {"path": "a"}, "default", "P_TOOL_NOT_ALLOWED"),
        ("read_file", {"path": "/etc/passwd"}, "default", "P_TOOL_NOT_ALLOWED"),
        ("read_file", {"path": "../etc/passwd"}, "default", "P_TOOL_NOT_ALLOWED"),
        ("read_file", {"path": "/workspace/a/../../etc/passwd"}, "default", "P_TOOL_NOT_ALLOWED"),
        ("read_file", {"path": "//etc/passwd"}, "default", "P_TOOL_NOT_ALLOWED"),
        ("read_file", {"path": ["a", "/etc/passwd"]}, "default", "P_TOOL_NOT_ALLOWED"),
        ("read_file", {}, "default", "P_TOOL_NOT_ALLOWED"),
        ("read_file", {"path": "x/../secret/key"}, "secrets", "P_POLICY_DENY"),
        ("echo", {"path": "secret"}, "secrets", "P_POLICY_DENY"),
        ("echo", {"PATH": "secret"}, "secrets", "P_POLICY_DENY"),
    ],
)
def test_a_denied_call_is_answered_recorded_and_not_forwarded(
    rig: "Rig", tool: str, arguments: dict[str, Any], rule: str, code: str
) -> None:
    bridge = rig.start().bridge()
    bridge.call(5, tool, arguments, "tc_1")
    answer = bridge.receive()
    assert answer["id"] == 5
    assert answer["result"]["isError"] is True
    assert answer["result"]["_meta"]["dev.assay.runner/rule"] == rule
    assert "resultType" not in answer["result"]
    (decision,) = rig.data("tool.decision")
    assert (decision["decision"], decision["rule"], decision["reason_code"]) == ("deny", rule, code)
    assert not rig.data("tool.answered")
    assert rig.received() == []  # not even started


@pytest.mark.parametrize("tool_call_id", [None, "", "  ", 7, True, ["tc"], {"id": "tc"}])
def test_a_call_without_an_explicit_id_is_denied(rig: "Rig", tool_call_id: object) -> None:
    bridge = rig.start().bridge()
    bridge.call("request-id-is-no-tool-id", "echo", {}, tool_call_id)
    assert bridge.receive()["result"]["isError"] is True
    (decision,) = rig.data("tool.decision")
    assert decision["decision"] == "deny"
    assert decision["reason_code"] == decision["rule"] == "missing_tool_call_id"
    assert decision["tool_call_id"] is None
    assert decision["id_key"] is None
    assert rig.received() == []


def test_which_key_carried_the_id_is_recorded(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    bridge.call(1, "echo", {"_meta": {"tool_call_id": "inner"}}, "own", **{"claudecode/toolUseId": "claude"})
    bridge.call(2, "echo", {"_meta": {"tool_call_id": "inner"}}, None, **{"claudecode/toolUseId": "claude"})
    bridge.call(3, "echo", {"_meta": {"tool_call_id": "inner"}}, None)
    for _ in range(3):
        assert "isError" not in bridge.receive()["result"]
    assert [(decision["tool_call_id"], decision["id_key"]) for decision in rig.data("tool.decision")] == [
        ("own", "dev.assay.runner/tool_call_id"),
        ("claude", "claudecode/toolUseId"),
        ("inner", "arguments._meta.tool_call_id"),
    ]


def test_an_id_used_twice_in_a_run_is_judged_and_flagged(rig: "Rig") -> None:
    rig.start()
    first, second = rig.bridge(), rig.bridge()
    for bridge, tool_call_id in ((first, "same"), (second, "same"), (second, "other")):
        bridge.call(1, "echo", {}, tool_call_id)
        assert "isError" not in bridge.receive()["result"]
    assert [decision["duplicate_id"] for decision in rig.data("tool.decision")] == [False, True, False]


def test_errors_of_the_tool_are_recorded_as_such(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    bridge.call(1, "fail", {}, "tc_result")
    assert bridge.receive()["result"]["isError"] is True
    bridge.call(2, "error", {}, "tc_error")
    assert bridge.receive()["error"]["code"] == -32000
    assert [(event["tool_call_id"], event["is_error"]) for event in rig.data("tool.answered")] == [
        ("tc_result", True),
        ("tc_error", True),
    ]


def test_the_host_has_the_decision_before_the_server_has_the_call(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    for number in range(20):
        bridge.call(number, "echo", {"n": number}, f"tc_{number}")
        bridge.receive()
    received = [entry["time_ns"] for entry in rig.received() if entry["what"] == "line"]
    decided = [event["stamp"] for event in rig.events("tool.decision")]
    answered = [event["stamp"] for event in rig.events("tool.answered")]
    assert len(received) == len(decided) == len(answered) == 20
    assert all(d < r < a for d, r, a in zip(decided, received, answered, strict=True))


def test_nothing_is_forwarded_while_the_host_withholds_its_acknowledgement(rig: "Rig") -> None:
    bridge = rig.start(acknowledge=False).bridge()
    bridge.send(id=0, method="tools/list")
    assert "result" in bridge.receive()
    bridge.call(1, "echo", {}, "tc_1")
    rig.wait_for("assay.tool.decision")
    assert bridge.silent(0.3)
    assert [message["method"] for message in rig.forwarded()] == ["tools/list"]
    # Nor does it hold up another connection, or let a later message of its own overtake it.
    bridge.send(id=2, method="ping")
    other = rig.bridge()
    other.send(id=0, method="ping")
    assert other.receive()["id"] == 0
    assert bridge.silent(0.1)
    # When the host goes, the waiting call is denied, still without being forwarded.
    rig.stop()
    answer = bridge.receive()
    assert answer["id"] == 1
    assert answer["result"]["_meta"]["dev.assay.runner/rule"] == "recorder_gone"
    assert [message["method"] for message in rig.forwarded()] == ["tools/list", "ping"]


def test_parallel_calls_and_parallel_sessions(rig: "Rig") -> None:
    rig.start()
    bridges = [rig.bridge() for _ in range(4)]
    for bridge in bridges:
        for number in range(5):
            bridge.call(number, "meet", {"count": 20}, f"tc_{bridges.index(bridge)}_{number}")
    for bridge in bridges:
        assert sorted(bridge.receive()["id"] for _ in range(5)) == list(range(5))
    assert len({entry["pid"] for entry in rig.received()}) == 4  # one server a connection
    ids = {f"tc_{b}_{n}" for b in range(4) for n in range(5)}
    assert {event["tool_call_id"] for event in rig.data("tool.decision")} == ids
    assert {event["tool_call_id"] for event in rig.data("tool.answered")} == ids


def test_a_large_answer_reaches_a_slow_reader_whole_and_stops_nobody_else(rig: "Rig") -> None:
    rig.start()
    slow, other = rig.bridge(), rig.bridge()
    slow.call(1, "big", {"size": 10_000_000}, "tc_big")
    slow.call(2, "big", {"size": 10_000_000}, "tc_big_2")
    rig.wait_for("assay.tool.answered")
    for number in range(5):  # while nobody reads the big one
        other.call(number, "echo", {}, f"tc_{number}")
        assert other.receive()["id"] == number
    for _ in range(2):
        time.sleep(0.1)
        assert len(slow.receive()["result"]["content"][0]["text"]) == 10_000_000


def test_requests_of_the_server_are_relayed_and_only_their_answers_pass(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    bridge.send(id=77, result={"roots": []})  # before it was asked
    assert bridge.receive()["error"]["code"] == -32600
    bridge.call(1, "ask", {}, "tc_1")
    assert bridge.receive() == {"jsonrpc": "2.0", "id": 77, "method": "roots/list"}
    bridge.send(id=77, result={"roots": []})
    assert bridge.receive()["id"] == 1
    bridge.send(id=77, result={"roots": []})  # a second time
    assert bridge.receive()["error"]["code"] == -32600
    assert [message.get("method", "response") for message in rig.forwarded()] == ["tools/call", "response"]
    assert [event["reason"] for event in rig.data("proxy.rejected")] == ["unexpected_response"] * 2


def test_an_id_in_flight_cannot_be_used_again(rig: "Rig") -> None:
    """Otherwise one answer could be taken for that of another call."""
    bridge = rig.start().bridge()
    bridge.call(1, "meet", {"count": 2}, "tc_1")
    bridge.call(1, "echo", {}, "tc_2")
    assert bridge.receive() == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32600, "message": "refused by the policy proxy: id_in_use"},
    }
    bridge.call(2, "meet", {"count": 2}, "tc_3")
    assert {bridge.receive()["id"] for _ in range(2)} == {1, 2}
    bridge.call(1, "echo", {}, "tc_4")
    assert bridge.receive()["id"] == 1
    assert {event["tool_call_id"] for event in rig.data("tool.answered")} == {"tc_1", "tc_3", "tc_4"}
    assert len(rig.forwarded()) == 3


def test_what_is_forwarded_is_what_was_judged(rig: "Rig") -> None:
    """Not the client's bytes: nothing that two parsers could read differently gets through."""
    bridge = rig.start().bridge()
    text = b'{ "jsonrpc" : "2.0", "id":1,"method":"tools\\u002fcall" ,"params":{"name":"echo","arguments":'
    bridge.raw(
        text
        + '{"a":"\u2028é\\ud800","n":1.50}'.encode()
        + b',"_meta":{"dev.assay.runner/tool_call_id":"tc"}}}\r\n'
    )
    bridge.receive()
    (entry,) = [entry for entry in rig.received() if entry["what"] == "line"]
    assert entry["line"] == (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":'
        '{"a":"\\u2028\\u00e9\\ud800","n":1.5},"_meta":{"dev.assay.runner/tool_call_id":"tc"}}}\n'
    )


def test_no_answer_passes_before_its_record_has_left(rig: "Rig") -> None:
    """A host that stops reading: the agent must not be ahead of the record."""
    host = rig.stand_in()
    bridge = rig.bridge()
    bridge.raw(b"".join(b'{"jsonrpc":"2.0","id":1,"method":"m/%d"}\n' % n for n in range(5000)))
    bridge.line()
    answered = 1
    while not bridge.silent(0.5):
        bridge.line()
        answered += 1
    host.setblocking(False)
    recorded = b""
    while True:
        try:
            recorded += host.recv(1 << 20)
        except BlockingIOError:
            break
    host.close()
    assert 0 < answered <= recorded.count(b"assay.proxy.rejected") < 5000


def test_names_pass_and_are_recorded_byte_for_byte(rig: "Rig") -> None:
    rig.policy.write_text('schema = "assay.runner.policy.v1"\ndefault = "allow"\n')
    bridge = rig.start().bridge()
    sent = [
        (" tc_1", " read_file "),
        ("tc_1", "read_file"),
        ("TC_1\u00a0", "Read_File"),
        ("e\u0301", "\u00e9"),
    ]
    for number, (tool_call_id, tool) in enumerate(sent):
        bridge.call(number, tool, {}, tool_call_id)
        assert bridge.receive()["id"] == number
    assert [message["params"]["name"] for message in rig.forwarded()] == [tool for _, tool in sent]
    decisions = rig.data("tool.decision")
    assert [(event["tool_call_id"], event["tool"]) for event in decisions] == sent
    assert [event["duplicate_id"] for event in decisions] == [False] * 4
    assert [event["tool_call_id"] for event in rig.data("tool.answered")] == [name for name, _ in sent]


def test_null_is_taken_as_absent_and_no_notification_is_lost(rig: "Rig") -> None:
    """Some serialisers write null for what is not there."""
    bridge = rig.start().bridge()
    texts = (
        b'"id":0,"method":"initialize","params":null',
        b'"method":"notifications/initialized","params":null',
        b'"id":null,"method":"notifications/initialized","params":{"_meta":null}',
        b'"id":1,"method":"ping","params":{"_meta":null},"result":null,"error":null',
        b'"id":2,"method":"tools/call","params":{"name":"echo","arguments":null,"_meta":{"%s":"tc"}}'
        % b"dev.assay.runner/tool_call_id",
        b'"id":3,"method":"tools/call","params":{"name":"echo","arguments":{"_meta":{"tool_call_id":"x"}}}',
    )
    for text in texts:
        bridge.raw(b'{"jsonrpc":"2.0",' + text + b"}\n")
    assert sorted(bridge.receive()["id"] for _ in range(4)) == [0, 1, 2, 3]
    assert not rig.data("proxy.rejected")
    assert [event["decision"] for event in rig.data("tool.decision")] == ["allow", "allow"]
    methods = [message["method"] for message in rig.forwarded()]
    assert methods == ["initialize", *["notifications/initialized"] * 2, "ping", *["tools/call"] * 2]
    assert "null" not in "".join(entry["line"] for entry in rig.received())


@pytest.mark.parametrize("method", ["initialize", "server/discover"])
def test_what_is_not_served_is_not_announced(rig: "Rig", method: str) -> None:
    bridge = rig.start().bridge()
    bridge.send(id=0, method=method)
    result = bridge.receive()["result"]
    assert result["capabilities"] == {"tools": {}}
    assert result.get("note", "caf\u00e9") == "caf\u00e9"
    bridge.send(id=1, method="resources/read", params={"uri": "file:///workspace/a"})
    assert bridge.receive()["error"]["code"] == -32601


ASKING = """
schema = "assay.runner.policy.v1"

[[rule]]
id = "docs"
effect = "allow"
resources = ["file:///workspace/**"]

[[rule]]
id = "greetings"
effect = "allow"
prompts = ["greet_*"]
"""


def test_resources_and_prompts_are_served_by_rules_of_their_own_judged_and_recorded(rig: "Rig") -> None:
    rig.policy.write_text(ASKING)
    bridge = rig.start().bridge()
    bridge.send(id=0, method="initialize")
    served: dict[str, object] = {"tools": {}, "resources": {}, "prompts": {}, "completions": {}}
    assert bridge.receive()["result"]["capabilities"] == served
    ref = {"type": "ref/prompt", "name": "greet_me"}
    asked: list[tuple[str, dict[str, Any], str]] = [
        ("resources/read", {"uri": "file:///workspace/a"}, "allow docs"),
        ("resources/read", {"uri": "file:///etc/passwd"}, "deny default"),
        ("resources/read", {"uri": "file:///workspace/../etc/passwd"}, "deny default"),
        ("prompts/get", {"name": "greet_me", "arguments": {"a": "b"}}, "allow greetings"),
        ("prompts/get", {"name": " greet_me"}, "deny default"),
        ("completion/complete", {"ref": ref, "argument": {"name": "a", "value": ""}}, "allow greetings"),
        ("completion/complete", {"ref": {"type": "ref/resource", "uri": "x:y"}}, "deny default"),
    ]
    for number, (method, params, outcome) in enumerate(asked, 1):
        bridge.send(id=number, method=method, params=params)
        answer = bridge.receive()
        assert answer["id"] == number
        decision, rule = outcome.split()
        if decision == "allow":
            assert answer["result"] == {"asked": params}
        else:
            assert answer["error"]["code"] == -32602
            assert answer["error"]["data"] == {
                "dev.assay.runner/decision": "deny",
                "dev.assay.runner/rule": rule,
            }
    bridge.send(id=90, method="resources/list")
    assert bridge.receive()["id"] == 90
    judged = rig.data("proxy.judged")
    assert [(event["method"], f"{event['decision']} {event['rule']}") for event in judged] == [
        (method, outcome) for method, _, outcome in asked
    ]
    assert judged[2]["notes"] == ["not_judged:uri:not_normal"]
    assert len(rig.forwarded()) == 2 + 3


@pytest.mark.parametrize(
    "params",
    [
        {"URI": "file:///workspace/a"},
        {"uri": "file:///workspace/a", "Uri": "file:///etc/passwd"},
        {"uri": 7},
        {"uri": " "},
        {"uri": "x" * 5000},
        {"ref": {"type": "ref/other", "name": "greet_me"}},
    ],
)
def test_a_resource_or_prompt_that_is_named_ambiguously_is_refused(
    rig: "Rig", params: dict[str, Any]
) -> None:
    rig.policy.write_text(ASKING)
    bridge = rig.start().bridge()
    bridge.send(id=5, method="completion/complete" if "ref" in params else "resources/read", params=params)
    answer = bridge.receive()
    assert (answer["id"], answer["error"]["code"]) == (5, -32602)
    assert rig.received() == []
    assert len(rig.data("proxy.rejected")) == 1


def test_arguments_that_nobody_judges_may_have_keys_that_differ_in_case(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    headers = {"Content-Type": "a", "content-type": "b"}
    for arguments in ({"headers": headers}, headers, {"list": [{"deep": headers}], "k": 1, "\u212a": 2}):
        bridge.call(1, "echo", arguments, "tc")
        assert json.loads(bridge.receive()["result"]["content"][0]["text"]) == arguments


def test_a_denial_says_what_could_not_be_judged(rig: "Rig") -> None:
    rig.policy.write_text(rig.policy.read_text().replace('base = "/workspace"\n', ""))
    bridge = rig.start().bridge()
    bridge.call(1, "read_file", {"path": "a"}, "tc")
    text = bridge.receive()["result"]["content"][0]["text"]
    assert text == "denied by policy: tool 'read_file', rule 'secrets' (not_judged:path:relative)"
    assert rig.data("tool.decision")[0]["notes"] == ["not_judged:path:relative"]


def test_every_refusal_names_its_method_request_and_connection(rig: "Rig") -> None:
    rig.start()
    first = rig.bridge()
    first.send(id="r", method="resources/read", params={"uri": "x:y"})
    assert first.receive()["id"] == "r"
    second = rig.bridge()
    second.send(id=8, method="tools/call", params={"name": ["x"]})
    assert second.receive()["id"] == 8
    told = [
        {key: value for key, value in event.items() if key != "monotonic_ns"}
        for event in rig.data("rejected")
    ]
    assert told == [
        {"connection": 1, "reason": "method_not_permitted", "method": "resources/read", "request_id": "r"},
        {"connection": 2, "reason": "bad_params", "method": "tools/call", "request_id": 8},
    ]


def test_refusals_without_number_are_counted_not_told_one_by_one(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    for number in range(350):
        bridge.send(id=number, method="resources/read")
        assert bridge.receive()["id"] == number
    bridge.close()
    rig.bridge().send(id=1, method="prompts/list")
    rig.bridges[-1].receive()
    told = rig.data("proxy.rejected")
    assert [event["request_id"] for event in told[:100]] == list(range(100))
    assert (told[100]["count"], told[100]["connection"]) == (250, 1)
    assert (told[101]["method"], len(told)) == ("prompts/list", 102)


def test_what_was_only_counted_is_told_when_the_run_ends(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    for number in range(150):
        bridge.send(id=number, method="x")
        bridge.receive()
    assert rig.data("proxy.rejected")[-1]["count"] == 50


def test_refusals_of_endless_kinds_end_in_a_limit_that_is_told(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    for start in range(0, 12_000, 1000):
        methods = range(start, start + 1000)
        bridge.raw(b"".join(b'{"jsonrpc":"2.0","id":1,"method":"m/%d"}\n' % n for n in methods))
        for _ in methods:
            bridge.receive()
    assert len(rig.data("proxy.rejected")) == 10_000
    assert [(event["reason"], event["connection"]) for event in rig.data("limited")] == [
        ("too_many_refusals", 0)
    ]


def test_requests_in_flight_are_bounded(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    for number in range(257):
        bridge.call(number, "slow", {"seconds": 1}, f"tc_{number}")
    assert bridge.receive()["error"]["message"].endswith("too_many_in_flight")
    assert sorted(bridge.receive()["id"] for _ in range(256)) == list(range(256))
