"""Agents that try to harm the harness: it goes on, archives, cleans up, and is there for the next run."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bench import Bench
from harness.errors import CommandFailedError
from harness.evidence.model import Role
from harness.run import measure
from tests.faults.agents import NOTHING, agent, with_tools
from tests.faults.archives import exit_code, told

pytestmark = pytest.mark.linux


def test_folders_deeper_than_any_recursion(bench: Bench, tmp_path: Path) -> None:
    code = "import os\nos.chdir('/workspace')\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')\n"
    measured = measure(bench, agent(bench, code))
    assert exit_code(measured) == 3
    assert told(measured, tmp_path).unclean == ["truncated"]
    assert exit_code(measure(bench, agent(bench, NOTHING))) == 0


NAMES = (b"new\nline", b"\xff\xfe", b"quote\"'\\", b"x" * 255, "\u2028\u202e\U0001f4a5".encode(), b"\x1b[2J")


def test_names_that_are_no_text(bench: Bench, tmp_path: Path) -> None:
    code = f"for name in {NAMES!r}: open(b'/workspace/' + name, 'w').close()"
    archive = told(measure(bench, agent(bench, code)), tmp_path)
    assert archive.unclean == []
    named = [
        bytes.fromhex(entry["path_hex"]) if "path_hex" in entry else entry["path"].encode()
        for entry in archive.members["companion/surface.json"]["paths"]
    ]
    assert sorted(named) == sorted(b"/workspace/" + name for name in NAMES)


CROWD = """
import _socket, os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
held = []
for _ in range(3000):
    s = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try: s.connect(os.environ["ASSAY_RUNNER_SDK_SOCKET"])
    except OSError: break
    held.append(s)
open("/workspace/connected", "w").write(str(len(held)))
"""


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """As many as most shells give; the agent's container gives more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.breaks("unclean:sdk:too_many_connections")
@pytest.mark.usefixtures("few_descriptors")
def test_more_connections_than_the_harness_has_descriptors(bench: Bench, tmp_path: Path) -> None:
    measured = measure(bench, with_tools(bench, CROWD, witnesses=("kernel", "sdk")))
    assert exit_code(measured) == 3
    archive = told(measured, tmp_path)
    assert archive.unclean == ["missing_witness:sdk", "sdk:too_many_connections"]


def test_an_endless_event(bench: Bench, tmp_path: Path) -> None:
    code = """
import _socket, os
s = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
s.connect(os.environ["ASSAY_RUNNER_SDK_SOCKET"])
try:
    while True: s.sendall(b"x" * 65536)
except OSError: pass
"""
    measured = measure(bench, with_tools(bench, code, witnesses=("kernel", "sdk")))
    archive = told(measured, tmp_path)
    assert archive.unclean == ["missing_witness:sdk", "sdk:line_too_long"]


BREEDS = """
import os, time
born = 0
try:
    while True:
        if os.fork() == 0: time.sleep(600)
        born += 1
except BlockingIOError: print("born", born)
"""


@pytest.mark.alone  # who else wants a child meanwhile may not get one
def test_children_without_end(bench: Bench, tmp_path: Path) -> None:
    measured = measure(bench, agent(bench, BREEDS))
    born = int(measured.output[Role.SUBJECT].text.removeprefix("born "))
    assert 2000 < born < 4096
    archive = told(measured, tmp_path)
    assert (exit_code(measured), archive.unclean) == (0, [])
    assert len(archive.members["companion/processes.json"]["processes"]) == born + 1
    assert exit_code(measure(bench, agent(bench, NOTHING))) == 0


def test_output_cannot_speak_to_the_terminal(bench: Bench) -> None:
    code = "print('\\x1b[2J\\x1b]0;owned\\x07' + 'x' * 100000 + '\\nwhat went wrong')\nraise SystemExit(3)"
    measured = measure(bench, agent(bench, code))
    with pytest.raises(CommandFailedError) as caught:
        measured.verdict()
    assert "what went wrong" in str(caught.value)
    assert str(caught.value).replace("\n", "").isprintable()
    assert len(str(caught.value)) < 2000
