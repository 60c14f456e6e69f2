"""What these tests share beside the machine: a tiny image, and a run that is made by hand.

They are torn down for real; a test that leaves something behind fails in `nothing_left`.
"""

import io
import os
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from harness.engine.containers import Bind, ContainerSpec, RoleContainer
from harness.evidence.model import Role
from harness.host.cgroup import CgroupRoot, Slice, find_root
from harness.host.state import RunFolder, State

PROBE_IMAGE = "assay-runner-test/probe:1"
# Of the run ids of these tests: whose a cgroup is can be told by nothing else.
RUN_PREFIX = f"test_{os.getpid()}_"

Run = Callable[..., RoleContainer]


@pytest.fixture(scope="session")
def cgroup_root() -> CgroupRoot:
    return find_root()


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The statically linked probe program (probe.c)."""
    target = tmp_path_factory.mktemp("probe") / "probe"
    source = Path(__file__).with_name("probe.c")
    subprocess.run(["gcc", "-static", "-Os", "-s", "-o", target, source], check=True)
    return target


@pytest.fixture(scope="session")
def probe_image(engine: docker.DockerClient, probe: Path) -> Iterator[str]:
    """An image that holds the probe and nothing else."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(probe, "probe")
        for name in ("workspace", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
    repository, _, tag = PROBE_IMAGE.partition(":")
    engine.api.import_image_from_data(data.getvalue(), repository=repository, tag=tag)
    yield PROBE_IMAGE
    engine.api.remove_image(PROBE_IMAGE, force=True)


@pytest.fixture
def run_id() -> str:
    return f"{RUN_PREFIX}{uuid.uuid4().hex[:12]}"


@pytest.fixture
def run_folder(state: State, run_id: str) -> Iterator[RunFolder]:
    """The folder of a live run."""
    folder = RunFolder.create(state, run_id)
    yield folder
    folder.remove()


@pytest.fixture
def run_slice(run_id: str) -> Iterator[Slice]:
    """The slice of a live run; what is still in it afterwards is killed."""
    made = Slice.create(run_id)
    yield made
    made.kill()
    assert made.wait_empty(timeout_s=60)
    made.remove()


@pytest.fixture
def run(
    engine: docker.DockerClient, state: State, run_folder: RunFolder, run_slice: Slice, probe_image: str
) -> Iterator[Run]:
    """Create the probe's container as role `role`: run("calls"), not yet started."""
    made: list[RoleContainer] = []

    def create(*arguments: str, role: Role = Role.SUBJECT, binds: tuple[Bind, ...] = ()) -> RoleContainer:
        spec = ContainerSpec(
            run_id=run_folder.run_id,
            role=role,
            image=probe_image,
            command=("/probe", *arguments),
            cgroup_parent=run_slice.cgroup_parent(role),
            binds=binds,
        )
        made.append(RoleContainer.create(engine, state, spec))
        return made[-1]

    yield create
    for container in made:
        container.remove()


@pytest.fixture(autouse=True, scope="session")
def nothing_left(cgroup_root: CgroupRoot) -> Iterator[None]:
    """No cgroup of ours that was not there before may be there at the end."""
    before = _ours(cgroup_root)
    yield
    assert _ours(cgroup_root) - before == set()


def _ours(root: CgroupRoot) -> set[str]:
    return {folder for folder, _, _ in os.walk(root.mount) if RUN_PREFIX in Path(folder).name}
