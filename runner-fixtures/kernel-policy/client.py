"""A minimal MCP client: one session, one tool call with an explicit id, and a check of its answer."""

import json
import os
import subprocess
import sys
from typing import Any

TARGET = "/workspace/policy-input.txt"
EXPECTED = "assay runner policy fixture input\n"
TOOL_CALL_ID = "tc_runner_policy_001"
ID_KEY = "dev.assay.runner/tool_call_id"


class Session:
    """JSON-RPC over the standard streams of the command that stands for the MCP server."""

    def __init__(self, command: list[str]) -> None:
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.last_id = 0

    def send(self, message: dict[str, Any]) -> None:
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.server.stdin.flush()

    def request(self, method: str, params: dict[str, Any]) -> Any:
        assert self.server.stdout is not None
        self.last_id += 1
        self.send({"id": self.last_id, "method": method, "params": params})
        for line in self.server.stdout:
            answer = json.loads(line)
            if answer.get("id") == self.last_id:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
        raise SystemExit(f"{method}: the server ended without an answer")

    def close(self) -> int:
        assert self.server.stdin is not None
        self.server.stdin.close()
        return self.server.wait(timeout=10)


def main() -> int:
    session = Session(json.loads(os.environ["ASSAY_RUNNER_MCP_COMMAND"]))
    client = {"name": "kernel-policy-fixture", "version": "1.0.0"}
    session.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
    session.send({"method": "notifications/initialized"})
    # The id travels beside the arguments, where the tool does not see it and the proxy does.
    result = session.request(
        "tools/call",
        {"name": "read_file", "arguments": {"path": TARGET}, "_meta": {ID_KEY: TOOL_CALL_ID}},
    )
    text = "".join(part["text"] for part in result["content"])
    if result.get("isError") or text != EXPECTED:
        raise SystemExit(f"read_file did not give the expected text: {text!r}")
    return session.close()


if __name__ == "__main__":
    sys.exit(main())
