"""An agent of the real Pydantic AI, offline: its model is a script, all else is the framework's own."""

import json
import os
import sys
from typing import Any

from fastmcp.client.transports import StdioTransport
from pydantic_ai import (
    Agent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RunContext,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.mcp import CallToolFunc, MCPToolset
from pydantic_ai.models.function import AgentInfo, FunctionModel
from script import Script, read_task
from sdk_events import SdkEvents, told

ID_KEY = "dev.assay.runner/tool_call_id"


def local_model(script: Script) -> FunctionModel:
    """Calls read_file as scripted, then repeats what the tool gave."""

    async def respond(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        calls = [
            ToolCallPart("read_file", {"path": file}, **({"tool_call_id": call_id} if call_id else {}))
            for call_id, file in script.next_turn()
        ]
        if calls:
            return ModelResponse(parts=calls)
        parts = [part for message in messages if isinstance(message, ModelRequest) for part in message.parts]
        given = [part.model_response_str() for part in parts if isinstance(part, ToolReturnPart)]
        return ModelResponse(parts=[TextPart("\n".join(given))])

    return FunctionModel(respond)


async def work(events: SdkEvents) -> None:
    task = read_task()
    script = Script(task, os.environ["ASSAY_RUNNER_CALL_IDS"])

    async def call_tool(
        context: RunContext[None], call: CallToolFunc, tool: str, args: dict[str, Any]
    ) -> Any:
        events.tool_started(context.tool_call_id or "", tool)
        # The framework makes up an id where the model gave none: told of, but refused here.
        call_id = script.checked(context.tool_call_id or "", args["path"])
        try:
            return await call(tool, args, metadata={ID_KEY: call_id})
        finally:
            events.tool_ended(call_id)  # also when it was denied or failed, which is raised

    command, *arguments = json.loads(os.environ["ASSAY_RUNNER_MCP_COMMAND"])
    server = StdioTransport(command, arguments, env=dict(os.environ), keep_alive=False)
    # "failed": the model is told of an error as any other result, and the framework does not try again.
    tools = MCPToolset(
        server, process_tool_call=call_tool, tool_error_behavior="failed", prefer_tasks=False, init_timeout=30
    )
    agent = Agent(local_model(script), toolsets=[tools])
    async with agent:
        result = await agent.run(task)
    print(result.output)


if __name__ == "__main__":
    sys.exit(told(work, "pydantic-ai-fixture", "pydantic-ai-slim"))
