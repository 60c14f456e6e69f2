"""One container per role, started as sealed as the engine can, and the sweep of dead runs.

No network, no new privileges, an unprivileged user without capabilities (the policy proxy keeps three
out of use), a read-only root, our own seccomp profile, no init process and no health check (either
would put a second program into the role's cgroup). What a container may see is exactly what its
ContainerSpec names.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
from attrs import Factory, frozen
from docker.errors import DockerException, ImageNotFound, NotFound
from docker.types import LogConfig, Mount, Ulimit
from requests.exceptions import ReadTimeout, RequestException

from harness.engine import podman, seccomp, view
from harness.engine.answers import no_program, unfit
from harness.engine.borrowed_images import return_image
from harness.engine.output import Output
from harness.errors import InputError
from harness.evidence.model import Role
from harness.host import cgroup
from harness.host.state import State, claim_dead_runs, live_runs

RUN_LABEL = "dev.assay.runner.run"
ROLE_LABEL = "dev.assay.runner.role"
STATE_LABEL = "dev.assay.runner.state"
USER = "65534:65534"
# What the tools' first process has, to give it up: the policy proxy becomes a user of its own, and starts
# the servers as another one (harness.policy.server).
ROOT = "0:0"
CHANGE_USER = ("KILL", "SETGID", "SETUID")
# the owner, because runc gives it the mode of the image's folder, whatever mode= says
_TMPFS = {"/tmp": "rw,nosuid,nodev,exec,uid=65534,gid=65534,size=268435456"}  # noqa: S108 - in the container
# Processes and threads: of a container, where the engine has the controller for it (not on a hybrid host);
# and of all containers of the host together, which setrlimit(2) counts by their user.
_PROCESSES, _PROCESSES_OF_ALL = 2048, 4096
# Two files: when the newer one has just been begun, the end of what was written is in the other.
_LOG_LIMIT = {"max-size": "4m", "max-file": "2"}


@frozen
class Bind:
    """A path of the host at `target` in the container; it must exist."""

    source: Path
    target: str
    writable: bool = False


@frozen
class ContainerSpec:
    """All that makes a role's container. `cgroup_parent` comes from Slice.cgroup_parent.

    user, capabilities  of its first process; no other capability can be had in it
    """

    run_id: str
    role: Role
    image: str
    command: tuple[str, ...]
    cgroup_parent: str
    env: Mapping[str, str] = Factory(dict)
    binds: tuple[Bind, ...] = ()
    user: str = USER
    capabilities: tuple[str, ...] = ()
    working_dir: str = "/workspace"
    hostname: str = "assay"


@frozen
class RoleContainer:
    """A created container. Engine errors become EnvironmentUnfitError with the engine's own words."""

    client: docker.DockerClient
    spec: ContainerSpec
    id: str

    @classmethod
    def create(cls, client: docker.DockerClient, state: State, spec: ContainerSpec) -> "RoleContainer":
        """Create it, not yet started; InputError when the image is not there."""
        api = client.api
        # mounts, not binds: a missing source is an error instead of a new empty folder
        mounts = [
            Mount(bind.target, str(bind.source), type="bind", read_only=not bind.writable)
            for bind in spec.binds
        ]
        is_podman = podman.is_podman(client)
        profile = podman.seccomp_file(state, spec.run_id) if is_podman else seccomp.profile_json()
        view_options = [view.PODMAN_OPTION] if is_podman else []
        host = api.create_host_config(
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            cap_add=list(spec.capabilities),
            security_opt=["no-new-privileges", f"seccomp={profile}", *view_options],
            cgroup_parent=spec.cgroup_parent,
            cgroupns="private",
            ipc_mode="private",
            init=False,
            tmpfs=podman.TMPFS if is_podman else _TMPFS,
            mounts=mounts,
            pids_limit=_PROCESSES,
            # fixed, because programs ask for it and act on it; no core files
            ulimits=[
                Ulimit(name="nofile", soft=1024, hard=4096),
                Ulimit(name="core", soft=0, hard=0),
                Ulimit(name="nproc", soft=_PROCESSES_OF_ALL, hard=_PROCESSES_OF_ALL),
            ],
            log_config=LogConfig(type=LogConfig.types.JSON, config=_LOG_LIMIT),
        )
        host |= view.paths()
        try:
            made = api.create_container(
                spec.image,
                entrypoint=list(spec.command),
                user=spec.user,
                working_dir=spec.working_dir,
                hostname=spec.hostname,
                environment=dict(spec.env),
                labels={RUN_LABEL: spec.run_id, ROLE_LABEL: str(spec.role), STATE_LABEL: str(state.root)},
                healthcheck={"test": ["NONE"]},
                host_config=podman.without_missing_limits(host) if is_podman else host,
                use_config_proxy=False,
            )
        except ImageNotFound:
            raise InputError(
                f"the image {spec.image} is not there", hint="build it: `assay-runner image build`"
            ) from None
        except RequestException as error:  # of the engine (APIError), or because there is none any more
            raise unfit(f"the {spec.role} container cannot be created", error) from None
        return cls(client, spec, str(made["Id"]))

    def start(self) -> None:
        """Start it; InputError if the image has no such program, EnvironmentUnfitError for anything else."""
        try:
            self.client.api.start(self.id)
        except RequestException as error:
            missing = no_program(error)
            if missing is not None:
                raise InputError(
                    f"the {self.spec.role} container cannot start {missing}",
                    hint="name a program of the image",
                ) from None
            raise unfit(f"the {self.spec.role} container does not start", error) from None

    def state_pid(self) -> int:
        """Host pid of its first process, 0 when it does not run (State.Pid of the engine)."""
        return int(self._state()["Pid"])

    def wait(self, timeout_s: float) -> int | None:
        """Its exit code (128 + n after signal n), or None if it still runs at the timeout."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                return int(self.client.api.wait(self.id, timeout=left)["StatusCode"])
            except ReadTimeout:
                break
            except RequestException as error:
                if "Read timed out" not in str(error):  # the pooled connection's way to say ReadTimeout
                    raise unfit("the engine went away", error) from None
        state = self._state()
        return None if state["Running"] else int(state["ExitCode"])

    def kill(self) -> None:
        """SIGKILL its processes; no error if it has ended."""
        try:
            self.client.api.kill(self.id)
        except NotFound:
            pass
        except RequestException as error:
            if getattr(error, "status_code", 0) != 409:  # it is not running
                raise unfit("the container cannot be killed", error) from None

    def output(self) -> Output:
        """What it wrote, or the last megabytes of it; for diagnostics only."""
        try:
            streams = [self.client.api.logs(self.id, stdout=out, stderr=not out) for out in (True, False)]
        except (DockerException, RequestException):
            return Output()
        return Output(*map(bytes, streams))

    def remove(self) -> None:
        """Remove it, running or not; no error if it is gone."""
        _remove(self.client, self.id)

    def _state(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.client.api.inspect_container(self.id)["State"]
        except RequestException as error:
            raise unfit("the container is gone", error) from None
        return found


def sweep_dead_runs(client: docker.DockerClient, state: State) -> list[str]:
    """Remove all that dead runs left: processes, containers, slices, images, folders. Gives their names.

    Thaws before it kills, because a run may have died while its slice was frozen. Runs that are
    alive are not touched, nor those of another state folder that uses the same engine.
    """
    folders = claim_dead_runs(state)
    slices = cgroup.claim_dead_slices(cgroup.find_root())
    for dead in slices:
        dead.thaw()
        dead.kill()
    swept = _sweep_containers(client, state, frozenset(f.run_id for f in folders))
    for dead in slices:
        dead.wait_empty(timeout_s=10.0)
        dead.remove()
    for folder in folders:
        return_image(client, folder)
        folder.remove()
    return sorted({*swept, *(s.run_id for s in slices), *(f.run_id for f in folders)})


def _sweep_containers(client: docker.DockerClient, state: State, dead: frozenset[str]) -> set[str]:
    mine = {"label": [f"{STATE_LABEL}={state.root}"]}
    listed = client.api.containers(all=True, filters=mine)
    # asked after the listing: a run that has a container in it held its lock before
    alive = live_runs(state) - dead  # the locks of the dead are ours now
    swept = set()
    for entry in listed:
        run_id = str(entry["Labels"].get(RUN_LABEL, ""))
        if run_id not in alive:
            _remove(client, str(entry["Id"]))
            swept.add(run_id)
    return swept


def _remove(client: docker.DockerClient, identity: str) -> None:
    deadline = time.monotonic() + 10.0
    while True:
        try:
            client.api.remove_container(identity, v=True, force=True)
        except NotFound:
            return
        except RequestException as error:
            # 409: the engine is still removing it
            if getattr(error, "status_code", 0) != 409 or time.monotonic() > deadline:
                raise unfit("the container cannot be removed", error) from None
            time.sleep(0.05)
        else:
            return
