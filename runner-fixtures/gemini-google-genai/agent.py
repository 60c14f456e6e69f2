"""An agent of the real google-genai SDK, offline: the model's answers come from a cassette.

The loop is our own, because the SDK's automatic function calling drops the ids of the calls.
ASSAY_RUNNER_GEMINI_MODE=record asks the real model instead and writes the cassette anew; it needs
GEMINI_API_KEY and the network, so it runs on a developer's machine and never in CI.
"""

import asyncio
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from cassette import Player, Recorder
from google import genai
from google.genai import types
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from sdk_events import SdkEvents, recorder, told

ID_KEY = "dev.assay.runner/tool_call_id"
MODEL = "gemini-3.5-flash"
MAX_TURNS = 8
NO_KEY = "replay-no-network"


def declared(tools: list[Any]) -> types.GenerateContentConfig:
    """The MCP server's tools as the model's functions."""
    functions = [
        types.FunctionDeclaration(
            name=tool.name, description=tool.description, parameters_json_schema=tool.input_schema
        )
        for tool in tools
    ]
    return types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=functions)],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )


async def call_tool(session: ClientSession, call: types.FunctionCall, events: SdkEvents) -> types.Part:
    """Do what the model asked for, under the id that the model gave it."""
    if not call.name:
        raise ValueError(f"a function call without a name: {call}")
    call_id = call.id or ""  # never made up here: without one, the policy proxy denies the call
    events.tool_started(call_id, call.name)
    try:
        result = await session.call_tool(call.name, call.args, meta={ID_KEY: call_id})
    finally:
        events.tool_ended(call_id)
    text = "".join(part.text for part in result.content if part.type == "text")
    answer = types.FunctionResponse(
        id=call.id, name=call.name, response={"error" if result.is_error else "result": text}
    )
    return types.Part(function_response=answer)


async def converse(
    task: str, client: genai.client.AsyncClient, session: ClientSession, events: SdkEvents
) -> str | None:
    """The model's last answer to the task."""
    config = declared((await session.list_tools()).tools)
    history: list[Any] = [types.Content(role="user", parts=[types.Part(text=task)])]
    for _ in range(MAX_TURNS):
        response = await client.models.generate_content(model=MODEL, contents=history, config=config)
        calls = response.function_calls
        if not calls:
            return response.text
        answers = await asyncio.gather(*(call_tool(session, call, events) for call in calls))
        # The model's own turn goes back unchanged: it may hold more than the calls.
        history += [response.candidates[0].content, types.Content(role="user", parts=answers)]
    raise RuntimeError(f"the model did not end within {MAX_TURNS} turns")


async def work(tape: Player | Recorder, key: str, events: SdkEvents) -> None:
    task = Path(os.environ["ASSAY_RUNNER_TASK"]).read_text(encoding="utf-8")  # noqa: ASYNC240 - nothing else runs yet
    command, *arguments = json.loads(os.environ["ASSAY_RUNNER_MCP_COMMAND"])
    server = StdioServerParameters(command=command, args=arguments, env=dict(os.environ))
    async with (
        httpx2.AsyncClient(transport=tape.transport, trust_env=False) as http,
        stdio_client(server) as (reader, writer),
        ClientSession(reader, writer) as session,
    ):
        await session.initialize()
        options = types.HttpOptions(api_version="v1beta", httpx_async_client=http)
        client = genai.Client(api_key=key, http_options=options).aio
        print(await converse(task, client, session, events))
    tape.finish()


def main() -> int:
    tape: Player | Recorder
    cassette, mode = Path(os.environ["ASSAY_RUNNER_CASSETTE"]), os.environ["ASSAY_RUNNER_GEMINI_MODE"]
    if mode == "replay":
        tape, key, channel = Player(cassette), NO_KEY, recorder()
    elif mode == "record":
        if os.environ.get("CI") or not os.environ.get("GEMINI_API_KEY"):
            sys.exit("record: set GEMINI_API_KEY, and do not do it in CI")
        key = os.environ["GEMINI_API_KEY"]
        tape, channel = Recorder(cassette, key), sys.stdout.buffer  # no harness is listening
    else:
        sys.exit(f"ASSAY_RUNNER_GEMINI_MODE={mode} is not known: use replay or record")
    return told(partial(work, tape, key), "gemini-google-genai-fixture", "google-genai", channel)


if __name__ == "__main__":
    sys.exit(main())
