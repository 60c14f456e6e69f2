"""The programs that several fixtures share and that run anywhere: the file server."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.engine.recipe import SHARED

SERVER = SHARED / "file_server.py"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.txt").write_text("inside\n")
    (root / "big.txt").write_bytes(b"x" * ((1 << 20) + 1))
    (root / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "secret.txt").write_text("outside\n")
    (root / "link").symlink_to(tmp_path / "secret.txt")
    return root


def ask(root: Path, *lines: object) -> list[dict[str, Any]]:
    sent = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    command = [sys.executable, "-I", "-S", "-B", str(SERVER), str(root)]
    done = subprocess.run(command, input=sent, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def read(path: object) -> dict[str, Any]:
    params = {"name": "read_file", "arguments": {"path": path}, "_meta": {"k": "v"}}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def test_a_session_of_the_protocol(root: Path) -> None:
    initialize = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    answers = ask(
        root,
        {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": initialize},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": "l", "method": "tools/list"},
        read(str(root / "a.txt")),
        {"jsonrpc": "2.0", "id": 2, "method": "ping"},
    )
    assert [answer["id"] for answer in answers] == [0, "l", 1, 2]
    assert answers[0]["result"]["protocolVersion"] == "2025-06-18"
    assert [tool["name"] for tool in answers[1]["result"]["tools"]] == ["read_file"]
    assert answers[2]["result"] == {"content": [{"type": "text", "text": "inside\n"}], "isError": False}
    assert answers[3]["result"] == {}


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "link",
        "/etc/passwd",
        "a.txt/../../secret.txt",
        "none.txt",
        ".",
        "big.txt",
        "binary",
        "a\0b",
    ],
)
def test_what_may_not_or_cannot_be_read_is_an_error_of_the_tool(root: Path, path: str) -> None:
    (answer,) = ask(root, read(path))
    assert answer["result"]["isError"] is True
    assert "outside\n" not in answer["result"]["content"][0]["text"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{not json", -32700),
        ('["array"]', -32600),
        ('{"jsonrpc":"2.0","id":1}', -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": "server/discover"}, -32601),
        ({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": []}, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "write_file"}}, -32602),
        (read(7), -32602),
    ],
)
def test_a_bad_message_is_answered_with_its_code_and_the_server_goes_on(
    root: Path, line: object, code: int
) -> None:
    bad, good = ask(root, line, read("a.txt"))
    assert bad["error"]["code"] == code
    assert good["result"]["isError"] is False
