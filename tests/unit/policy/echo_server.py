"""A small real MCP server on stdio: both protocol eras, a few tools that behave well or badly.

    echo_server.py LOG [--stubborn]

Appends one JSON line to LOG for its start, every line it receives (raw, with CLOCK_MONOTONIC) and
the end of its stdin. --stubborn: stays after the end of its stdin and ignores SIGTERM.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

LOG = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
LOCK = threading.Lock()
ASKED = threading.Event()
CAPABILITIES: dict[str, object] = {
    name: {} for name in ("tools", "resources", "prompts", "completions", "logging", "experimental", "x")
}


def note(what: str, line: str = "") -> None:
    entry = {"what": what, "pid": os.getpid(), "time_ns": time.monotonic_ns(), "line": line}
    os.write(LOG, json.dumps(entry).encode() + b"\n")


def send(message: dict[str, Any]) -> None:
    with LOCK:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def call(request_id: object, params: dict[str, Any]) -> None:
    tool, arguments = params["name"], params.get("arguments", {})
    result: dict[str, Any] = {
        "content": [{"type": "text", "text": json.dumps(arguments)}],
        "resultType": "complete",
    }
    if tool == "big":
        result["content"][0]["text"] = "x" * arguments["size"]
    elif tool == "slow":
        time.sleep(arguments["seconds"])
    elif tool == "meet":  # nobody is answered before so many are there, in all servers with this log
        while Path(sys.argv[1]).read_text().count("meet") < arguments["count"]:
            time.sleep(0.01)
    elif tool == "fail":
        result["isError"] = True
    elif tool == "crash":
        os._exit(3)
    elif tool == "error":
        send({"id": request_id, "error": {"code": -32000, "message": "no"}})
        return
    elif tool == "child":
        if os.fork() == 0:
            time.sleep(60)
        os._exit(0)
    elif tool == "ask":
        send({"id": 77, "method": "roots/list"})
        ASKED.wait(60)
    send({"id": request_id, "result": result})


def main() -> None:
    note("start")
    if "--stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        note("line", line)
        message = json.loads(line)
        method, request_id, params = message.get("method"), message.get("id"), message.get("params", {})
        if method == "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": CAPABILITIES, "note": "caf\u00e9"}
            send({"id": request_id, "result": result})
        elif method == "server/discover":
            result = {"supportedVersions": ["2026-07-28"], "capabilities": CAPABILITIES}
            send({"id": request_id, "result": {**result, "resultType": "complete"}})
        elif method in ("resources/read", "prompts/get", "completion/complete", "resources/list"):
            send({"id": request_id, "result": {"asked": params}})
        elif method == "tools/list":
            send({"id": request_id, "result": {"tools": [{"name": "echo", "description": "déjà vu"}]}})
        elif method == "ping":
            send({"id": request_id, "result": {}})
        elif method == "tools/call" and params["name"] == "deaf":
            os.close(0)
            time.sleep(60)
        elif method == "tools/call":
            threading.Thread(target=call, args=(request_id, params)).start()
        elif request_id == 77:
            ASKED.set()
    note("end")
    while "--stubborn" in sys.argv:
        time.sleep(1)


main()
