"""Slices on the real hierarchy."""

import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from harness.errors import EnvironmentUnfitError, InputError
from harness.evidence.model import Role
from harness.host.cgroup import CgroupRoot, Slice, choose_parent, claim_dead_slices

pytestmark = pytest.mark.linux

Spawn = Callable[[Role], subprocess.Popen[bytes]]


@pytest.fixture
def spawn(run_slice: Slice) -> Spawn:
    def start(role: Role) -> subprocess.Popen[bytes]:
        # the shell moves itself in and then has a child, so that there are two processes
        procs = run_slice.role_path(role) / "cgroup.procs"
        process = subprocess.Popen(
            ["sh", "-c", f"echo $$ > {procs}; echo in; sleep 600 & wait"], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        while len(run_slice.pids(role)) < 2:
            time.sleep(0.005)
        return process

    return start


def _reap(process: subprocess.Popen[bytes]) -> int:
    process.communicate(timeout=60)
    return process.returncode


def test_layout(run_slice: Slice, cgroup_root: CgroupRoot, run_id: str) -> None:
    assert run_slice.path == choose_parent(cgroup_root) / "assay-runner" / run_id
    assert {p.name for p in run_slice.path.iterdir() if p.is_dir()} == {"subject", "tools", "harness"}
    assert run_slice.cgroup_parent(Role.TOOLS).endswith(f"/assay-runner/{run_id}/tools")
    assert cgroup_root.mount / run_slice.cgroup_parent(Role.TOOLS)[1:] == run_slice.role_path(Role.TOOLS)
    assert run_slice.cgroup_id(Role.TOOLS) == run_slice.role_path(Role.TOOLS).stat().st_ino
    assert run_slice.wait_empty(timeout_s=0)
    assert run_slice.pids() == []


def test_populated_kill_and_empty(run_slice: Slice, spawn: Spawn) -> None:
    subject, tools = spawn(Role.SUBJECT), spawn(Role.TOOLS)
    assert len(run_slice.pids()) == 4
    started = time.monotonic()
    assert not run_slice.wait_empty(timeout_s=0.2)
    assert 0.2 <= time.monotonic() - started < 30
    assert run_slice.kill(Role.SUBJECT) == 2
    assert run_slice.wait_empty(Role.SUBJECT, timeout_s=60)
    assert not run_slice.wait_empty(timeout_s=0)
    assert _reap(subject) == -9
    assert tools.poll() is None
    assert run_slice.kill() == 2
    assert run_slice.wait_empty(timeout_s=60)
    assert _reap(tools) == -9


def test_wait_empty_wakes_up_at_the_end(run_slice: Slice, spawn: Spawn) -> None:
    process = spawn(Role.SUBJECT)
    killer = threading.Timer(0.3, run_slice.kill)
    killer.start()
    started = time.monotonic()
    assert run_slice.wait_empty(timeout_s=60)
    assert 0.2 < time.monotonic() - started < 30
    killer.join()
    _reap(process)


def test_freeze_stops_and_thaw_continues(run_slice: Slice, spawn: Spawn) -> None:
    process = spawn(Role.SUBJECT)
    assert run_slice.freeze()
    assert "frozen 1" in (run_slice.role_path(Role.SUBJECT) / "cgroup.events").read_text()
    run_slice.thaw()
    assert "frozen 0" in (run_slice.role_path(Role.SUBJECT) / "cgroup.events").read_text()
    run_slice.kill()
    _reap(process)


@pytest.mark.parametrize("frozen", [False, True])
def test_kill_without_cgroup_kill(run_slice: Slice, spawn: Spawn, frozen: bool) -> None:
    process = spawn(Role.SUBJECT)
    if frozen:
        assert run_slice.freeze()
    run_slice._kill_one_by_one(None)
    assert run_slice.wait_empty(timeout_s=60)
    assert _reap(process) == -9


def test_kill_reaches_the_frozen(run_slice: Slice, spawn: Spawn) -> None:
    process = spawn(Role.SUBJECT)
    assert run_slice.freeze()
    assert run_slice.kill() == 2
    assert run_slice.wait_empty(timeout_s=60)
    assert _reap(process) == -9


def test_place(run_slice: Slice) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        run_slice.place(process.pid)
        assert run_slice.pids(Role.HARNESS) == [process.pid]
        process.kill()


@pytest.mark.alone
def test_remove_is_refused_while_in_use_then_removes_all(run_id: str, cgroup_root: CgroupRoot) -> None:
    made = Slice.create(f"{run_id}_b")
    deeper = made.role_path(Role.SUBJECT) / "container" / "nested"
    deeper.mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as process:
        (deeper / "cgroup.procs").write_text(str(process.pid))
        with pytest.raises(EnvironmentUnfitError, match=str(process.pid)):
            made.remove(timeout_s=0.1)
        assert made.kill() == 1
    # it counts as dead now, so the next start's sweep gets it
    [claimed] = [c for c in claim_dead_slices(cgroup_root) if c.run_id == made.run_id]
    claimed.remove()
    assert not made.path.exists()


def test_a_live_slice_is_not_claimed_and_not_made_twice(run_slice: Slice, cgroup_root: CgroupRoot) -> None:
    assert run_slice.run_id not in {c.run_id for c in claim_dead_slices(cgroup_root)}
    with pytest.raises(InputError, match="still there"):
        Slice.create(run_slice.run_id)


def test_many_at_once_share_the_family(run_id: str, cgroup_root: CgroupRoot) -> None:
    errors: list[BaseException] = []

    def cycle(number: int) -> None:
        try:
            for turn in range(50):
                Slice.create(f"{run_id}_{number}_{turn}").remove()
        except BaseException as error:  # noqa: BLE001 - a thread's error must fail the test
            errors.append(error)

    threads = [threading.Thread(target=cycle, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
