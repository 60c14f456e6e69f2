"""An agent of the real CrewAI, offline: its model is a script, all else is CrewAI's own."""

import json
import os
import socket
import sys
import tempfile
from typing import Any

socket.has_ipv6 = False  # else urllib3, which nothing here uses, binds ::1 on import to see whether it could
tempfile.tempdir = os.environ["TMPDIR"]  # else Python tries it out with a file of a random name

from crewai import Agent, Crew, Task  # noqa: E402
from crewai.events import (  # noqa: E402
    ToolUsageErrorEvent,
    ToolUsageFinishedEvent,
    ToolUsageStartedEvent,
    crewai_event_bus,
)
from crewai.events.types.tool_usage_events import ToolUsageEvent  # noqa: E402
from crewai.llms.base_llm import BaseLLM  # noqa: E402
from crewai.mcp import MCPServerStdio  # noqa: E402
from script import Script, read_task  # noqa: E402
from sdk_events import SdkEvents, told  # noqa: E402


class LocalModel(BaseLLM):
    """Calls the only tool as scripted, then repeats what it gave."""

    script: Any

    def supports_function_calling(self) -> bool:
        return True

    def call(self, messages: Any, tools: Any = None, *_: Any, **__: Any) -> Any:
        calls = self.script.next_turn()
        if calls:
            (tool,) = tools
            name = tool["function"]["name"]  # CrewAI puts the server's command before the tool's own name
            return [
                {
                    "id": call_id or None,
                    "type": "function",
                    "function": {"name": name, "arguments": json.dumps({"path": file})},
                }
                for call_id, file in calls
            ]
        given = [message for message in messages if message["role"] == "tool"]
        print("ids in the history:", [message["tool_call_id"] for message in given])
        return "\n".join(message["content"] for message in given)


def listen(events: SdkEvents, script: Script) -> None:
    """CrewAI's own events of its tools, told on as far as they say which call they are of."""

    def id_in(event: ToolUsageEvent) -> str | None:
        """The model's id, in whatever field it is: one guessed from order or arguments would be ours."""
        values = [value for value in vars(event).values() if isinstance(value, str)]
        found = [value for value in values if value and value in script.handed_out]
        print(f"{event.type}: the model's id in the event: {found or 'not there'}")
        return found[0] if found else None

    @crewai_event_bus.on(ToolUsageStartedEvent)
    def started(_: Any, event: ToolUsageStartedEvent) -> None:
        if call_id := id_in(event):
            events.tool_started(call_id, "read_file")

    @crewai_event_bus.on(ToolUsageErrorEvent)
    @crewai_event_bus.on(ToolUsageFinishedEvent)
    def ended(_: Any, event: ToolUsageErrorEvent | ToolUsageFinishedEvent) -> None:
        if call_id := id_in(event):
            events.tool_ended(call_id)


async def work(events: SdkEvents) -> None:
    task = read_task()
    script = Script(task, os.environ["ASSAY_RUNNER_CALL_IDS"])
    command, *arguments = json.loads(os.environ["ASSAY_RUNNER_MCP_COMMAND"])
    # The client takes no _meta, and nothing that CrewAI calls on its way there is given the call's id.
    server = MCPServerStdio(command=command, args=arguments, env=dict(os.environ))
    agent = Agent(
        role="reader",
        goal="Read files.",
        backstory="None.",
        llm=LocalModel(model="local", script=script),
        mcps=[server],
        cache=False,  # else the second of two identical calls is not made
    )
    todo = Task(description=task, expected_output="What the files say.", agent=agent)
    listen(events, script)
    result = await Crew(agents=[agent], tasks=[todo], cache=False, tracing=False).kickoff_async()
    crewai_event_bus.flush()
    print(result)


if __name__ == "__main__":
    sys.exit(told(work, "crewai-fixture", "crewai"))
