"""MCP messages as lines: what may be judged at all, and the proxy's own answers.

Stdlib only, shipped beside the proxy. JSON-RPC 2.0 and MCP's stdio transport (one message a
line), revisions up to 2025-11-25 and 2026-07-28. Whatever two parsers could read differently is
refused, because the server must see the message that was judged.
"""

import hashlib
import json
from typing import Any, NamedTuple, NoReturn

PASSED = frozenset({"initialize", "server/discover", "ping", "tools/list"})
PROTOCOL_KEY = "io.modelcontextprotocol/protocolVersion"  # on every request since 2026-07-28

PARSE_ERROR, INVALID_REQUEST, NOT_PERMITTED, INVALID_PARAMS = -32700, -32600, -32601, -32602

_MEMBERS = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_CALL_PARAMS = frozenset({"name", "arguments", "_meta"})
_MAX_NAME = 256
_MAX_INTEGER_ID = 2**53 - 1  # beyond it JavaScript servers answer with another id

RequestId = str | int


class Refused(Exception):  # noqa: N818
    """A line that is not forwarded: `reason` for the host, `code` and `request_id` for the client."""

    def __init__(
        self, reason: str, code: int, request_id: RequestId | None = None, method: str | None = None
    ) -> None:
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


class Message(NamedTuple):
    """A client message that may be judged; `line` is its canonical form, with the newline."""

    kind: str  # "request", "call", "notification" or "response"
    id: RequestId | None
    method: str
    call: Call | None
    line: bytes


class Skimmed(NamedTuple):
    """As much of a server's line as the evidence needs."""

    kind: str  # "request" or "response"
    id: RequestId
    is_error: bool


class LineBuffer:
    """Cuts a byte stream into lines of at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._rest = bytearray()
        self._skipping = False

    def __len__(self) -> int:
        return len(self._rest)

    def feed(self, data: bytes) -> list[bytes | None]:
        """The lines that `data` completes, without newline; None stands for one that is too long."""
        out: list[bytes | None] = []
        *complete, last = data.split(b"\n")
        for part in complete:
            self._append(part, out)
            if not self._skipping:
                out.append(bytes(self._rest))
            self._rest.clear()
            self._skipping = False
        self._append(last, out)
        return out

    def _append(self, part: bytes, out: list[bytes | None]) -> None:
        if self._skipping:
            return
        if len(self._rest) + len(part) > self.limit:
            self._rest.clear()
            self._skipping = True
            out.append(None)
        else:
            self._rest += part


def encode(message: dict[str, Any]) -> bytes:
    """One line. ASCII, so that no reader can find another newline or character in it."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def read_message(line: bytes | None) -> Message:
    """Parse and check one line of the client; Refused for everything that is not plain MCP."""
    if line is None:
        raise Refused("line_too_long", PARSE_ERROR)
    try:
        body = _DECODER.decode(line.decode("utf-8"))
        return _check(body)
    except UnicodeDecodeError:
        raise Refused("bad_utf8", PARSE_ERROR) from None
    except RecursionError:
        raise Refused("too_deep", PARSE_ERROR) from None
    except ValueError:  # also numbers that are no JSON number when written again
        raise Refused("bad_json", PARSE_ERROR) from None


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


def error(code: int, text: str, request_id: RequestId | None) -> bytes:
    """A JSON-RPC error response."""
    return encode({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": text}})


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


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key.casefold() for key, _ in pairs}) != len(pairs):
        # Decoders differ in which one they take, and some ignore case.
        raise Refused("duplicate_key", PARSE_ERROR)
    return dict(pairs)


def _constant(text: str) -> NoReturn:
    raise ValueError(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


def _check(body: Any) -> Message:
    if not isinstance(body, dict):
        raise Refused("batch" if isinstance(body, list) else "not_an_object", INVALID_REQUEST)
    method, has_id, request_id = body.get("method"), "id" in body, body.get("id")
    if has_id and not _is_id(request_id):
        raise Refused("bad_id", INVALID_REQUEST)
    if body.get("jsonrpc") != "2.0" or not _MEMBERS.issuperset(body):
        raise Refused("bad_envelope", INVALID_REQUEST)
    if "method" not in body:
        if not has_id or ("result" in body) == ("error" in body) or "params" in body:
            raise Refused("bad_envelope", INVALID_REQUEST)
        return Message("response", request_id, "", None, encode(body))
    if not isinstance(method, str) or "result" in body or "error" in body:
        raise Refused("bad_envelope", INVALID_REQUEST)
    params = body.get("params", {})
    if not isinstance(params, dict):
        raise Refused("bad_params", INVALID_PARAMS, request_id, method)
    if method.startswith("notifications/") and not has_id:
        return Message("notification", None, method, None, encode(body))
    if method == "tools/call" and request_id is not None:
        return Message("call", request_id, method, _call(params, request_id), encode(body))
    if method in PASSED and request_id is not None:
        return Message("request", request_id, method, None, encode(body))
    raise Refused("method_not_permitted", NOT_PERMITTED, request_id, method)


def _call(params: dict[str, Any], request_id: RequestId) -> Call:
    tool, arguments, meta = params.get("name"), params.get("arguments", {}), params.get("_meta", {})
    # "Arguments" beside a missing "arguments" would reach a server that ignores case.
    twins = [key for key in params if key.casefold() in _CALL_PARAMS and key not in _CALL_PARAMS]
    if not isinstance(tool, str) or not 0 < len(tool) <= _MAX_NAME:
        raise Refused("bad_params", INVALID_PARAMS, request_id, "tools/call")
    if twins or not isinstance(arguments, dict) or not isinstance(meta, dict):
        raise Refused("bad_params", INVALID_PARAMS, request_id, "tools/call")
    canonical = json.dumps(arguments, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return Call(tool, arguments, meta, hashlib.sha256(canonical.encode("ascii")).hexdigest())


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_NAME
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_INTEGER_ID
