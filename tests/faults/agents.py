"""Plans with agents made for a test: a line of Python in a fixture's image, or a fixture changed a little."""

import uuid
from pathlib import Path

from attrs import evolve

from harness.bench import Bench
from harness.engine.images import ensure_image
from harness.evidence.image import RunImage
from harness.plan import FIXTURES, Plan, plan_fixture, plan_image
from harness.spec import SubjectSpec, ToolsSpec, load_fixture
from tests.faults.traces import RUN_PREFIX

PYTHON = ("/usr/bin/python3.11", "-I", "-S", "-B", "-c")
NOTHING = "pass"
# Says that it has begun, and goes on for longer than any test.
WAITS = "import time\nopen('/workspace/ready', 'w').close()\ntime.sleep(600)\n"
# Says that it has begun, and ends when it is let go (midrun.let_go).
UNTIL_LET_GO = """
import os
os.mkfifo("/workspace/go")
go = os.open("/workspace/go", os.O_RDWR)
open("/workspace/ready", "w").close()
os.read(go, 1)
"""
# One call that is allowed, then it waits until its tools are gone.
CALLS_AND_WAITS = """
import json, os, sys
sys.path.insert(0, "/opt/app")
from client import EXPECTED, ID_KEY, TARGET, Session
session = Session(json.loads(os.environ["ASSAY_RUNNER_MCP_COMMAND"]))
client = {"name": "fault", "version": "1"}
session.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
call = {"name": "read_file", "arguments": {"path": TARGET}, "_meta": {ID_KEY: "tc_1"}}
assert session.request("tools/call", call)["content"][0]["text"] == EXPECTED
open("/workspace/ready", "w").close()
session.server.stdout.read()
"""


def new_run_id() -> str:
    """One that the leftovers of its run can be found by."""
    return RUN_PREFIX + uuid.uuid4().hex[:12]


def image_of(bench: Bench, name: str) -> RunImage:
    """A fixture's image, in the bench's engine."""
    image = ensure_image(
        bench.client, name, state=bench.state.root, fixtures=FIXTURES, progress=bench.progress
    )
    return RunImage(image.tag, image.id, image.runtime_roots, files=image.contents(), search=image.search)


def agent(bench: Bench, code: str, *, inputs: Path | None = None, deadline_s: float = 60.0) -> Plan:
    """Python code as the agent, watched by the kernel alone."""
    image = image_of(bench, "kernel-only")
    return plan_image(
        (*PYTHON, code),
        image,
        run_id=new_run_id(),
        inputs=inputs,
        deadline_s=deadline_s,
    )


def with_tools(
    bench: Bench,
    code: str | None = None,
    *,
    witnesses: tuple[str, ...] = ("kernel", "policy"),
    tools: ToolsSpec | None = None,
) -> Plan:
    """The fixture kernel-policy; `code` in place of its agent, `tools` in place of its tools."""
    fixture = load_fixture(FIXTURES / "kernel-policy")
    file = evolve(fixture.file, witnesses=witnesses, tools=tools or fixture.file.tools)
    if code is not None:
        file = evolve(file, subject=SubjectSpec(command=(*PYTHON, code)))
    image = image_of(bench, file.image)
    return plan_fixture(evolve(fixture, file=file), image, run_id=new_run_id())
