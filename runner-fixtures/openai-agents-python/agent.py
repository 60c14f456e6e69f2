"""An agent of the real OpenAI Agents SDK for Python, offline: its model is a script, the rest its own."""

import json
import os
import sys
from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, RunHooks, Runner, Usage, set_tracing_disabled
from agents.mcp import MCPServerStdio
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from script import Script, read_task
from sdk_events import SdkEvents, told

ID_KEY = "dev.assay.runner/tool_call_id"


class LocalModel(Model):
    """Calls read_file as scripted, then repeats what the tool gave."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def get_response(self, *_: Any, **request: Any) -> ModelResponse:
        output: list[Any] = [
            ResponseFunctionToolCall(
                type="function_call", call_id=call_id, name="read_file", arguments=json.dumps({"path": file})
            )
            for call_id, file in self.script.next_turn()
        ]
        return ModelResponse(
            output=output or [self.answer(request["input"])], usage=Usage(requests=1), response_id=None
        )

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("this model does not stream")

    def answer(self, items: list[Any]) -> ResponseOutputMessage:
        given = [item["output"] for item in items if item.get("type") == "function_call_output"]
        texts = [x if isinstance(x, str) else "".join(part["text"] for part in x) for x in given]
        text = ResponseOutputText(type="output_text", text="\n".join(texts), annotations=[])
        return ResponseOutputMessage(
            id="answer", type="message", role="assistant", status="completed", content=[text]
        )


class Hooks(RunHooks[Any]):
    """The SDK's own hooks, told on."""

    def __init__(self, events: SdkEvents) -> None:
        self.events = events

    async def on_tool_start(self, context: Any, _agent: Any, tool: Any) -> None:
        self.events.tool_started(context.tool_call_id, tool.name)

    async def on_tool_end(self, context: Any, *_: Any) -> None:
        self.events.tool_ended(context.tool_call_id)


async def work(events: SdkEvents) -> None:
    task = read_task()
    script = Script(task, os.environ["ASSAY_RUNNER_CALL_IDS"])

    def meta(call: Any) -> dict[str, str]:
        # The SDK hands its resolver the context of the call, with the id that the model gave it.
        return {ID_KEY: script.checked(call.run_context.tool_call_id, call.arguments["path"])}

    command, *arguments = json.loads(os.environ["ASSAY_RUNNER_MCP_COMMAND"])
    server = MCPServerStdio(
        {
            "command": command,
            "args": arguments,
            "env": dict(os.environ),
        },  # it passes on only a short list itself
        name="files",
        client_session_timeout_seconds=30,
        cache_tools_list=True,
        tool_meta_resolver=meta,
    )
    async with server:
        agent = Agent(name="fixture", model=LocalModel(script), mcp_servers=[server])
        result = await Runner.run(
            agent,
            task,
            max_turns=8,
            hooks=Hooks(events),
            run_config=RunConfig(tracing_disabled=True, trace_include_sensitive_data=False),
        )
    print(result.final_output)


if __name__ == "__main__":
    set_tracing_disabled(True)
    sys.exit(told(work, "openai-agents-python-fixture", "openai-agents"))
