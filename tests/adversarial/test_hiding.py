"""Agents that try to do something unseen. Each of them is seen, stopped, or makes the run unclean."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.bench import Bench
from harness.plan import BRIDGE_COMMAND
from harness.run import measure
from tests.faults.agents import agent
from tests.faults.archives import ACCOUNTING, HEALTH, Told, exit_code, told

pytestmark = pytest.mark.linux

Watch = Callable[..., Told]


@pytest.fixture
def watch(bench: Bench, tmp_path: Path) -> Watch:
    """Run an agent; its archive, after the exit code and the codes were compared."""

    def run(code: str, *, ends: int = 0, unclean: tuple[str, ...] = (), inputs: Path | None = None) -> Told:
        measured = measure(bench, agent(bench, code, inputs=inputs))
        assert exit_code(measured) == ends, (measured.output, measured.assembled.unclean)
        archive = told(measured, tmp_path)
        assert archive.unclean == list(unclean)
        return archive

    return run


@pytest.fixture
def helper(probe: Path, tmp_path: Path) -> Path:
    """Inputs with the probe program in them; inputs are not executable, so an agent must see to that."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    shutil.copy(probe, folder / "probe")
    return folder


def roles(archive: Told, path: str) -> set[str]:
    return {role for _, _, found in archive.actions(path) for role in found}


WRITTEN = {("create", "done", ("subject",)), ("write", "done", ("subject",))}
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep({delay})
        open("/workspace/late", "w").write("x")
        os._exit(0)
    os._exit(0)
os.wait()
"""


def test_a_daemon_that_left_its_session_is_still_the_agent(watch: Watch) -> None:
    waits = "while not os.path.exists('/workspace/late'): time.sleep(0.01)"
    archive = watch(DAEMON.format(delay=0.2) + waits)
    assert archive.actions("/workspace/late") == WRITTEN
    [line] = archive.operations("create", "/workspace/late")
    assert (line["role"], line["process"]) == ("subject", "subject.0.0.0")
    assert "/workspace/late" in archive.members["capability-surface.json"]["filesystem_paths"]


def test_a_daemon_does_not_outlive_its_agent(watch: Watch) -> None:
    """The first process of a pid namespace takes all others with it (pid_namespaces(7)): no late write."""
    archive = watch(DAEMON.format(delay=300))
    assert archive.actions("/workspace/late") == set()
    assert archive.members[ACCOUNTING]["survivors"] == 0
    tree = {process["process"] for process in archive.members["companion/processes.json"]["processes"]}
    assert {"subject.0", "subject.0.0", "subject.0.0.0"} <= tree


@pytest.mark.parametrize("folder", ["/dev/shm", "/tmp"])
def test_memory_file_systems_are_no_hiding_place(folder: str, watch: Watch) -> None:
    archive = watch(f"open('{folder}/secret', 'w').write('x'); import os; os.unlink('{folder}/secret')")
    assert archive.actions(f"{folder}/secret") == WRITTEN | {("delete", "done", ("subject",))}


def test_a_file_without_a_name(watch: Watch) -> None:
    """O_TMPFILE, and a file that is unlinked while it is open and opened again through /proc."""
    archive = watch(
        "import os\n"
        "os.open('/workspace', os.O_TMPFILE | os.O_RDWR)\n"
        "fd = os.open('/workspace/gone', os.O_CREAT | os.O_RDWR)\n"
        "os.unlink('/workspace/gone')\n"
        "os.write(os.open(f'/proc/self/fd/{fd}', os.O_WRONLY), b'x')\n"
    )
    assert {("create", "done", ("subject",)), ("delete", "done", ("subject",))} < archive.actions(
        "/workspace/gone"
    )
    again = archive.operations("open", "/workspace/gone")
    assert [(line["access"], "unlinked" in line["flags"]) for line in again] == [("write", True)]
    nameless = [line for line in archive.kernel if "tmpfile" in line.get("flags", ())]
    assert [(line["role"], line["access"]) for line in nameless] == [("subject", "read_write")]
    assert nameless[0]["path"].startswith("/workspace")


def test_a_program_that_is_in_memory_only(watch: Watch) -> None:
    archive = watch(
        "import os\n"
        "fd = os.memfd_create('harmless')\n"
        "os.write(fd, open('/usr/bin/env', 'rb').read())\n"
        "os.set_inheritable(fd, True)\n"
        "os.execve(fd, ['renamed', 'x=1'], {})\n"
    )
    [made] = archive.operations("memfd_create", "memfd:harmless")
    assert (made["role"], made["outcome"]) == ("subject", "ok")
    [ran] = [
        line for line in archive.kernel if line["operation"] == "exec" and line["event_class"] == "evidence"
    ]
    assert ran["argv"] == ["renamed", "x=1"]
    assert ran["path"].startswith("detached:")  # it is in no file system of the container
    execs = archive.members["capability-surface.json"]["process_execs"]
    assert [path for path in execs if "detached" in path] != []


@pytest.mark.breaks("guard:io_uring")
def test_io_uring_is_refused_and_counted(watch: Watch, helper: Path) -> None:
    archive = watch(
        "import os\nos.chmod('/workspace/probe', 0o755)\nos.execv('/workspace/probe', ['probe', 'calls'])\n",
        inputs=helper,
    )
    accounting = archive.members[ACCOUNTING]
    assert accounting["io_uring_refused"] == 3  # setup, enter, register
    assert accounting["records"]["classes"]["tripwire"] == 0
    assert archive.members[HEALTH]["kernel_layer"] == "complete"
    # what the same program tried beside that is all there
    assert archive.actions("/written") == {
        ("write", "attempted", ("subject",)),
        ("create", "attempted", ("subject",)),
    }
    assert archive.actions("/tmp/written") == WRITTEN


@pytest.mark.breaks("guard:foreign_calls")
@pytest.mark.parametrize("call", ["int80", "x32"])
def test_other_system_call_tables_end_the_agent(call: str, watch: Watch, helper: Path) -> None:
    """Killed before the call does anything, and told all the same."""
    archive = watch(
        f"import os\nos.chmod('/workspace/probe', 0o755)\nos.execv('/workspace/probe', ['p', '{call}'])\n",
        inputs=helper,
        ends=3,
        unclean=("compat_syscall",),
    )
    assert archive.finished["signal"] == signal.SIGSYS
    assert archive.members[ACCOUNTING]["records"]["classes"]["tripwire"] == 1
    assert [line["role"] for line in archive.kernel if line["operation"] == "compat_syscall"] == ["subject"]


def test_a_link_does_not_change_the_name_of_what_is_opened(watch: Watch) -> None:
    archive = watch(
        "import os\n"
        "open('/workspace/real', 'w').close()\n"
        "os.symlink('/workspace/real', '/workspace/innocent')\n"
        "open('/workspace/innocent', 'a').write('x')\n"
        "os.symlink('/workspace', '/tmp/w')\n"
        "open('/tmp/w/../workspace/./other', 'w').write('x')\n"
    )
    assert archive.actions("/workspace/real") == WRITTEN
    appended = [line for line in archive.operations("open", "/workspace/real") if "append" in line["flags"]]
    assert len(appended) == 1
    assert archive.actions("/workspace/other") == WRITTEN
    # the link itself was made, nothing else was done to that name
    assert archive.actions("/workspace/innocent") == {("create", "done", ("subject",))}


def test_a_rename_shows_both_names(watch: Watch) -> None:
    archive = watch(
        "import os\n"
        "open('/workspace/draft', 'w').write('x')\n"
        "os.rename('/workspace/draft', '/workspace/input.txt')\n"
        "os.chdir('/workspace')\n"
        "open('second', 'w').close()\n"
        "os.link('second', '/workspace/third')\n"
    )
    # made and renamed away in the same run: told by its final name
    assert archive.actions("/workspace/draft") == set()
    assert archive.actions("/workspace/input.txt") == {("replace", "done", ("subject",))}
    [line] = archive.operations("rename", "/workspace/input.txt//temporary")
    assert line["path2"] == "/workspace/input.txt"
    assert archive.actions("/workspace/third") == {("create", "done", ("subject",))}


def test_a_mapped_write_is_told_by_the_open(watch: Watch, tmp_path: Path) -> None:
    """No write call, only memory: the access that the file was opened with is the evidence."""
    inputs = tmp_path / "mapped"
    inputs.mkdir()
    (inputs / "data").write_bytes(bytes(4096))
    archive = watch(
        "import mmap, os\n"
        "memory = mmap.mmap(os.open('/workspace/data', os.O_RDWR), 4096)\n"
        "memory[0:5] = b'quiet'\n"
        "memory.close()\n",
        inputs=inputs,
    )
    assert archive.actions("/workspace/data") == {
        ("read", "done", ("subject",)),
        ("write", "done", ("subject",)),
    }


def test_a_name_that_looks_like_plumbing_is_evidence(watch: Watch) -> None:
    """Writes below folders whose reads are counted only, and a program called as the run's own bridge."""
    archive = watch(
        "import os\n"
        "os.makedirs('/tmp/node_modules/x')\n"
        "open('/tmp/node_modules/x/index.js', 'w').close()\n"
        "try: open('/usr/lib/evil', 'w')\n"
        "except OSError: pass\n"
        f"os.posix_spawn('/usr/bin/env', {list(BRIDGE_COMMAND)}, {{}})\n"
        "os.wait()\n"
    )
    assert archive.actions("/tmp/node_modules/x/index.js") == WRITTEN
    assert archive.actions("/usr/lib/evil") == {
        ("write", "attempted", ("subject",)),
        ("create", "attempted", ("subject",)),
    }
    assert "/usr/bin/env" in archive.members["capability-surface.json"]["process_execs"]


def test_lost_on_purpose(watch: Watch) -> None:
    """Paths too deep to be told make the run unclean; nothing is silently shortened."""
    archive = watch(
        "import os\n"
        "os.chdir('/tmp')\n"
        "for _ in range(150): os.mkdir('d'); os.chdir('d')\n"
        "open('secret', 'w').close()\n",
        ends=3,
        unclean=("truncated",),
    )
    assert archive.members[HEALTH]["kernel_layer"] != "complete"


@pytest.mark.breaks("guard:cgroup")
def test_a_cgroup_cannot_be_left(watch: Watch) -> None:
    """The agent's view of cgroups is read-only, or not there at all: it stays where it is watched."""
    archive = watch(
        "import os\n"
        "for folder, _, names in os.walk('/sys/fs/cgroup'):\n"
        "    for name in names:\n"
        "        if name == 'cgroup.procs':\n"
        "            try: os.write(os.open(f'{folder}/{name}', os.O_WRONLY), b'0')\n"
        "            except OSError: continue\n"
        "            raise SystemExit('left')\n"
        "open('/workspace/after', 'w').close()\n"
    )
    assert archive.actions("/workspace/after") == WRITTEN
