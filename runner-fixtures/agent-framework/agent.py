"""An agent of the real Agent Framework, offline: its model is a script, all else is the framework's own."""

import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatResponse,
    Content,
    FunctionInvocationContext,
    FunctionInvocationLayer,
    FunctionMiddleware,
    MCPStdioTool,
    Message,
)
from script import Script, read_task
from sdk_events import SdkEvents, told

ID_KEY = "dev.assay.runner/tool_call_id"


class LocalModel(FunctionInvocationLayer, BaseChatClient):
    """Calls read_file as scripted, then repeats what the tool gave."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script

    def _inner_get_response(self, *, messages: Sequence[Message], stream: bool, **_: Any) -> Any:
        if stream:
            raise NotImplementedError("this model does not stream")
        return self.respond(messages)

    async def respond(self, messages: Sequence[Message]) -> ChatResponse:
        calls = [
            Content.from_function_call(call_id, "read_file", arguments={"path": file})
            for call_id, file in self.script.next_turn()
        ]
        given = [part for message in messages for part in message.contents if part.type == "function_result"]
        answer = Content.from_text("\n".join(str(part.result) for part in given))
        return ChatResponse(messages=[Message("assistant", calls or [answer])])


class Binding(FunctionMiddleware):
    """The framework's own way around each call: tells of it, and sends its id along."""

    def __init__(self, events: SdkEvents, script: Script) -> None:
        self.events = events
        self.script = script

    async def process(
        self, context: FunctionInvocationContext, call_next: Callable[[], Awaitable[None]]
    ) -> None:
        # The id that the model gave; the framework has another one, of its own making, for each occurrence.
        self.events.tool_started(context.metadata["call_id"], context.function.name)
        call_id = self.script.checked(context.metadata["call_id"], context.arguments["path"])
        context.kwargs["_meta"] = {ID_KEY: call_id}
        try:
            await call_next()
        finally:
            self.events.tool_ended(call_id)


async def work(events: SdkEvents) -> None:
    task = read_task()
    script = Script(task, os.environ["ASSAY_RUNNER_CALL_IDS"])
    command, *arguments = json.loads(os.environ["ASSAY_RUNNER_MCP_COMMAND"])
    # The policy proxy knows tools only, so the server is not asked for prompts.
    async with MCPStdioTool("files", command, args=arguments, load_prompts=False) as server:
        agent = Agent(LocalModel(script), tools=[server], middleware=[Binding(events, script)])
        print((await agent.run(task)).text)


if __name__ == "__main__":
    sys.exit(told(work, "agent-framework-fixture", "agent-framework-core"))
