"""Programs and images that pass for the run's own by what they are called, or say of themselves."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bench import Bench
from harness.engine.lookup import find_image
from harness.evidence.image import RunImage
from harness.plan import BRIDGE_COMMAND, plan_image
from harness.run import measure
from tests.faults.agents import agent, image_of, new_run_id
from tests.faults.archives import exit_code, told

pytestmark = pytest.mark.linux

PYTHON = "/usr/bin/python3.11"


def test_a_program_whose_called_name_is_lost_is_told(bench: Bench, probe: Path, tmp_path: Path) -> None:
    """4095 bytes of name, and the arguments of the bridge."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    shutil.copy(probe, inputs / "prog")
    code = (
        "import os\n"
        "os.chmod('/workspace/prog', 0o755)\n"
        "room = 4095 - len('/workspace/prog')\n"
        "name = '/workspace/' + './' * (room // 2) + '/' * (room % 2) + 'prog'\n"
        f"os.waitpid(os.posix_spawn(name, {[PYTHON, *BRIDGE_COMMAND]}, {{}}), 0)\n"
        f"os.waitpid(os.posix_spawn('/workspace/prog', {list(BRIDGE_COMMAND)}, {{}}), 0)\n"
    )
    archive = told(measure(bench, agent(bench, code, inputs=inputs)), tmp_path)
    ran = [
        line for line in archive.kernel if line["operation"] == "exec" and line["path"] == "/workspace/prog"
    ]
    assert {line["event_class"] for line in ran} == {"evidence"}
    assert "/workspace/prog" in archive.members["capability-surface.json"]["process_execs"]


def test_a_link_with_the_agents_own_name_and_arguments_is_told(bench: Bench, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "agent.py").write_text(
        "import os, sys\n"
        "if not os.path.lexists('/workspace/python3.11'):\n"
        "    os.symlink('/usr/bin/env', '/workspace/python3.11')\n"
        "    argv = ['python3.11', '/workspace/agent.py']\n"
        "    os.waitpid(os.posix_spawn('/workspace/python3.11', argv, {}), 0)\n"
    )
    image = image_of(bench, "kernel-only")
    plan = plan_image(
        ("python3.11", "/workspace/agent.py"), image, run_id=new_run_id(), inputs=inputs, deadline_s=60
    )
    archive = told(measure(bench, plan), tmp_path)
    executed = [line for line in archive.kernel if line["operation"] == "exec"]
    ran = [(line["process"], line["path"], line["event_class"]) for line in executed]
    assert ("subject.0", PYTHON, "declared_plumbing") in ran
    assert ("subject.0.0", "/usr/bin/env", "evidence") in ran
    assert "/usr/bin/env" in archive.members["capability-surface.json"]["process_execs"]


@pytest.fixture
def labelled(bench: Bench) -> Iterator[RunImage]:
    """An image of somebody else, which declares all of itself, and of whatever is mounted, its runtime."""
    image = image_of(bench, "kernel-only")
    made = bench.client.containers.create(image.handle or image.id, entrypoint=["/nothing"])
    label = "LABEL dev.assay.runner.runtime_roots='[\"/\"]'"
    made.commit("assay-runner-test/labelled", "1", changes=[label])
    made.remove()
    yield find_image(bench.client, "assay-runner-test/labelled:1", state=bench.state)
    bench.client.api.remove_image("assay-runner-test/labelled:1", force=True)


LOOKS = """
import os
open("/workspace/private.key").read(); open("/proc/1/environ").read(); os.listdir("/run")
for name in ("/etc/shadow", "/root/.netrc", "/usr/lib/missing", "/proc/self/cwd/denied"):
    try: open(name).read()
    except OSError: pass
open("/tmp/made", "w").write("x"); open("/tmp/made").read()
"""


def test_an_images_label_says_nothing_its_file_list_does(
    bench: Bench, labelled: RunImage, tmp_path: Path
) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "private.key").write_text("secret")
    command = (PYTHON, "-I", "-S", "-B", "-c", LOOKS)
    plan = plan_image(command, labelled, run_id=new_run_id(), inputs=inputs, deadline_s=60)
    measured = measure(bench, plan)
    archive = told(measured, tmp_path)
    assert exit_code(measured) == 0, measured.output
    surface = archive.members["companion/surface.json"]
    paths = {entry["path"] for entry in surface["paths"]}
    assert {"/workspace/private.key", "/run", "/tmp/made", "/etc/shadow", "/root/.netrc"} <= paths
    assert "/proc/self/environ" in {entry["path"] for entry in surface["telemetry"]}
    # what its interpreter reads is its own, and is counted
    assert not any(path.startswith(("/usr/lib/python3.11", "/lib/")) for path in paths)
    assert archive.members["companion/accounting.json"]["records"]["classes"]["image_runtime"] > 10
    assert archive.members["companion/runspec.json"]["image_files_sha256"] is not None


def test_failed_opens_are_no_plumbing_by_the_beginning_of_their_names(bench: Bench, tmp_path: Path) -> None:
    code = """
import os, _socket
open("/workspace/denied", "w").close(); os.chmod("/workspace/denied", 0); os.chdir("/workspace")
for path in ("/run/assay/decisions/decisions.sock", "/run/assay/nothing.sock"):
    try: _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM).connect(path)
    except OSError: pass
for path in ("/proc/self/cwd/denied", "/usr/lib/../../proc/self/cwd/denied",
             "/usr/lib/no/such/../../../../workspace/denied", "/workspace/denied/"):
    try: os.open(path, os.O_RDONLY)
    except OSError: pass
os.makedirs("/workspace/node_modules/x"); os.makedirs("/workspace/target/release")
open("/workspace/node_modules/x/index.js", "w").close()
open("/workspace/target/release/libx.so", "w").close()
"""
    measured = measure(bench, agent(bench, code))
    archive = told(measured, tmp_path)
    assert archive.unclean == ["control_touched:subject"]
    failed = {
        (line["path"], line["event_class"])
        for line in archive.kernel
        if line["operation"] == "open" and "denied" in (line["path"] or "") and line["outcome"] != "ok"
    }
    assert failed == {("/proc/self/cwd/denied", "evidence"), ("/workspace/denied", "evidence")}
    v0 = archive.members["capability-surface.json"]["filesystem_paths"]
    assert {"/workspace/node_modules/x/index.js", "/workspace/target/release/libx.so"} <= set(v0)
