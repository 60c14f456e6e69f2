"""MCP messages as lines: what may be judged at all, and the proxy's own answers.

Stdlib only, shipped beside the proxy. JSON-RPC 2.0 and MCP's stdio transport (one message a
line), revisions up to 2025-11-25 and 2026-07-28. Whatever two parsers could read differently is
refused, because the server must see the message that was judged.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from harness.policy.lines import Overlong, id_of
from harness.policy.paths import folded, is_blank, is_unicode

PASSED = frozenset({"initialize", "server/discover", "ping", "tools/list"})
# Passed where the policy has rules about such things.
LISTS = {
    "resources/list": "resources",
    "resources/templates/list": "resources",
    "prompts/list": "prompts",
}
# Judged there: method -> what it asks for, and the key that names it.
ASKS = {
    "resources/read": ("resources", "uri"),
    "resources/subscribe": ("resources", "uri"),
    "resources/unsubscribe": ("resources", "uri"),
    "prompts/get": ("prompts", "name"),
}
COMPLETE = "completion/complete"  # names a prompt or a resource in `ref`
ANNOUNCES = frozenset({"initialize", "server/discover"})  # their results hold `capabilities`
PROTOCOL_KEY = "io.modelcontextprotocol/protocolVersion"  # on every request since 2026-07-28

PARSE_ERROR, INVALID_REQUEST, NOT_PERMITTED, INVALID_PARAMS = -32700, -32600, -32601, -32602

_MEMBERS = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_WITH_ARGUMENTS = frozenset({"tools/call", "prompts/get"})
_CALL_PARAMS = frozenset({"name", "arguments", "_meta"})
_MAX_NAME = 256
_MAX_URI = 4096
_MAX_INTEGER_ID = 2**53 - 1  # beyond it JavaScript servers answer with another id

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

RequestId = str | int


class Refused(Exception):  # noqa: N818
    """A line that is not forwarded: `reason` for the host, `code` and `request_id` for the client.

    `request_id`: the id that was sent, also where it is none that could be taken.
    """

    def __init__(self, reason: str, code: int, request_id: object = None, method: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.request_id = request_id
        self.method = method


class Call(NamedTuple):
    """The parts of a tools/call that are judged."""

    tool: str
    arguments: dict[str, Any]
    meta: dict[str, Any]
    args_sha256: str  # of the arguments as sorted, compact, ASCII JSON


class Ask(NamedTuple):
    """The parts of a request for a resource or a prompt that are judged."""

    kind: str  # "resources" or "prompts"
    name: str  # URI of a resource, name of a prompt


class Message(NamedTuple):
    """A client message that may be judged; `line` is its canonical form, with the newline."""

    kind: str  # "request", "call", "ask", "notification" or "response"
    id: RequestId | None
    method: str
    line: bytes
    call: Call | None = None
    ask: Ask | None = None


class Skimmed(NamedTuple):
    """As much of a server's line as the evidence needs."""

    kind: str  # "request" or "response"
    id: RequestId
    is_error: bool


def encode(message: dict[str, Any]) -> bytes:
    """One line. ASCII, so that no reader can find another newline or character in it."""
    return _ENCODER.encode(message).encode("ascii") + b"\n"


def read_message(line: bytes | Overlong, served: frozenset[str] = frozenset()) -> Message:
    """Parse and check one line of the client; Refused for everything that is not plain MCP.

    `served`: of "resources" and "prompts", what the policy has rules about.
    """
    if isinstance(line, Overlong):
        raise Refused("line_too_long", PARSE_ERROR, line.request_id)
    _REPEATED.clear()
    try:
        body = _DECODER.decode(line.decode("utf-8"))
        if _REPEATED:
            raise Refused("duplicate_key", PARSE_ERROR, id_of(line))
        return _check(body, served)
    except UnicodeDecodeError:
        reason = "bad_utf8"
    except RecursionError:
        reason = "too_deep"
    except ValueError:  # also numbers that are no JSON number when written again
        reason = "bad_json"
    raise Refused(reason, PARSE_ERROR, id_of(line))


def skim(line: bytes) -> Skimmed | None:
    """What a server's line is; None for notifications and for what is no message."""
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    request_id = body.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int):
        return None
    if "method" in body:
        return Skimmed("request", request_id, is_error=False)
    result = body.get("result")
    is_error = "error" in body or (isinstance(result, dict) and result.get("isError") is True)
    return Skimmed("response", request_id, is_error)


def announced(line: bytes, served: frozenset[str]) -> bytes:
    """The result of `initialize` or `server/discover` with those capabilities alone that are served.

    What would be refused must not be announced: strict clients take the server for broken then.
    """
    kept = {"tools", *served, *(("completions",) if served else ())}
    body = json.loads(line)
    capabilities = (
        body.get("result", {}).get("capabilities") if isinstance(body.get("result"), dict) else None
    )
    if not isinstance(capabilities, dict) or kept.issuperset(capabilities):
        return line
    body["result"]["capabilities"] = {key: value for key, value in capabilities.items() if key in kept}
    return encode(body).rstrip(b"\n")


def error(code: int, text: str, request_id: object, **data: str) -> bytes:
    """A JSON-RPC error response; an id that no response can have becomes null."""
    found: dict[str, Any] = {"code": code, "message": text}
    if data:
        found["data"] = {f"dev.assay.runner/{key}": value for key, value in data.items()}
    known = isinstance(request_id, str | int | float) and not isinstance(request_id, bool)
    if isinstance(request_id, float) and request_id - request_id != 0:  # not finite
        known = False
    return encode({"jsonrpc": "2.0", "id": request_id if known else None, "error": found})


def denial(message: Message, rule: str, text: str) -> bytes:
    """The answer to a denied call: a result that the model can read, not a protocol error."""
    result: dict[str, Any] = {
        "content": [{"type": "text", "text": text}],
        "isError": True,
        "_meta": {"dev.assay.runner/decision": "deny", "dev.assay.runner/rule": rule},
    }
    if message.call is not None and PROTOCOL_KEY in message.call.meta:
        result["resultType"] = "complete"
    return encode({"jsonrpc": "2.0", "id": message.id, "result": result})


def is_request_id(value: object) -> bool:
    """What MCP allows, within bounds; blank names are nobody's."""
    if isinstance(value, str):
        return len(value) <= _MAX_NAME and is_unicode(value) and not is_blank(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_INTEGER_ID


_REPEATED: list[str] = []  # keys that stand twice in an object of the line that is being read


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _REPEATED.append(pairs[0][0])  # decoders differ in which one they take
    return found


def _constant(text: str) -> NoReturn:
    raise ValueError(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


def _check(body: Any, served: frozenset[str]) -> Message:
    if not isinstance(body, dict):
        raise Refused("batch" if isinstance(body, list) else "not_an_object", INVALID_REQUEST)
    _drop_nulls(body)
    if "method" not in body and ("result" in body or "error" in body):
        return _response(body)
    request_id = body.get("id")
    method = _method(body, request_id)
    params = body.get("params", {})
    if not isinstance(params, dict):
        raise Refused("bad_params", INVALID_PARAMS, request_id, method)
    if method.startswith("notifications/") and "id" not in body:
        return Message("notification", None, method, encode(body))
    if request_id is not None:
        if method == "tools/call":
            return Message("call", request_id, method, encode(body), call=_call(params, request_id))
        if method in PASSED or LISTS.get(method) in served:
            return Message("request", request_id, method, encode(body))
        if (method in ASKS or method == COMPLETE) and served:
            ask = _ask(method, params, request_id)
            if ask.kind in served:
                return Message("ask", request_id, method, encode(body), ask=ask)
    raise Refused("method_not_permitted", NOT_PERMITTED, request_id, method)


def _response(body: dict[str, Any]) -> Message:
    """The id is one that the server chose: an error with it would be read as that of a request."""
    request_id = body.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int):
        raise Refused("bad_id", INVALID_REQUEST)
    sound = body.get("jsonrpc") == "2.0" and _MEMBERS.issuperset(body) and "params" not in body
    if not sound or ("result" in body) == ("error" in body):
        raise Refused("bad_envelope", INVALID_REQUEST)
    return Message("response", request_id, "", encode(body))


def _method(body: dict[str, Any], request_id: object) -> str:
    """Of an envelope that is as it should be."""
    method = body.get("method")
    named = method if isinstance(method, str) else None
    if "id" in body and not is_request_id(request_id):
        reason = "blank_id" if isinstance(request_id, str) and is_blank(request_id) else "bad_id"
        raise Refused(reason, INVALID_REQUEST, request_id, named)
    sound = body.get("jsonrpc") == "2.0" and _MEMBERS.issuperset(body)
    if not sound or named is None or "result" in body or "error" in body:
        raise Refused("bad_envelope", INVALID_REQUEST, request_id, named)
    if is_blank(named):
        raise Refused("blank_method", INVALID_REQUEST, request_id, named)
    return named


def _drop_nulls(body: dict[str, Any]) -> None:
    """Take for absent what some serialisers write for it; the server gets what was judged."""
    method = body.get("method")
    absent: list[str] = [key for key in ("method", "params") if key in body and body[key] is None]
    if isinstance(method, str):
        absent += [key for key in ("result", "error") if key in body and body[key] is None]
        if method.startswith("notifications/") and "id" in body and body["id"] is None:
            absent.append("id")
    elif "result" in body and "error" in body:
        absent += [key for key in ("result", "error") if body[key] is None][-1:]
    for key in absent:
        del body[key]
    params = body.get("params")
    if isinstance(params, dict):
        arguments = isinstance(method, str) and method in _WITH_ARGUMENTS
        for key in ("_meta", "arguments") if arguments else ("_meta",):
            if key in params and params[key] is None:
                del params[key]


def _call(params: dict[str, Any], request_id: RequestId) -> Call:
    arguments, meta = params.get("arguments", {}), params.get("_meta", {})
    tool = _name(params, "name", _MAX_NAME, request_id, "tools/call")
    _no_twins(params, _CALL_PARAMS, request_id, "tools/call")
    if not (isinstance(arguments, dict) and isinstance(meta, dict)):
        raise Refused("bad_params", INVALID_PARAMS, request_id, "tools/call")
    canonical = json.dumps(arguments, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return Call(tool, arguments, meta, hashlib.sha256(canonical.encode("ascii")).hexdigest())


def _ask(method: str, params: dict[str, Any], request_id: RequestId) -> Ask:
    if method != COMPLETE:
        kind, key = ASKS[method]
    else:
        _no_twins(params, {"ref"}, request_id, method)
        ref: object = params.get("ref")
        params = ref if isinstance(ref, dict) else {}
        if params.get("type") not in ("ref/prompt", "ref/resource"):
            raise Refused("bad_params", INVALID_PARAMS, request_id, method)
        kind, key = ("prompts", "name") if params["type"] == "ref/prompt" else ("resources", "uri")
        _no_twins(params, {"type"}, request_id, method)
    _no_twins(params, {key}, request_id, method)
    return Ask(kind, _name(params, key, _MAX_URI, request_id, method))


def _name(params: Mapping[str, Any], key: str, most: int, request_id: RequestId, method: str) -> str:
    name = params.get(key)
    if not isinstance(name, str) or len(name) > most or not is_unicode(name):
        raise Refused("bad_params", INVALID_PARAMS, request_id, method)
    if is_blank(name):
        raise Refused("blank_name", INVALID_PARAMS, request_id, method)
    return name


def _no_twins(
    params: dict[str, Any], judged: frozenset[str] | set[str], request_id: RequestId, method: str
) -> None:
    """ "Arguments" beside "arguments", or alone, would reach a server that ignores case."""
    if any(key not in judged and folded(key) in judged for key in params):
        raise Refused("bad_params", INVALID_PARAMS, request_id, method)
