"""The model's side of the Messages API on a loopback port: a script's turns as server-sent events."""

import asyncio
import json
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from script import Script

HOST, PORT = "127.0.0.1", 18629  # fixed, because the address is evidence
TOOL = "mcp__files__read_file"  # as the CLI calls the server's tool in front of the model


class ModelServer:
    """Answers POST /v1/messages; `refused` keeps every other request that was made."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.refused: list[str] = []

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self.serve, HOST, PORT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection: there is nothing to keep it open for."""
        try:
            request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            writer.write(self.answer(request, body))
            await writer.drain()
        finally:
            writer.close()

    def answer(self, request: str, body: bytes) -> bytes:
        if not request.startswith("POST /v1/messages?"):
            self.refused.append(request)
            return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        events = b"".join(
            f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            for event in self.turn(json.loads(body))
        )
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        return head.encode() + events

    def turn(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of one turn (Messages API, streaming): tool calls as scripted, then what they gave."""
        calls = self.script.next_turn()
        usage = {"input_tokens": 1, "output_tokens": 1}
        message = {"id": "msg_local", "type": "message", "role": "assistant", "model": request["model"]}
        yield {"type": "message_start", "message": message | {"content": [], "usage": usage}}
        for index, (call_id, file) in enumerate(calls):
            use = {"type": "tool_use", "id": call_id, "name": TOOL, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps({"path": file})}
            yield from block(index, use, delta)
        if not calls:
            yield from block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": given(request)})
        stop = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
        yield {"type": "message_delta", "delta": stop, "usage": usage}
        yield {"type": "message_stop"}


def block(index: int, start: dict[str, Any], delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"type": "content_block_start", "index": index, "content_block": start}
    yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def given(request: dict[str, Any]) -> str:
    """What the tools gave so far, a line each."""
    parts = [part for message in request["messages"] for part in message["content"] if isinstance(part, dict)]
    results = [part["content"] for part in parts if part["type"] == "tool_result"]
    return "\n".join(
        x if isinstance(x, str) else "".join(part.get("text", "") for part in x) for x in results
    )
