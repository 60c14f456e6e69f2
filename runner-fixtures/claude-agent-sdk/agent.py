"""An agent of the real Claude Agent SDK with its CLI, offline: its model is a script on a loopback port."""

import json
import os
import sys

from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    Message,
    ResultMessage,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
    query,
)
from model_server import HOST, PORT, TOOL, ModelServer
from script import Script, read_task
from sdk_events import SdkEvents, told

SESSION = "00000000-0000-4000-8000-000000000001"  # else one is made up, and names files
SERVER = "files"


def tell(message: Message, events: SdkEvents, script: Script) -> None:
    """The SDK's messages about tools, told on; its hooks are off, as is all that --bare leaves out."""
    if isinstance(message, AssistantMessage):
        for use in message.content:
            if isinstance(use, ToolUseBlock):
                # The CLI itself sends this id to the MCP server, as _meta["claudecode/toolUseId"].
                events.tool_started(use.id, use.name.removeprefix(f"mcp__{SERVER}__"))
                script.checked(use.id, use.input["path"])
    elif isinstance(message, UserMessage):
        for result in message.content:
            if isinstance(result, ToolResultBlock):
                events.tool_ended(result.tool_use_id)
    elif isinstance(message, ResultMessage):
        print(message.result)


async def work(events: SdkEvents) -> None:
    task = read_task()
    script = Script(task, os.environ["ASSAY_RUNNER_CALL_IDS"])
    command, *arguments = json.loads(os.environ["ASSAY_RUNNER_MCP_COMMAND"])
    options = ClaudeAgentOptions(
        mcp_servers={SERVER: {"type": "stdio", "command": command, "args": arguments}},
        strict_mcp_config=True,
        setting_sources=[],
        tools=[],  # none of the CLI's own
        allowed_tools=[TOOL],
        session_id=SESSION,
        max_turns=8,
        model="claude-local",
        env={"ANTHROPIC_BASE_URL": f"http://{HOST}:{PORT}", "ANTHROPIC_API_KEY": "offline"},
        extra_args={"bare": None, "no-session-persistence": None},
    )
    async with ModelServer(script) as server:
        async for message in query(prompt=task, options=options):
            tell(message, events, script)
    if server.refused:
        raise RuntimeError(f"the CLI asked for more than the model: {server.refused}")


if __name__ == "__main__":
    sys.exit(told(work, "claude-agent-sdk-fixture", "claude-agent-sdk"))
