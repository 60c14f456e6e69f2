"""Model answers on tape: played in their order, each once, to exactly the requests they were given to.

A cassette is {"schema", "origin": "recorded" or "synthetic", "interactions": [{"request", "response"}]}.
"""

import json
from pathlib import Path
from typing import Any

import httpx2

SCHEMA = "assay.runner.cassette.v1"
# All that is kept of a request's headers: keys and accounts travel in x-goog-api-key, authorization
# and x-goog-user-project, and whatever comes next is not kept either.
KEPT_HEADERS = ("content-type",)
SECRET_QUERY = ("key", "access_token")


class CassetteError(Exception):
    """The conversation is not the one on the tape."""


def described(request: httpx2.Request) -> dict[str, Any]:
    """What must be equal on replay: where it goes, and what the last turn holds.

    Of a tool's result the call's id and the tool, not the text: a denied call is another text.
    """
    turn = json.loads(request.content)["contents"][-1]
    return {
        "method": request.method,
        "path": request.url.path,
        "query": {k: v for k, v in sorted(request.url.params.multi_items()) if k not in SECRET_QUERY},
        "headers": {name: request.headers[name] for name in KEPT_HEADERS},
        "role": turn["role"],
        "parts": [_part(part) for part in turn["parts"]],
    }


def _part(part: dict[str, Any]) -> dict[str, Any]:
    answer = part.get("functionResponse")
    return {"functionResponse": {key: answer.get(key) for key in ("id", "name")}} if answer else part


class Player:
    """Stands where the network would be."""

    def __init__(self, path: Path) -> None:
        document = json.loads(path.read_bytes())
        if document.get("schema") != SCHEMA:
            raise CassetteError(f"{path} is no {SCHEMA}")
        self.left = list(document["interactions"])
        self.transport = httpx2.MockTransport(self._play)

    async def _play(self, request: httpx2.Request) -> httpx2.Response:
        asked = described(request)
        if not self.left:
            raise CassetteError(f"nothing is left on the tape for {asked}")
        interaction = self.left.pop(0)
        if asked != interaction["request"]:
            raise CassetteError(f"the tape has {interaction['request']}, asked was {asked}")
        return httpx2.Response(200, json=interaction["response"])

    def finish(self) -> None:
        if self.left:
            raise CassetteError(f"{len(self.left)} interactions were never asked for")


class Recorder:
    """Passes on to the network and keeps what was said, without `secret`."""

    def __init__(self, path: Path, secret: str) -> None:
        self.path, self.secret = path, secret
        self.network = httpx2.AsyncHTTPTransport()
        self.interactions: list[dict[str, Any]] = []
        self.transport = httpx2.MockTransport(self._pass_on)

    async def _pass_on(self, request: httpx2.Request) -> httpx2.Response:
        response = await self.network.handle_async_request(request)
        body = await response.aread()
        if response.status_code == 200:  # an error is the SDK's to report, and nothing to play
            self.interactions.append({"request": described(request), "response": json.loads(body)})
        return response

    def finish(self) -> None:
        document = {"schema": SCHEMA, "origin": "recorded", "interactions": self.interactions}
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        if self.secret in text:
            raise CassetteError("the key is in what was recorded; nothing is written")
        self.path.write_text(text, encoding="utf-8")
