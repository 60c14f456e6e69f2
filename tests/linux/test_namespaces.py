"""Which network namespace is a container's: real ones, in which processes of a role's cgroup live."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import docker
import pytest

from harness.bundle.verify import check
from harness.evidence.model import NetworkSeal, Role
from harness.host.cgroup import Slice
from harness.host.namespaces import Existing, Namespaces, identity_of
from harness.host.state import State
from tests.faults.commands import command, in_state
from tests.linux.conftest import Run

pytestmark = pytest.mark.linux

NEW = ("unshare", "--net")
Enter = Callable[..., None]


@pytest.fixture
def enter(run_slice: Slice) -> Iterator[Enter]:
    """Have a process go into the subject's cgroup and then into a namespace: enter("unshare", "--net")."""
    with ExitStack() as stack:

        def start(*command: str) -> None:
            procs = run_slice.role_path(Role.SUBJECT) / "cgroup.procs"
            into = ["sh", "-c", f'echo $$ > {procs}; exec "$@"', "sh", *command, *READY]
            process = stack.enter_context(subprocess.Popen(into, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"in\n"

        yield start


READY = ("sh", "-c", "echo in; exec sleep 600")


def seal_of(slice_: Slice, start: Callable[[], None]) -> NetworkSeal:
    """The subject's seal; what `start` started is killed before the namespace is looked at again."""
    namespaces = Namespaces(slice_)
    try:
        namespaces.start(Role.SUBJECT, start)
        slice_.kill(Role.SUBJECT)
        (seal,) = namespaces.seals()
    finally:
        namespaces.close()
    return seal


def test_a_new_namespace_is_the_containers(run_slice: Slice, enter: Enter) -> None:
    seal = seal_of(run_slice, lambda: enter(*NEW))
    assert (seal.links_start, seal.links_end, seal.problems) == (("lo",), ("lo",), ())


@pytest.mark.parametrize("old", ["the harness's", "of a process", "kept by a mount"])
def test_a_namespace_that_was_there_before_is_nobodys(
    run_slice: Slice, enter: Enter, tmp_path: Path, old: str
) -> None:
    kept = tmp_path / "a b"  # written with \040 in mountinfo
    kept.touch()
    into: tuple[str, ...] = ("env",)
    with ExitStack() as stack:
        if old == "of a process":
            other = stack.enter_context(subprocess.Popen([*NEW, *READY], stdout=subprocess.PIPE))
            stack.callback(other.kill)
            assert other.stdout is not None
            assert other.stdout.readline() == b"in\n"
            into = ("nsenter", f"--net=/proc/{other.pid}/ns/net")
        if old == "kept by a mount":
            subprocess.run(["unshare", f"--net={kept}", "true"], check=True)
            stack.callback(subprocess.check_call, ["umount", kept])
            into = ("nsenter", f"--net={kept}")
        seal = seal_of(run_slice, lambda: enter(*into))
    assert seal.problems == ("network_unreadable: no new namespace was seen",)
    assert seal.links_start == ()


def test_the_number_of_a_namespace_that_dies_meanwhile_is_not_given_out_again() -> None:
    with subprocess.Popen([*NEW, *READY], stdout=subprocess.PIPE) as old:
        assert old.stdout is not None
        assert old.stdout.readline() == b"in\n"
        number = identity_of(Path(f"/proc/{old.pid}/ns/net").stat())
        with Existing() as existing:
            old.kill()
            old.wait(60)
            assert number in existing
            looks = [*NEW, "stat", "-L", "-c", "%i", "/proc/self/ns/net"]
            new = [int(subprocess.check_output(looks)) for _ in range(20)]
            assert number[1] not in new
        assert number not in existing


@pytest.mark.alone
def test_a_container_that_ends_at_once_is_covered_on_a_busy_host(run: Run, run_slice: Slice) -> None:
    with ExitStack() as stack:
        for _ in range(2 * (os.cpu_count() or 1)):
            busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(busy.kill)
        for _ in range(20):
            container = run("nothing")
            seal = seal_of(run_slice, container.start)
            assert container.wait(60) == 0
            container.remove()
            assert seal.problems == ()
            assert run_slice.wait_empty(timeout_s=60)


def test_the_harness_may_live_in_another_namespace_than_the_engine(
    engine: docker.DockerClient, state: State, tmp_path: Path
) -> None:
    assert engine.ping(), "it was started from here, outside"
    made = tmp_path / "run.tar.gz"
    done = subprocess.run(
        ["unshare", "--net", *command("run", "kernel-policy", "-o", made)],
        env=in_state(state),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, "evidence=clean" in done.stdout) == (0, True), done.stdout + done.stderr
    check(made)
