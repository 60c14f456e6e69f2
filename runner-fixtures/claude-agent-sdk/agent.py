"""An agent of the real Claude Agent SDK with its CLI, offline: the model is a script behind a loopback port."""

import asyncio
import json
import os
import sys
import traceback
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, HookMatcher, ResultMessage, query
from model_server import HOST, PORT, ModelServer
from script import Script, read_task
from sdk_events import SdkEvents, recorder


class Hooks:
    """The SDK's own hooks, told on."""

    def __init__(self, events: SdkEvents, script: Script) -> None:
        self.events = events
        self.script = script

    async def started(self, call: Any, _id: str | None, _context: Any) -> Any:
        # The CLI itself sends this id to the MCP server, as _meta["claudecode/toolUseId"].
        call_id = self.script.checked(call["tool_use_id"], call["tool_input"]["path"])
        self.events.tool_started(call_id, tool(call))
        return {}

    async def ended(self, call: Any, _id: str | None, _context: Any) -> Any:
        self.events.tool_ended(call["tool_use_id"])
        return {}

    @property
    def matchers(self) -> Any:
        ended = [HookMatcher(hooks=[self.ended])]
        return {
            "PreToolUse": [HookMatcher(hooks=[self.started])],
            "PostToolUse": ended,
            "PostToolUseFailure": ended,
        }


def tool(call: Any) -> str:
    """The tool's own name: the CLI puts that of the server before it."""
    return str(call["tool_name"]).removeprefix("mcp__files__")


async def work(events: SdkEvents) -> None:
    task = read_task()
    script = Script(task, os.environ["ASSAY_RUNNER_CALL_IDS"])
    command, *arguments = json.loads(os.environ["ASSAY_RUNNER_MCP_COMMAND"])
    options = ClaudeAgentOptions(
        mcp_servers={"files": {"type": "stdio", "command": command, "args": arguments}},
        strict_mcp_config=True,
        setting_sources=[],
        tools=[],  # none of the CLI's own
        allowed_tools=["mcp__files__read_file"],
        hooks=Hooks(events, script).matchers,
        max_turns=8,
        model="claude-local",
        env={"ANTHROPIC_BASE_URL": f"http://{HOST}:{PORT}", "ANTHROPIC_API_KEY": "offline"},
        extra_args={"no-session-persistence": None},
    )
    async with ModelServer(script) as server:
        async for message in query(prompt=task, options=options):
            if isinstance(message, ResultMessage):
                print(message.result)
    if server.refused:
        raise RuntimeError(f"the CLI asked for more than the model: {server.refused}")


def main() -> int:
    events = SdkEvents(recorder(), "claude-agent-sdk-fixture", "claude-agent-sdk")
    try:
        asyncio.run(work(events))
    except Exception:
        traceback.print_exc()
        events.emit("run_failed")
        return 1
    else:
        events.emit("run_finished")
        return 0
    finally:
        events.close()


if __name__ == "__main__":
    sys.exit(main())
