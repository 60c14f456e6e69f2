"""A small MCP server over standard streams: one tool, read_file, that stays below its root folder.

usage: file_server.py ROOT
"""

import json
import os
import sys
from typing import Any

PROTOCOLS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")  # newest first
MAX_BYTES = 1 << 20
TOOL = {
    "name": "read_file",
    "description": "Read a text file below the root folder.",
    "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    "annotations": {"readOnlyHint": True},  # some clients run only such tools in parallel
}


class RpcError(Exception):
    """A JSON-RPC 2.0 error: code and message as the specification has them (section 5.1)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def read_file(root: str, path: str) -> str:
    """The text of `path`; OSError or ValueError when it may not or cannot be read."""
    place = os.path.realpath(f"{root}/{path}" if not path.startswith("/") else path)  # links resolved
    if os.path.commonpath([root, place]) != root:
        raise ValueError("outside of the root folder")
    # What was judged is what is opened, and a pipe in its place cannot make the server wait.
    with os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    return data.decode()


def call(root: str, params: dict[str, Any]) -> dict[str, Any]:
    arguments = params.get("arguments")
    if params.get("name") != TOOL["name"]:
        raise RpcError(-32602, "Unknown tool")
    if not isinstance(arguments, dict) or not isinstance(arguments.get("path"), str):
        raise RpcError(-32602, "Invalid params: path must be a string")
    try:
        text, failed = read_file(root, arguments["path"]), False
    except (OSError, ValueError) as error:  # MCP: a tool's own failure is a result, which the model sees
        text, failed = f"read_file failed: {error}", True
    return {"content": [{"type": "text", "text": text}], "isError": failed}


def answer(root: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    if method == "initialize":
        asked = params.get("protocolVersion")
        return {
            "protocolVersion": asked if asked in PROTOCOLS else PROTOCOLS[0],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "file-server", "version": "1.0.0"},
        }
    if method == "tools/call":
        return call(root, params)
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "ping":
        return {}
    raise RpcError(-32601, "Method not found")


def respond(root: str, line: bytes) -> dict[str, Any] | None:
    """The response to one line; None for a notification."""
    request_id = None
    try:
        try:
            message = json.loads(line)
        except ValueError:
            raise RpcError(-32700, "Parse error") from None
        if not isinstance(message, dict) or not isinstance(message.get("method"), str):
            raise RpcError(-32600, "Invalid Request")
        if "id" not in message:
            return None
        request_id = message["id"]
        params = message.get("params", {})
        if not isinstance(params, dict):
            raise RpcError(-32602, "Invalid params")
        return {"jsonrpc": "2.0", "id": request_id, "result": answer(root, message["method"], params)}
    except RpcError as error:
        return {"jsonrpc": "2.0", "id": request_id, "error": {"code": error.code, "message": str(error)}}


def main(root: str) -> None:
    for line in sys.stdin.buffer:
        response = respond(root, line)
        if response is not None:
            sys.stdout.buffer.write(json.dumps(response).encode() + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(os.path.realpath(sys.argv[1]))
