"""What the SDK says it did: one assay.runner.sdk_event.v0 object a line, to the recorder on the host."""

import asyncio
import json
import os
import socket
import traceback
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import BinaryIO


def recorder() -> BinaryIO:
    """The recorder's end of the channel: a line sent cannot be taken back."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ["ASSAY_RUNNER_SDK_SOCKET"])
    with connection:  # the file keeps it open
        return connection.makefile("wb")


class SdkEvents:
    """Tells each event as it happens.

    `package` is the installed distribution, whose version is read from its metadata.
    """

    def __init__(self, channel: BinaryIO, source: str, package: str) -> None:
        self.channel = channel
        self.header = {"source": source, "sdk_name": package, "sdk_version": version(package)}
        self.seq = 0
        self.open: dict[str, tuple[str, bool]] = {}  # call id -> tool, ended; in the order of the starts

    def emit(self, event_type: str, tool_call_id: str | None = None, tool: str | None = None) -> None:
        event = {
            "schema": os.environ["ASSAY_RUNNER_SDK_EVENT_SCHEMA"],
            "run_id": os.environ["ASSAY_RUNNER_RUN_ID"],
            "seq": self.seq,
            "event_type": event_type,
            **self.header,
            "tool_call_id": tool_call_id,
            "tool": tool,
        }
        self.seq += 1
        self.channel.write(json.dumps(event).encode() + b"\n")
        self.channel.flush()

    def tool_started(self, tool_call_id: str, tool: str) -> None:
        self.open[tool_call_id] = (tool, False)
        self.emit("tool_call_started", tool_call_id, tool)

    def tool_ended(self, tool_call_id: str) -> None:
        """Parallel calls end in an order that varies: told in the order of the starts, once all ended."""
        self.open[tool_call_id] = (self.open[tool_call_id][0], True)
        if all(ended for _, ended in self.open.values()):
            for one, (tool, _) in self.open.items():
                self.emit("tool_call_completed", one, tool)
            self.open.clear()

    def close(self) -> None:
        self.channel.close()


def told(
    work: Callable[[SdkEvents], Coroutine[object, object, None]],
    source: str,
    package: str,
    channel: BinaryIO | None = None,
) -> int:
    """Do the agent's work and tell the recorder (or `channel`) how it ended; the program's exit code."""
    events = SdkEvents(channel or recorder(), source, package)
    try:
        asyncio.run(work(events))
    except Exception:  # noqa: BLE001 - whatever it is, the recorder is told
        traceback.print_exc()
        events.emit("run_failed")
        return 1
    else:
        events.emit("run_finished")
        return 0
    finally:
        events.close()
