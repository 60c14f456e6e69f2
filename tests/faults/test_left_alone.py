"""Runs that go wrong are told in words: what happened, what to do, and what agent and server wrote last."""

import json
import subprocess
from pathlib import Path

import pytest

from harness.bench import Bench
from harness.bundle.reader import read_archive
from harness.bundle.verify import verify
from harness.cli import main
from harness.contracts.compared import COMPARED
from harness.plan import FIXTURES, plan_image
from harness.run import measure
from tests.faults.agents import PYTHON, image_of, new_run_id
from tests.faults.archives import read
from tests.faults.commands import run

pytestmark = pytest.mark.linux

# Much on one stream, then an exception on the other.
TALKS = """
import sys
for number in range(8): print("line", number, flush=True)
def deep(n): return 1 / n if not n else deep(n - 1)
deep(5)
"""
CONNECTS = """
import socket
open("/workspace/made", "w").write("x")
socket.create_connection(("10.0.0.1", 443), 1)
"""
# Two calls, as a client makes them that knows nothing of ids.
NO_IDS = """
import json, os, sys
sys.path.insert(0, "/opt/app")
from client import TARGET, Session
session = Session(json.loads(os.environ["ASSAY_RUNNER_MCP_COMMAND"]))
client = {"name": "fault", "version": "1"}
session.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
for _ in range(2): session.request("tools/call", {"name": "read_file", "arguments": {"path": TARGET}})
"""

# As editors and servers replace a file: by a random name beside it, and one in another folder.
REPLACES = """
import os, secrets
os.mkdir("/workspace/.cache")
for folder in ("/workspace", "/workspace/.cache"):
    aside = f"{folder}/report.{secrets.token_hex(16)}.tmp"
    with open(aside, "x") as file: file.write("x")
    os.chmod(aside, 0o600)
    os.rename(aside, "/workspace/report.txt")
"""


def measured(bench: Bench, tmp_path: Path, code: str) -> "subprocess.CompletedProcess[str]":
    """The command line itself, with Python code as the agent."""
    tail = ("--image", image_of(bench, "kernel-only").id, "--run-id", new_run_id())
    return run(bench.state, *tail, "-o", tmp_path / "x.tar.gz", "--", *PYTHON, code)


def fixture(tmp_path: Path, code: str | None = None, server: str | None = None) -> Path:
    """kernel-policy with another agent, or another server."""
    folder = tmp_path / "kernel-policy"
    subprocess.run(["cp", "-r", FIXTURES / "kernel-policy", folder], check=True)
    path = folder / "fixture.toml"
    text = path.read_text(encoding="utf-8")
    for table, program in (("subject", code), ("tools", server)):
        if program is not None:
            key = "command" if table == "subject" else "server"
            begun = text.index(f"[{table}]")
            start = text.index(f"{key} = ", begun)
            end = text.index("]", start) + 1
            text = text[:start] + f"{key} = {json.dumps([*PYTHON, program])}" + text[end:]
    path.write_text(text, encoding="utf-8")
    return folder


def test_streams_are_kept_apart_beside_the_archive(bench: Bench, tmp_path: Path) -> None:
    done = measured(bench, tmp_path, TALKS)
    assert done.returncode == 6
    logs = tmp_path / "x.logs"
    assert sorted(path.name for path in logs.iterdir()) == ["agent.stderr", "agent.stdout"]
    assert (logs / "agent.stdout").read_text() == "".join(f"line {n}\n" for n in range(8))
    assert (logs / "agent.stderr").read_text().endswith("ZeroDivisionError: division by zero\n")
    assert f"what agent and server wrote: {logs}/" in done.stdout
    shown = done.stderr.partition("the end of agent.stderr:")[2]
    errors, _, lines = shown.partition("the end of agent.stdout:")
    assert "Traceback (most recent call last)" in errors
    assert "ZeroDivisionError: division by zero" in errors
    assert [line.strip() for line in lines.strip().splitlines()] == [f"line {n}" for n in range(3, 8)]


def test_an_agent_that_wants_the_network_is_told_that_there_is_none(bench: Bench, tmp_path: Path) -> None:
    done = measured(bench, tmp_path, CONNECTS)
    assert done.returncode == 6
    assert "the container has no network; it tried 10.0.0.1:443" in done.stderr
    assert 'network = "loopback"' in done.stderr
    assert "endpoints: 1 tried: 10.0.0.1:443 (in vain)" in done.stdout
    assert "files: 1 written: /workspace/made; none deleted" in done.stdout


@pytest.mark.breaks("unclean:missing_tool_call_id")
def test_calls_without_an_id_are_counted_and_the_guide_is_named(bench: Bench, tmp_path: Path) -> None:
    done = run(bench.state, fixture(tmp_path, NO_IDS), "--run-id", new_run_id(), "-o", tmp_path / "x.tar.gz")
    assert done.returncode == 3
    assert "2 tool calls came without an id and were denied (missing_tool_call_id)" in done.stderr
    assert "docs/guide/policy.md#how-a-call-is-judged" in done.stderr
    assert "tool calls: 0 allowed, 2 denied, 0 refused" in done.stdout


def test_a_server_that_does_not_start_says_why(bench: Bench, tmp_path: Path) -> None:
    folder = fixture(tmp_path, server="raise SystemExit(1 / 0)")
    done = run(bench.state, folder, "--run-id", new_run_id(), "-o", tmp_path / "x.tar.gz")
    assert done.returncode in (3, 6)
    shown = done.stderr.partition("the end of server.stderr:")[2]
    assert "ZeroDivisionError: division by zero" in shown
    assert "ZeroDivisionError" in (tmp_path / "x.logs" / "server.stderr").read_text()


def test_the_summary_as_json(bench: Bench, tmp_path: Path) -> None:
    done = run(
        bench.state, FIXTURES / "openai-agents-hidden-write", "--json", "--run-id", new_run_id(),
        "-o", tmp_path / "x.tar.gz",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["exit_code"], found["clean"], found["causes"]) == (0, True, [])
    assert found["calls"] == {"allowed": 1, "denied": 0, "without_id": 0, "refused": 1}
    assert found["hidden"] == ["write /workspace/hidden-write-output.txt"]
    assert Path(found["logs"]) == tmp_path / "x.logs"
    assert verify(Path(found["archive"])).ok


def test_two_runs_that_replace_a_file_by_random_names_are_equal(bench: Bench, tmp_path: Path) -> None:
    archives = [tmp_path / f"{number}.tar.gz" for number in (1, 2)]
    run_id = new_run_id()  # the bytes name it
    for archive in archives:
        plan = plan_image(
            (*PYTHON, REPLACES), image_of(bench, "kernel-only"), run_id=run_id, inputs=None, deadline_s=60.0
        )
        assert measure(bench, plan).write(archive).assembled.clean
    base, head = (read_archive(archive).members for archive in archives)
    assert [name for name in COMPARED if base[name] != head[name]] == []
    assert main(["diff", "--allow-partial", *map(str, archives)]) == 0
    actions = read(archives[0]).actions("/workspace/report.txt")
    assert ("replace", "done", ("subject",)) in actions
