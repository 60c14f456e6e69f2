"""An agent of the real Anthropic SDK, offline: its own HTTP client asks a model that is a script."""

import asyncio
import json
import os
import sys
from typing import Any

import httpx2
from anthropic import AsyncAnthropic
from anthropic.types import ToolUseBlock
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from script import Script, read_task
from sdk_events import SdkEvents, told

ID_KEY = "dev.assay.runner/tool_call_id"
MODEL = "local-script"
MAX_TURNS = 8


class LocalModel:
    """The Messages API in place of the network: calls read_file as scripted, then repeats what it gave."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.transport = httpx2.MockTransport(self.respond)
        self.results: list[str] = []

    async def respond(self, request: httpx2.Request) -> httpx2.Response:
        if (request.method, request.url.path) != ("POST", "/v1/messages"):
            raise ValueError(f"this model is not asked by {request.method} {request.url.path}")
        turn = json.loads(request.content)["messages"][-1]["content"]
        self.results += [part["content"] for part in turn if part["type"] == "tool_result"]
        content: list[dict[str, Any]] = [
            {"type": "tool_use", "id": call_id, "name": "read_file", "input": {"path": file}}
            for call_id, file in self.script.next_turn()
        ]
        answer = {
            "id": "msg_local",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": content or [{"type": "text", "text": "\n".join(self.results)}],
            "stop_reason": "tool_use" if content else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        return httpx2.Response(200, json=answer)


class Agent:
    """The loop that the SDK leaves to its user: a client, an MCP session, and events."""

    def __init__(
        self, client: AsyncAnthropic, session: ClientSession, script: Script, events: SdkEvents
    ) -> None:
        self.client, self.session, self.script, self.events = client, session, script, events

    async def run(self, task: str) -> str:
        tools: Any = [
            {"name": tool.name, "description": tool.description or "", "input_schema": tool.input_schema}
            for tool in (await self.session.list_tools()).tools
        ]
        messages: Any = [{"role": "user", "content": [{"type": "text", "text": task}]}]
        for _ in range(MAX_TURNS):
            answer = await self.client.messages.create(
                model=MODEL, max_tokens=1024, messages=messages, tools=tools
            )
            calls = [part for part in answer.content if part.type == "tool_use"]
            if not calls:
                return "".join(part.text for part in answer.content if part.type == "text")
            results = await asyncio.gather(*map(self.call_tool, calls))
            messages += [
                {
                    "role": "assistant",
                    "content": [part.model_dump(exclude_none=True) for part in answer.content],
                },
                {"role": "user", "content": results},
            ]
        raise RuntimeError(f"the model did not end within {MAX_TURNS} turns")

    async def call_tool(self, call: ToolUseBlock) -> dict[str, Any]:
        self.events.tool_started(call.id, call.name)
        call_id = self.script.checked(call.id, call.input["path"])
        try:
            result = await self.session.call_tool(call.name, call.input, meta={ID_KEY: call_id})
        finally:
            self.events.tool_ended(call_id)
        text = "".join(part.text for part in result.content if part.type == "text")
        return {"type": "tool_result", "tool_use_id": call_id, "content": text, "is_error": result.is_error}


async def work(events: SdkEvents) -> None:
    task = read_task()
    script = Script(task, os.environ["ASSAY_RUNNER_CALL_IDS"])
    model = LocalModel(script)
    command, *arguments = json.loads(os.environ["ASSAY_RUNNER_MCP_COMMAND"])
    server = StdioServerParameters(command=command, args=arguments, env=dict(os.environ))
    async with (
        httpx2.AsyncClient(transport=model.transport, trust_env=False) as http,
        stdio_client(server) as (reader, writer),
        ClientSession(reader, writer) as session,
    ):
        await session.initialize()
        client = AsyncAnthropic(api_key="offline", http_client=http, max_retries=0)
        print(await Agent(client, session, script, events).run(task))


if __name__ == "__main__":
    sys.exit(told(work, "anthropic-fixture", "anthropic"))
