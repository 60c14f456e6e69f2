"""A whole agent in the standard library: a model stub, MCP tools through the bridge, SDK events.

Put the SDK that is to be measured in the place of Model and run(), and its package's name and version in
SDK; keep what Tools and Events tell the witnesses: each tool call under the model's id for it, and each
event at the moment when it happens.
"""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ANSWER = Path("/workspace/answer.txt")
VERSION = ".".join(map(str, sys.version_info[:3]))  # what is installed, never a constant
SDK = {"source": "@NAME@-fixture", "sdk_name": "python", "sdk_version": VERSION}
ID_KEY = "dev.assay.runner/tool_call_id"
MAX_TURNS = 8

Message = dict[str, Any]


class Model:
    """Stands for a model, offline: a line of the task is a turn, a file that it names one call of that turn.

    `ids` is what the ids of the calls begin with; where it is empty, the model gives its calls none.
    """

    def __init__(self, task: str, ids: str) -> None:
        self.turns = [re.findall(r"/workspace/[\w./-]*\w", line) for line in task.splitlines()]
        self.ids = ids
        self.calls = 0

    def reply(self, messages: list[Message]) -> Message:
        if self.turns:
            return {"role": "assistant", "calls": [self.call(path) for path in self.turns.pop(0)]}
        results = [message["text"] for message in messages if message["role"] == "tool"]
        return {"role": "assistant", "text": "\n".join(results)}

    def call(self, path: str) -> Message:
        self.calls += 1
        return {"id": f"{self.ids}{self.calls:03}" if self.ids else None, "tool": "read_file", "path": path}


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

    def request(self, method: str, *params: Message) -> list[Message]:
        """The results of requests that are made at once, in the order of their `params`."""
        assert self.bridge.stdout is not None
        wanted = range(self.last_id + 1, self.last_id + 1 + len(params))
        self.last_id += len(params)
        for number, one in zip(wanted, params, strict=True):
            self.send({"id": number, "method": method, "params": one})
        results: dict[int, Message] = {}
        while len(results) < len(wanted):
            line = self.bridge.stdout.readline()
            if not line:
                raise SystemExit(f"{method}: the server ended without an answer")
            answer: Message = json.loads(line)
            if answer.get("id") in wanted:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                results[answer["id"]] = answer["result"]
        return [results[number] for number in wanted]

    def call(self, calls: list[Message]) -> list[str]:
        """What came of each; a call that was denied or failed says so, as an MCP server's does."""
        # The id travels in _meta, where the policy sees it and the tool does not. Without one: denied.
        params = [
            {"name": call["tool"], "arguments": {"path": call["path"]}, "_meta": {ID_KEY: call["id"]}}
            for call in calls
        ]
        results = self.request("tools/call", *params)
        return ["".join(part["text"] for part in result["content"]) for result in results]

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


def run(task: str, model: Model, tools: Tools, events: Events) -> str:
    """The loop: ask the model, do what it wants, until it has an answer."""
    messages: list[Message] = [{"role": "user", "text": task}]
    for _ in range(MAX_TURNS):
        messages.append(model.reply(messages))
        calls = messages[-1].get("calls")
        if calls is None:
            return str(messages[-1]["text"])
        for call in calls:
            events.emit("tool_call_started", call)
        messages += [{"role": "tool", "text": text} for text in tools.call(calls)]
        for call in calls:  # in the order of the starts: that of the ends may vary
            events.emit("tool_call_completed", call)
    raise SystemExit(f"no answer after {MAX_TURNS} turns")


def main() -> int:
    events = Events()
    try:
        task = Path(os.environ["ASSAY_RUNNER_TASK"]).read_text("utf-8")
        tools = Tools()
        answer = run(task, Model(task, os.environ["ASSAY_RUNNER_CALL_IDS"]), tools, events)
        tools.close()
        ANSWER.write_text(answer, "utf-8")
    except BaseException:
        events.emit("run_failed")
        raise
    events.emit("run_finished")
    return 0


if __name__ == "__main__":
    sys.exit(main())
