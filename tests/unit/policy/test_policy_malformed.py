"""Whatever a client writes: it is judged or refused, never passed on unread, and the proxy lives."""

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.unit.policy.conftest import Rig

KEY = "dev.assay.runner/tool_call_id"
META = f'"_meta":{{"{KEY}":"tc"}}'.encode()
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{},' + META + b"}}"


def changed(old: bytes, new: bytes) -> bytes:
    assert old in CALL
    return CALL.replace(old, new)


ZOO: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"hello", "bad_json"),
    "empty line": (b"", "bad_json"),
    "cut": (CALL[:-1], "bad_json"),
    "two values": (CALL + CALL, "bad_json"),
    "BOM": (b"\xef\xbb\xbf" + CALL, "bad_json"),
    "UTF-16": (CALL.decode().encode("utf-16-le").replace(b"\n", b""), "bad_json"),
    "invalid UTF-8": (changed(b'"echo"', b'"ec\xffho"'), "bad_utf8"),
    "NaN": (changed(b'"arguments":{}', b'"arguments":{"n":NaN}'), "bad_json"),
    "infinite number": (changed(b'"arguments":{}', b'"arguments":{"n":1e999}'), "bad_json"),
    "endless integer": (changed(b'"arguments":{}', b'"arguments":{"n":' + b"9" * 5000 + b"}"), "bad_json"),
    "raw control character": (changed(b'"echo"', b'"ec\tho"'), "bad_json"),
    "too deep": (
        changed(b'"arguments":{}', b'"arguments":{"n":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
        "too_deep",
    ),
    "batch": (b"[" + CALL + b"]", "batch"),
    "string": (b'"tools/call"', "not_an_object"),
    "duplicate method": (changed(b'"id":1', b'"id":1,"method":"ping"'), "duplicate_key"),
    "duplicate key in the arguments": (
        changed(b'"arguments":{}', b'"arguments":{"path":"a","path":"b"}'),
        "duplicate_key",
    ),
    "duplicate key deep in the arguments": (
        changed(b'"arguments":{}', b'"arguments":{"a":[{"b":{"c":1,"\\u0063":2}}]}'),
        "duplicate_key",
    ),
    "duplicate id": (changed(b'"id":1', b'"id":1,"i\\u0064":2'), "duplicate_key"),
    "key that differs in case": (changed(b'"id":1', b'"id":1,"Method":"ping"'), "bad_envelope"),
    "argument that differs in case": (
        changed(b'"arguments":{}', b'"arguments":{"path":"a","Path":"b"}'),
        "ambiguous_key",
    ),
    "argument that differs in its Unicode case": (
        changed(b'"arguments":{}', '"arguments":{"files":[],"file\u017f":[]}'.encode()),
        "ambiguous_key",
    ),
    "id key that differs in case": (
        changed(META, META[:-1] + b',"dev.assay.runner/TOOL_CALL_ID":"x"}'),
        "ambiguous_key",
    ),
    "inner id key that differs in case": (
        changed(b'"arguments":{}', b'"arguments":{"_meta":{"tool_call_id":"a","Tool_call_id":"b"}}'),
        "ambiguous_key",
    ),
    "inner meta that differs in case": (
        changed(b'"arguments":{}', b'"arguments":{"_meta":{},"_Meta":{}}'),
        "ambiguous_key",
    ),
    "unknown member": (changed(b'"id":1', b'"id":1,"x":1'), "bad_envelope"),
    "member in other case": (b'{"jsonrpc":"2.0","id":1,"method":"ping","Params":{}}', "bad_envelope"),
    "no version": (changed(b'"jsonrpc":"2.0",', b""), "bad_envelope"),
    "other version": (changed(b"2.0", b"1.0"), "bad_envelope"),
    "request and response": (changed(b'"id":1', b'"id":1,"result":{}'), "bad_envelope"),
    "result and error": (b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', "bad_envelope"),
    "neither": (b'{"jsonrpc":"2.0","id":1}', "bad_envelope"),
    "method no string": (changed(b'"tools/call"', b'["tools/call"]'), "bad_envelope"),
    "null id": (changed(b'"id":1', b'"id":null'), "bad_id"),
    "boolean id": (changed(b'"id":1', b'"id":true'), "bad_id"),
    "fraction as id": (changed(b'"id":1', b'"id":1.0'), "bad_id"),
    "id beyond JavaScript": (changed(b'"id":1', b'"id":9007199254740993'), "bad_id"),
    "object as id": (changed(b'"id":1', b'"id":{}'), "bad_id"),
    "long id": (changed(b'"id":1', b'"id":"' + b"x" * 300 + b'"'), "bad_id"),
    "call as notification": (changed(b'"id":1,', b""), "method_not_permitted"),
    "notification with id": (b'{"jsonrpc":"2.0","id":1,"method":"notifications/x"}', "method_not_permitted"),
    "other method": (
        b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{}}',
        "method_not_permitted",
    ),
    "method in other case": (changed(b"tools/call", b"Tools/Call"), "method_not_permitted"),
    "method with a space": (changed(b"tools/call", b"tools/call "), "method_not_permitted"),
    "params no object": (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["echo"]}', "bad_params"),
    "no params": (b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}', "bad_params"),
    "arguments an array": (changed(b'"arguments":{}', b'"arguments":[]'), "bad_params"),
    "Arguments": (changed(b'"arguments":{}', b'"Arguments":{"path":"/etc/passwd"}'), "bad_params"),
    "meta no object": (changed(META, b'"_meta":[]'), "bad_params"),
    "no tool": (changed(b'"name":"echo",', b""), "bad_params"),
    "tool no string": (changed(b'"echo"', b"7"), "bad_params"),
    "empty tool": (changed(b'"echo"', b'""'), "blank_name"),
    "blank tool": (changed(b'"echo"', '" \u3000\u200b"'.encode()), "blank_name"),
    "half a character as tool": (changed(b'"echo"', b'"\\ud800"'), "bad_params"),
    "half a character as tool call id": (changed(b'"tc"', b'"\\ud800"'), "bad_tool_call_id"),
    "blank method": (changed(b'"tools/call"', b'"  "'), "blank_method"),
    "empty method": (changed(b'"tools/call"', b'""'), "blank_method"),
    "blank id": (changed(b'"id":1', b'"id":" "'), "blank_id"),
    "empty id": (changed(b'"id":1', b'"id":""'), "blank_id"),
    "half a character as id": (changed(b'"id":1', b'"id":"\\ud800"'), "bad_id"),
    "long tool": (changed(b'"echo"', b'"' + b"x" * 300 + b'"'), "bad_params"),
    "too long": (
        changed(b'"arguments":{}', b'"arguments":{"a":"' + b"x" * (1 << 20) + b'"}'),
        "line_too_long",
    ),
    "too long, with its id at the end": (
        b'{"method":"ping","params":{"\\"id\\"":"' + b"x" * (1 << 20) + b'"},"id":"last"}',
        "line_too_long",
    ),
    "too long to be recorded": (
        changed(
            b'"arguments":{}',
            b'"arguments":{"path":[' + b",".join(b'"\xc3\xa9%d"' % n for n in range(80_000)) + b"]}",
        ),
        "decision_too_long",
    ),
    "answer nobody asked for": (b'{"jsonrpc":"2.0","id":1,"result":{}}', "unexpected_response"),
}
# Of the others, the error carries the 1 that was sent.
IDS: dict[str, object] = {
    **dict.fromkeys(
        ("no JSON", "empty line", "two values", "UTF-16", "batch", "string", "duplicate id"), None
    ),
    **dict.fromkeys(
        ("result and error", "answer nobody asked for"), None
    ),  # answers, whose ids are the server's
    **dict.fromkeys(("null id", "boolean id", "object as id", "call as notification"), None),
    "fraction as id": 1.0,
    "id beyond JavaScript": 9007199254740993,
    "long id": "x" * 300,
    "blank id": " ",
    "empty id": "",
    "half a character as id": "\ud800",
    "too long, with its id at the end": "last",
}


@pytest.fixture(scope="module")
def shared(make_rig: Callable[[], "Rig"]) -> "Rig":
    return make_rig().start()


@pytest.mark.parametrize("name", ZOO)
def test_a_malformed_line_is_answered_with_an_error_and_nothing_is_forwarded(
    shared: "Rig", name: str
) -> None:
    raw, reason = ZOO[name]
    bridge = shared.bridge()
    bridge.raw(raw + b"\n")
    answer = bridge.receive()
    assert answer["error"]["message"].endswith(reason)
    assert -32700 <= answer["error"]["code"] <= -32600
    assert answer["id"] == IDS.get(name, 1)
    bridge.send(id="after", method="ping")  # the connection goes on, and a server never saw the line
    assert bridge.receive() == {"jsonrpc": "2.0", "id": "after", "result": {}}
    assert shared.forwarded()[-1] == {"jsonrpc": "2.0", "id": "after", "method": "ping"}
    assert bridge.close() == 0


def test_the_zoo_left_no_trace_but_its_refusals(make_rig: Callable[[], "Rig"]) -> None:
    rig = make_rig().start()
    bridge = rig.bridge()
    for raw, _ in ZOO.values():
        bridge.raw(raw + b"\n")
        bridge.receive()
    assert [event["reason"] for event in rig.data("proxy.rejected")] == [reason for _, reason in ZOO.values()]
    assert not rig.data("tool.decision")
    assert rig.received() == []  # no server was even started


def test_a_line_without_its_end_is_not_forwarded(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    bridge.raw(CALL)
    bridge.stdin.close()
    assert bridge.receive()["error"]["message"].endswith("incomplete_line")
    assert bridge.line() == b""
    assert rig.received() == []
    assert [event["reason"] for event in rig.data("proxy.rejected")] == ["incomplete_line"]


def test_lines_may_come_in_pieces_and_in_one_piece(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    for byte in CALL + b"\n":
        bridge.raw(bytes([byte]))
        time.sleep(0.0005)
    assert bridge.receive()["id"] == 1
    bridge.raw(b"\n".join(CALL.replace(b'"id":1', b'"id":%d' % n) for n in range(2, 12)) + b"\n")
    assert sorted(bridge.receive()["id"] for _ in range(10)) == list(range(2, 12))


# --- random lines -----------------------------------------------------------------------------

ODD: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["tools/call", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def mostly(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 19).flatmap(lambda dice: ODD if dice == 7 else value)


ARGUMENT = st.sampled_from(["a", "../x", "/workspace/secret/k", "/etc/passwd", "//etc", "~", "\0"]) | ODD
PARAMS = st.fixed_dictionaries(
    {
        "name": mostly(st.sampled_from(["echo", "read_file", "write_file", "fail"])),
        "arguments": mostly(
            st.dictionaries(st.sampled_from(["path", "paths", "n", "_meta"]), ARGUMENT, max_size=3)
        ),
        "_meta": mostly(
            st.just({KEY: "tc"}) | st.dictionaries(st.sampled_from([KEY, "claudecode/toolUseId"]), ODD)
        ),
    },
)
MESSAGE = st.fixed_dictionaries(
    {
        "jsonrpc": mostly(st.just("2.0")),
        "id": mostly(st.integers(0, 99) | st.text(max_size=3)),
        "method": mostly(
            st.sampled_from(["tools/call", "tools/call", "tools/call", "ping", "notifications/x"])
        ),
        "params": mostly(PARAMS),
    },
)


GOOD = st.integers(100, 10_000).map(
    lambda number: {
        "jsonrpc": "2.0",
        "id": number,
        "method": "tools/call",
        "params": {"name": "echo", "arguments": {"n": number}, "_meta": {KEY: f"tc_{number}"}},
    }
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A message, or nearly one: sometimes with a byte range replaced by others."""
    value = draw(mostly(MESSAGE | GOOD))
    for place in ("top", "params"):  # now and then a key that is lost, or one too many
        target = value.get("params") if isinstance(value, dict) and place == "params" else value
        if isinstance(target, dict) and target and draw(st.integers(0, 7)) == 7:
            target.pop(draw(st.sampled_from(sorted(target))))
            target[draw(st.sampled_from(["Method", "Name", "x", "result"]))] = draw(ODD)
    line = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 7)) == 7:
        start = draw(st.integers(0, len(line)))
        line = line[:start] + draw(st.binary(max_size=4)) + line[start + draw(st.integers(0, 4)) :]
    return line


def is_call(raw: str) -> bool:
    """Read as generously as any server might."""
    return "tools/call" in raw.replace("\\u002f", "/").replace("\\/", "/").casefold()


def test_random_lines_neither_kill_the_proxy_nor_get_a_call_past_the_judge(rig: "Rig") -> None:
    bridge = rig.start().bridge()
    batches = 0

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(batch=st.lists(lines(), min_size=3, max_size=12))
    def send(batch: list[bytes]) -> None:
        nonlocal batches
        batches += 1
        bridge.raw(b"\n".join(batch) + b"\n")
        bridge.send(id=f"barrier-{batches}", method="ping")
        while bridge.receive()["id"] != f"barrier-{batches}":
            pass

    send()
    # Every call that the server saw has its own allow, in the same order.
    allowed = [
        (event["request_id"], event["tool"], event["tool_call_id"])
        for event in rig.data("tool.decision")
        if event["decision"] == "allow"
    ]
    calls = []
    for entry in rig.received():
        if is_call(entry["line"]) and entry["message"]["method"] not in ("ping", "notifications/x"):
            params = entry["message"]["params"]
            meta, arguments = params.get("_meta", {}), params.get("arguments", {})
            keys = [meta[key] for key in (KEY, "claudecode/toolUseId") if key in meta]
            tool_call_id = keys[0] if keys else arguments["_meta"]["tool_call_id"]
            calls.append((entry["message"]["id"], params["name"], tool_call_id))
    assert calls == allowed
    decisions = [event["decision"] for event in rig.data("tool.decision")]
    assert decisions.count("allow") > 20  # the lines were worth something
    assert decisions.count("deny") > 20
    assert len({event["reason"] for event in rig.data("proxy.rejected")}) > 5
