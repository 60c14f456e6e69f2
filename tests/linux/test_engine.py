"""The embedded engine and the containers in it, for real."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from attrs import evolve

from harness.engine import daemon, seccomp
from harness.engine.containers import Bind, ContainerSpec, RoleContainer, sweep_dead_runs
from harness.errors import EnvironmentUnfitError, InputError
from harness.evidence.model import Role
from harness.host.cgroup import Slice, claim_dead_slices, find_root
from harness.host.state import RunFolder, State, live_runs
from tests.linux.conftest import Run

pytestmark = pytest.mark.linux


@pytest.fixture
def own_state() -> Iterator[State]:
    """A state folder whose engine the test may break."""
    with tempfile.TemporaryDirectory(prefix="assay-", dir="/tmp") as folder:
        made = State(Path(folder)).prepare()
        yield made
        daemon.stop_engine(made)


def _processes(state: State) -> list[int]:
    return daemon._find(daemon.engine_paths(state))


def test_start_reuse_and_stop_leave_nothing(own_state: State) -> None:
    assert daemon.engine_status(own_state).pid is None
    daemon.ensure_engine(own_state).close()
    first = daemon.engine_status(own_state)
    assert first.answering
    daemon.ensure_engine(own_state).close()
    assert daemon.engine_status(own_state) == first
    assert daemon.stop_engine(own_state)
    assert _processes(own_state) == []
    assert not first.socket.exists()
    assert str(own_state.root) not in Path("/proc/self/mountinfo").read_text()
    assert not daemon.stop_engine(own_state)


def test_two_at_once_start_one(own_state: State) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.engine import daemon; from harness.host.state import State\n"
        "s = State(Path(sys.argv[1])); daemon.ensure_engine(s).close(); print(daemon.engine_status(s).pid)"
    )
    argv = [sys.executable, "-c", code, str(own_state.root)]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {process.communicate(timeout=60)[0].strip() for process in both}
    assert len(answers) == 1
    dockerds = daemon._find(daemon.engine_paths(own_state), "dockerd")
    assert answers == {str(pid) for pid in dockerds}
    assert len(dockerds) == 1


def test_starts_after_a_killed_engine_with_a_stale_pidfile(own_state: State) -> None:
    daemon.ensure_engine(own_state).close()
    before = daemon.engine_status(own_state)
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    os.waitpid(before.pid, 0)
    # a pid that lives but is no dockerd is what makes dockerd itself refuse to start
    daemon.engine_paths(own_state).pidfile.write_text(str(os.getpid()))
    daemon.ensure_engine(own_state).close()
    after = daemon.engine_status(own_state)
    assert after.answering
    assert after.pid != before.pid
    assert len(daemon._find(daemon.engine_paths(own_state), "containerd")) == 1


def test_long_state_folder_gets_a_short_socket(own_state: State) -> None:
    long = State(own_state.root / ("x" * 90)).prepare()
    paths = daemon.engine_paths(long)
    assert not paths.socket.is_relative_to(long.root)
    try:
        daemon.ensure_engine(long).close()
        assert daemon.engine_status(long).answering
    finally:
        daemon.stop_engine(long)
    assert not paths.run.exists()


def test_an_engine_that_cannot_start_says_why(own_state: State) -> None:
    (own_state.engine / "data").write_text("in the way")
    with pytest.raises(EnvironmentUnfitError, match="did not start") as caught:
        daemon.ensure_engine(own_state)
    assert "data" in caught.value.hint
    assert _processes(own_state) == []


def test_where_overlay_is_refused_it_takes_vfs(own_state: State, tmp_path: Path) -> None:
    """An overlay file system cannot be the upper layer of another one, so overlay2 cannot be used on it."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    merged = tmp_path / "merged"
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
    nested = State(merged / "state").prepare()
    try:
        for _ in range(2):  # the second start goes straight to what worked
            client = daemon.ensure_engine(nested)
            assert daemon.describe(client)["storage_driver"] == "vfs"
            client.close()
            daemon.stop_engine(nested)
    finally:
        daemon.stop_engine(nested)
        subprocess.run(["umount", merged], check=True)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ({"DefaultRuntime": "runsc", "Runtimes": {"runsc": {"path": "/usr/bin/runsc"}}}, "runtime is runsc"),
        ({"DefaultRuntime": "runc", "Runtimes": {"runc": {"path": "/opt/kata-runtime"}}}, "kata-runtime"),
        ({"KernelVersion": "1.2.3-vm"}, "1.2.3-vm"),
        ({"SecurityOptions": ["name=seccomp", "name=rootless"]}, "rootless"),
    ],
)
def test_an_engine_that_cannot_be_observed_is_refused(
    engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], match: str
) -> None:
    """This engine passes; the same answer with one fact changed does not."""
    real = engine.info()
    daemon._refuse_unfit(engine)
    monkeypatch.setattr(engine, "info", lambda: real | answer)
    with pytest.raises(EnvironmentUnfitError, match=match):
        daemon._refuse_unfit(engine)


def test_override_must_be_of_this_host(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    with pytest.raises(EnvironmentUnfitError, match="another machine"):
        daemon.ensure_engine(state)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(EnvironmentUnfitError, match="does not answer"):
        daemon.ensure_engine(state)


def test_override_is_used(engine: docker.DockerClient, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", daemon.engine_paths(state).url)
    elsewhere = State(Path("/nonexistent"))
    client = daemon.ensure_engine(elsewhere)
    try:
        assert client.info()["ID"] == engine.info()["ID"]
    finally:
        client.close()


def _finish(container: RoleContainer) -> tuple[int | None, str]:
    container.start()
    code = container.wait(60)
    return code, container.output().text


# what must hold in a container, whatever the program tries: the value, or the errno by number
EPERM, EROFS, ENOSYS = -1, -30, -38
EXPECTED = {
    "getpid": 1,
    "getuid": 65534,
    "io_uring_setup": ENOSYS,
    "io_uring_enter": ENOSYS,
    "io_uring_register": ENOSYS,
    "clone3": ENOSYS,
    "clone_newuser": EPERM,
    "unshare_newuser": EPERM,
    "unshare_newnet": EPERM,
    "setns": EPERM,
    "ptrace": EPERM,
    "process_vm_readv": EPERM,
    "bpf": EPERM,
    "perf_event_open": EPERM,
    "userfaultfd": EPERM,
    "keyctl": EPERM,
    "mount": EPERM,
    "fsopen": EPERM,
    "open_by_handle_at": EPERM,
    "fanotify_init": EPERM,
    "pidfd_getfd": EPERM,
    "kexec_load": EPERM,
    "chroot": EPERM,
    "personality_no_aslr": EPERM,
    "socket_audit": EPERM,
    "socket_vsock": EPERM,
    "socket_vsock_high_bits": EPERM,
    "socket_alg": EPERM,
    "write_root": EROFS,
}
ALLOWED = {"personality_query", "socket_unix", "socket_inet", "socket_route", "write_tmp"}


@pytest.mark.breaks("guard:namespaces", "guard:tracing", "guard:read_only_root")
def test_what_a_container_may_call(run: Run) -> None:
    code, output = _finish(run("calls"))
    assert code == 0, output
    answers = {name: int(value) for name, value in (line.split() for line in output.splitlines())}
    assert {name: answers[name] for name in EXPECTED} == EXPECTED
    assert {name for name in ALLOWED if answers[name] >= 0} == ALLOWED
    assert set(answers) == set(EXPECTED) | ALLOWED


def test_the_profile_is_what_refuses(run: Run, probe: Path) -> None:
    """Outside of the container the same calls answer otherwise, so the test above can fail."""
    output = subprocess.run([probe, "calls"], capture_output=True, text=True, check=True, cwd="/tmp").stdout
    answers = {name: int(value) for name, value in (line.split() for line in output.splitlines())}
    assert answers["io_uring_enter"] != ENOSYS
    assert answers["socket_audit"] >= 0
    assert answers["clone3"] != ENOSYS
    assert answers["clone_newuser"] > 0
    assert answers["unshare_newuser"] == 0
    assert answers["personality_no_aslr"] >= 0
    for written in ("/written", "/tmp/written"):
        Path(written).unlink()


@pytest.mark.parametrize("call", ["int80", "x32"])
def test_other_system_call_tables_kill(run: Run, call: str) -> None:
    code, output = _finish(run(call))
    assert code == 128 + signal.SIGSYS
    assert output == ""


PYTHON = """
import asyncio, concurrent.futures, multiprocessing, socket, subprocess, sys, tempfile
assert subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True).stdout == b"42\\n"
with concurrent.futures.ThreadPoolExecutor(4) as pool: assert sum(pool.map(abs, range(9))) == 36
async def main():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
    return await process.wait()
assert asyncio.run(main()) == 3
with multiprocessing.get_context("spawn").Pool(1) as pool: assert pool.apply(abs, (-5,)) == 5
with tempfile.NamedTemporaryFile(dir="/dev/shm") as file: file.write(b"x")
a, b = socket.socketpair()
socket.socket(socket.AF_INET6).close()
print("fine")
"""
NODE = """
const { execFileSync } = require("node:child_process"), { Worker } = require("node:worker_threads");
const fs = require("node:fs/promises"), assert = require("node:assert");
(async () => {
  assert.equal(execFileSync(process.execPath, ["-e", "console.log(42)"]).toString(), "42\\n");
  await fs.writeFile("/dev/shm/x", "x"); assert.equal(await fs.readFile("/dev/shm/x", "utf8"), "x");
  const worker = new Worker("require('node:worker_threads').parentPort.postMessage(7)", { eval: true });
  assert.equal(await new Promise((done) => worker.once("message", done)), 7);
  require("node:os").networkInterfaces();
  console.log("fine");
})();
"""


@pytest.mark.parametrize(
    ("program", "arguments"), [("python3", ["-I", "-c", PYTHON]), ("node", ["-e", NODE])]
)
def test_runtimes_work_under_the_profile(
    run: Run, engine: docker.DockerClient, state: State, program: str, arguments: list[str]
) -> None:
    """The host's own interpreters, mounted read-only, do what agents do: children, threads, files."""
    template = run("exit").spec
    folders = {name: Path(f"/{name}").resolve() for name in ("usr", "lib", "lib64", "etc")}
    real = Path(f"/usr/bin/{program}").resolve()
    spec = evolve(
        template,
        command=(str(real), *arguments),
        binds=tuple(Bind(source, f"/{name}") for name, source in folders.items()),
        working_dir="/",
    )
    container = RoleContainer.create(engine, state, spec)
    try:
        assert _finish(container) == (0, "fine\n")
    finally:
        container.remove()


def test_exit_code_and_timeout(run: Run) -> None:
    assert _finish(run("exit", "7"))[0] == 7
    sleeper = run("sleep")
    sleeper.start()
    started = time.monotonic()
    assert sleeper.wait(0.3) is None
    assert time.monotonic() - started < 30
    assert sleeper.state_pid() > 0
    sleeper.kill()
    assert sleeper.wait(60) == 128 + signal.SIGKILL
    sleeper.kill()  # no error when it has ended
    assert sleeper.state_pid() == 0
    sleeper.remove()
    sleeper.remove()


def test_is_in_the_slice_of_its_role(run: Run, run_slice: Slice) -> None:
    sleeper = run("sleep", role=Role.TOOLS)
    sleeper.start()
    assert run_slice.pids(Role.TOOLS) == [sleeper.state_pid()]
    assert run_slice.pids(Role.SUBJECT) == []
    assert run_slice.pids() == [sleeper.state_pid()]
    # in its own view it is at the root of the hierarchy and has nothing of the host's names
    assert Path(f"/proc/{sleeper.state_pid()}/cgroup").read_text().count("assay-runner") == 1


@pytest.mark.breaks("guard:privileges")
def test_is_sealed_by_its_configuration(run: Run, engine: docker.DockerClient) -> None:
    container = run("exit")
    found = engine.api.inspect_container(container.id)
    host = found["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] is None
    assert host["Init"] is False
    assert {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]}["nproc"] == 4096
    assert host["PidsLimit"] in (2048, None)  # None by an engine that has no such controller
    assert "no-new-privileges" in host["SecurityOpt"]
    assert f"seccomp={seccomp.profile_json()}" in host["SecurityOpt"]
    assert found["Config"]["User"] == "65534:65534"
    assert found["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    assert not [
        entry for entry in found["Config"]["Env"] or [] if re.match("(?i)(http|no|all)_?proxy", entry)
    ]


def test_missing_image_and_missing_mount_are_named(
    run: Run, engine: docker.DockerClient, state: State, run_slice: Slice
) -> None:
    spec = ContainerSpec(
        "r", Role.SUBJECT, "assay-runner-test/none:0", ("/x",), run_slice.cgroup_parent(Role.SUBJECT)
    )
    with pytest.raises(InputError, match="not there"):
        RoleContainer.create(engine, state, spec)
    with pytest.raises(EnvironmentUnfitError, match="/nonexistent/folder"):
        run("exit", binds=(Bind(Path("/nonexistent/folder"), "/workspace"),))


def test_a_program_that_is_not_there_is_named(run: Run, engine: docker.DockerClient, state: State) -> None:
    container = run("exit")
    spec = ContainerSpec(
        container.spec.run_id, Role.SUBJECT, container.spec.image, ("/none",), container.spec.cgroup_parent
    )
    broken = RoleContainer.create(engine, state, spec)
    try:
        with pytest.raises(InputError, match="/none"):
            broken.start()
    finally:
        broken.remove()


HOLDER = """
import sys, time
from pathlib import Path
from harness.engine import daemon
from harness.engine.containers import ContainerSpec, RoleContainer
from harness.evidence.model import Role
from harness.host.cgroup import Slice
from harness.host.state import RunFolder, State

state, run_id, image = State(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
client = daemon.ensure_engine(state)
folder = RunFolder.create(state, run_id)
slice_ = Slice.create(run_id)
for role in (Role.SUBJECT, Role.TOOLS):
    spec = ContainerSpec(run_id, role, image, ("/probe", "sleep"), slice_.cgroup_parent(role))
    RoleContainer.create(client, state, spec).start()
assert slice_.freeze()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.alone
def test_sweep_finds_what_a_killed_harness_left_and_spares_the_living(
    engine: docker.DockerClient, state: State, probe_image: str, run: Run, run_id: str, run_slice: Slice
) -> None:
    alive = run("sleep")
    alive.start()
    dead_id = f"{run_id}_dead"
    argv = [sys.executable, "-c", HOLDER, str(state.root), dead_id, probe_image]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        assert sweep_dead_runs(engine, state) == []
        assert live_runs(state) == {run_id, dead_id}
        holder.kill()
    left = find_root().mount / run_slice.path.relative_to(run_slice.root.mount).parent / dead_id
    assert len(list(left.glob("*/*/cgroup.procs"))) == 2  # it died while the slice was frozen
    with pytest.raises(InputError, match="still there"):
        RunFolder.create(state, dead_id)
    with pytest.raises(InputError, match="still there"):
        Slice.create(dead_id)

    assert sweep_dead_runs(engine, state) == [dead_id]

    assert not left.exists()
    assert not (state.runs / dead_id).exists()
    filters = {"label": [f"dev.assay.runner.run={dead_id}"]}
    assert engine.api.containers(all=True, filters=filters) == []
    assert alive.state_pid() > 0
    assert live_runs(state) == {run_id}
    assert claim_dead_slices(find_root()) == []
    assert sweep_dead_runs(engine, state) == []


def test_the_profile_is_one_line_of_json_and_has_a_digest() -> None:
    assert json.loads(seccomp.profile_json()) == seccomp.profile()
    assert re.fullmatch("[0-9a-f]{64}", seccomp.sha256())
