"""A whole agent in the standard library: a model stub, MCP tools through the bridge, SDK events.

Put the SDK that is to be measured in the place of Model and run(); keep what Tools and Events tell the
witnesses: each tool call under its id, and each event at the moment when it happens.
"""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

WORKSPACE = Path("/workspace")
SDK = {"source": "@NAME@-fixture", "sdk_name": "@NAME@", "sdk_version": "1.0.0"}
ID_KEY = "dev.assay.runner/tool_call_id"
MAX_TURNS = 4

Message = dict[str, Any]


class Model:
    """Stands for a model, offline: asks for the file that the task names, then says what it got."""

    def reply(self, messages: list[Message]) -> Message:
        last = messages[-1]
        if last["role"] == "tool":
            return {"role": "assistant", "text": last["text"]}
        found = re.search(r"/workspace/[\w.-]+", last["text"])
        if found is None:
            raise SystemExit("the task names no file")
        return {"role": "assistant", "call": {"id": "call_1", "tool": "read_file", "path": found[0]}}


class Tools:
    """MCP over the standard streams of the bridge, behind which are the policy and the server."""

    def __init__(self) -> None:
        command = json.loads(os.environ["ASSAY_RUNNER_MCP_COMMAND"])
        self.bridge = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.last_id = 0
        client = {"name": SDK["sdk_name"], "version": SDK["sdk_version"]}
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        self.request("initialize", hello)
        self.send({"method": "notifications/initialized"})

    def send(self, message: Message) -> None:
        assert self.bridge.stdin is not None
        self.bridge.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.bridge.stdin.flush()

    def request(self, method: str, params: Message) -> Message:
        assert self.bridge.stdout is not None
        self.last_id += 1
        self.send({"id": self.last_id, "method": method, "params": params})
        for line in self.bridge.stdout:
            answer: Message = json.loads(line)
            if answer.get("id") == self.last_id:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                result: Message = answer["result"]
                return result
        raise SystemExit(f"{method}: the server ended without an answer")

    def call(self, call: Message) -> str:
        # The id travels in _meta, where the policy sees it and the tool does not. Without one: denied.
        params = {"name": call["tool"], "arguments": {"path": call["path"]}, "_meta": {ID_KEY: call["id"]}}
        result = self.request("tools/call", params)
        return "".join(part["text"] for part in result["content"])

    def close(self) -> None:
        assert self.bridge.stdin is not None
        self.bridge.stdin.close()
        self.bridge.wait(timeout=10)


class Events:
    """What the agent says it does, one JSON object a line, on the host as soon as it is sent."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.environ["ASSAY_RUNNER_SDK_SOCKET"])
        self.seq = 0

    def emit(self, event_type: str, call: Message | None = None) -> None:
        event = {
            "schema": os.environ["ASSAY_RUNNER_SDK_EVENT_SCHEMA"],
            "run_id": os.environ["ASSAY_RUNNER_RUN_ID"],
            "seq": self.seq,
            "event_type": event_type,
            **SDK,
            "tool_call_id": call["id"] if call else None,
            "tool": call["tool"] if call else None,
        }
        self.socket.sendall(json.dumps(event).encode() + b"\n")
        self.seq += 1


def run(model: Model, tools: Tools, events: Events) -> str:
    """The loop: ask the model, do what it wants, until it has an answer."""
    messages: list[Message] = [{"role": "user", "text": (WORKSPACE / "task.txt").read_text("utf-8")}]
    for _ in range(MAX_TURNS):
        messages.append(model.reply(messages))
        call = messages[-1].get("call")
        if call is None:
            return str(messages[-1]["text"])
        events.emit("tool_call_started", call)
        messages.append({"role": "tool", "text": tools.call(call)})
        events.emit("tool_call_completed", call)
    raise SystemExit(f"no answer after {MAX_TURNS} turns")


def main() -> int:
    events = Events()
    try:
        tools = Tools()
        answer = run(Model(), tools, events)
        tools.close()
        (WORKSPACE / "answer.txt").write_text(answer, "utf-8")
    except BaseException:
        events.emit("run_failed")
        raise
    events.emit("run_finished")
    return 0


if __name__ == "__main__":
    sys.exit(main())
