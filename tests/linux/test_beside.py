"""The harness in a container beside the engine: docs/guide/container.md, with this host's own programs."""

import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from harness.bundle.verify import check
from harness.engine import daemon
from harness.host.state import State, default_state
from harness.plan import FIXTURES
from tests.faults.commands import command, in_state

pytestmark = pytest.mark.linux

IMAGE = "assay-runner-test/host:1"
CAPABILITIES = ("NET_ADMIN", "SYS_ADMIN", "SYS_NICE", "SYS_PTRACE")
CGROUPS = "/sys/fs/cgroup:/sys/fs/cgroup"
# A container of its own mounts, network, IPC and host name, but for what is named here.
COMPLETE = {"pid_mode": "host", "cgroupns": "host", "cap_add": CAPABILITIES}
Told = tuple[int, str]
Inside = Callable[..., Told]


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient) -> Iterator[str]:
    """Folders and links alone: what is in them is mounted from this host."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path in sorted(Path("/").iterdir()):
            entry = tarfile.TarInfo(path.name)
            if path.is_symlink():
                entry.type, entry.linkname = tarfile.SYMTYPE, os.fspath(path.readlink())
            elif path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            else:
                continue
            tar.addfile(entry)
    repository, _, tag = IMAGE.partition(":")
    engine.api.import_image_from_data(data.getvalue(), repository=repository, tag=tag)
    yield IMAGE
    engine.api.remove_image(IMAGE, force=True)


@pytest.fixture
def inside(engine: docker.DockerClient, state: State, image: str) -> Inside:
    """Run `assay-runner` in a container: exit code, and all that it said."""

    def run(
        *arguments: str | Path, state_at: State = state, cgroups: str = CGROUPS, **options: object
    ) -> Told:
        wanted = in_state(state_at) | {daemon.OVERRIDE: daemon.engine_paths(state).url}
        environment = {name: text for name, text in wanted.items() if not name.startswith("PYTEST")}
        folders = {Path("/usr"), Path("/etc"), Path("/tmp"), FIXTURES.parent, default_state().root.resolve()}
        folders |= {Path(sys.prefix).resolve().parent, Path("/sys/kernel/tracing")}
        container = engine.containers.create(
            image,
            command(*arguments),
            environment=environment,
            volumes=[cgroups, *(f"{folder}:{folder}" for folder in folders)],
            working_dir=os.fspath(FIXTURES.parent),
            network_mode="none",
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            **{**COMPLETE, **options},
        )
        try:
            container.start()
            code = container.wait(timeout=240)["StatusCode"]
            return code, container.logs().decode()
        finally:
            container.remove(force=True)

    return run


def test_a_run_is_clean(inside: Inside, tmp_path: Path) -> None:
    made = tmp_path / "run.tar.gz"
    code, said = inside("run", "kernel-policy", "-o", made)
    assert (code, "evidence=clean" in said) == (0, True), said
    check(made)


@pytest.mark.parametrize(
    ("options", "detail", "remedy"),
    [
        ({"pid_mode": None}, "engine-view: the engine's processes are not visible here", "--pid host"),
        (
            {"cgroups": "/sys/fs/cgroup:/mnt", "cgroupns": "private"},
            "engine-view: /sys/fs/cgroup is not the root of the engine's cgroup tree",
            "-v /sys/fs/cgroup:/sys/fs/cgroup",
        ),
        (
            {"state_at": State(Path("/run/of-its-own"))},
            "engine-view: the engine has not the same folder at /run",
            "-v /run/of-its-own:/run/of-its-own",
        ),
        ({"cap_add": CAPABILITIES[:-1]}, "privileges: missing: CAP_SYS_PTRACE", "run as root"),
        ({"cap_add": CAPABILITIES[1:]}, "privileges: missing: CAP_NET_ADMIN", "run as root"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(
    inside: Inside, tmp_path: Path, options: dict[str, object], detail: str, remedy: str
) -> None:
    code, said = inside("run", "kernel-only", "-o", tmp_path / "run.tar.gz", **options)
    assert code == 5, said
    assert detail in said
    assert remedy in said
    assert not (tmp_path / "run.tar.gz").exists()
