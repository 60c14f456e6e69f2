"""An agent of the real LangGraph, offline: its model is a script, all else is LangGraph's own."""

import json
import os
import socket
import sys
from typing import Any

socket.has_ipv6 = False  # else urllib3, which nothing here uses, binds ::1 on import to see whether it could

from langchain_core.callbacks import AsyncCallbackHandler  # noqa: E402
from langchain_core.language_models import BaseChatModel  # noqa: E402
from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage  # noqa: E402
from langchain_core.outputs import ChatGeneration, ChatResult  # noqa: E402
from langchain_core.tools import StructuredTool, ToolException  # noqa: E402
from langgraph.graph import MessagesState, StateGraph  # noqa: E402
from langgraph.prebuilt import ToolNode, ToolRuntime, tools_condition  # noqa: E402
from mcp import ClientSession, StdioServerParameters, stdio_client  # noqa: E402
from mcp.types import Tool  # noqa: E402
from script import Script, read_task  # noqa: E402
from sdk_events import SdkEvents, told  # noqa: E402

ID_KEY = "dev.assay.runner/tool_call_id"


class LocalModel(BaseChatModel):
    """Calls read_file as scripted, then repeats what the tool gave."""

    script: Any

    @property
    def _llm_type(self) -> str:
        return "scripted"

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        calls = [
            ToolCall(id=call_id or None, name="read_file", args={"path": file})
            for call_id, file in self.script.next_turn()
        ]
        given = "\n".join(str(message.text) for message in messages if isinstance(message, ToolMessage))
        answer = AIMessage(content="" if calls else given, tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError("this model runs in the event loop")


class Callbacks(AsyncCallbackHandler):
    """LangGraph's own callbacks, told on."""

    def __init__(self, events: SdkEvents) -> None:
        self.events = events

    async def on_tool_start(self, serialized: dict[str, Any], _input: str, **more: Any) -> None:
        self.events.tool_started(more["tool_call_id"], serialized["name"])

    async def on_tool_end(self, output: Any, **_: Any) -> None:
        self.events.tool_ended(output.tool_call_id)


def as_tool(declared: Tool, session: ClientSession, script: Script) -> StructuredTool:
    """The server's tool as LangGraph's; its own MCP adapters send no _meta, so the call is made here."""

    async def call(runtime: ToolRuntime, **arguments: Any) -> str:
        # LangGraph hands a tool the context of the call, with the id that the model gave it.
        meta = {ID_KEY: script.checked(runtime.tool_call_id or "", arguments["path"])}
        result = await session.call_tool(declared.name, arguments, meta=meta)
        text = "".join(part.text for part in result.content if part.type == "text")
        if result.is_error:
            raise ToolException(text)  # the model is to see it
        return text

    return StructuredTool(
        name=declared.name,
        description=declared.description or "",
        args_schema=declared.input_schema,
        coroutine=call,
        handle_tool_error=True,
    )


async def work(events: SdkEvents) -> None:
    task = read_task()
    script = Script(task, os.environ["ASSAY_RUNNER_CALL_IDS"])
    command, *arguments = json.loads(os.environ["ASSAY_RUNNER_MCP_COMMAND"])
    async with (
        stdio_client(StdioServerParameters(command=command, args=arguments)) as streams,
        ClientSession(*streams) as session,
    ):
        await session.initialize()
        tools = [as_tool(declared, session, script) for declared in (await session.list_tools()).tools]
        model = LocalModel(script=script)

        async def ask(state: MessagesState) -> dict[str, list[BaseMessage]]:
            return {"messages": [await model.ainvoke(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("model", ask)
        graph.add_node("tools", ToolNode(tools))
        graph.set_entry_point("model")
        graph.add_conditional_edges("model", tools_condition)
        graph.add_edge("tools", "model")
        state = await graph.compile().ainvoke(
            {"messages": [("user", task)]}, {"callbacks": [Callbacks(events)]}
        )
    print(state["messages"][-1].text)


if __name__ == "__main__":
    sys.exit(told(work, "langgraph-fixture", "langgraph"))
