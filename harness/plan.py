"""A run with everything decided: what `measure` gets, whether it comes from a fixture or an image."""

import json
import os
from functools import partial
from pathlib import Path

from attrs import evolve, frozen

from harness.errors import InputError
from harness.evidence.assemble import RunContext
from harness.evidence.control import DECISIONS_SOCKET, MCP_SOCKET, SDK_SOCKET
from harness.evidence.image import RunImage
from harness.evidence.model import Role
from harness.evidence.programs import (
    BRIDGE,
    ENTRY,
    PROXY,
    SERVER,
    SHEBANG_BYTES,
    Program,
    resolve,
    shebang,
)
from harness.policy.check import check_policy
from harness.spec import Fixture, RunSpec, SubjectSpec, ToolsSpec
from harness.work_folder import WorkFolder, sha256, survey

FIXTURES = Path(__file__).resolve().parents[1] / "runner-fixtures"
WORKSPACE = "/workspace"
AGENT_USER, PROXY_USER = 65534, 65533  # the agent and the MCP servers; the proxy. Why not one each: ADR 8

# The same in every run, so that nothing of the host's environment reaches the evidence.
FIXED_ENV = {
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "MALLOC_ARENA_MAX": "8",  # else glibc looks up the CPUs once threads need a ninth arena, which is a race
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    "SOURCE_DATE_EPOCH": "1735689600",
    "TMPDIR": "/dev/shm",  # noqa: S108 - in the container
    "TZ": "UTC",
}
_PYTHON = ("/usr/bin/python3.11", "-I", "-S", "-B")  # -I ignores the environment, hence -B
BRIDGE_COMMAND = (*_PYTHON, "/opt/assay/bridge.py", MCP_SOCKET)


@frozen
class Given:
    """What is in the work folder, the digest of the policy, and which programs the declared ones are."""

    work: WorkFolder
    policy_sha256: str | None
    programs: tuple[Program, ...]


@frozen(kw_only=True)
class Plan:
    """`spec` is valid, `inputs` and `policy` exist, the engine has the image.

    given  what the run's containers were given of both, once they have been copied
    """

    spec: RunSpec
    name: str
    image: RunImage
    subject: SubjectSpec
    witnesses: tuple[str, ...]
    network: str = "none"
    volatile: tuple[str, ...] = ()
    inputs: Path | None = None
    tools: ToolsSpec | None = None
    policy: Path | None = None
    given: Given | None = None

    @property
    def proxy_command(self) -> tuple[str, ...]:
        """Argv of the tools container's first process."""
        assert self.tools is not None, "a plan without tools has no proxy"
        options = ("--decisions", DECISIONS_SOCKET, "--users", f"{PROXY_USER}:{AGENT_USER}")
        source = ("--source", f"assay://runner-spike/{self.spec.run_id}")
        legacy = ("--legacy",) if self.tools.legacy else ()
        return (*_PYTHON, "/opt/assay/proxy.py", *options, *source, *legacy, "--", *self.tools.server)

    @property
    def env(self) -> dict[str, str]:
        """The subject's whole environment."""
        return FIXED_ENV | self.spec.env

    @property
    def tools_env(self) -> dict[str, str]:
        """The tools container's whole environment."""
        return FIXED_ENV | (self.tools.env if self.tools else {})

    def context(self) -> RunContext:
        """What evidence needs to know about the declarations."""
        given = self.given or self.described(self.inputs, self.policy)
        plumbing: dict[Role, tuple[tuple[str, ...], ...]] = {
            Role.SUBJECT: (self.subject.command, BRIDGE_COMMAND)
        }
        if self.tools is not None:
            plumbing[Role.TOOLS] = (self.proxy_command, self.tools.server)
        return RunContext(
            spec=self.spec,
            fixture=self.name,
            image=self.image,
            deadline_s=float(self.subject.deadline_s),  # an int is written differently
            witnesses=self.witnesses,
            network=self.network,
            volatile=self.volatile,
            plumbing=plumbing,
            policy_sha256=given.policy_sha256,
            tools_server=self.tools.server if self.tools else None,
            tools_env=self.tools.env if self.tools else None,
            tools_legacy=self.tools.legacy if self.tools else None,
            workspace=self.tools.workspace if self.tools else "none",
            inputs=given.work.files,
            input_folders=given.work.folders,
            input_programs=given.work.programs,
            input_links=given.work.links,
            programs=given.programs,
        )

    def described(self, work: Path | None, policy: Path | None) -> Given:
        """Look at the files that the run is given, or is to be given. InputError as `survey`."""
        found = survey(work) if work else WorkFolder()
        return Given(found, sha256(policy) if policy else None, self._programs(work))

    def _programs(self, inputs: Path | None) -> tuple[Program, ...]:
        """The declared programs, as they are in the image and the inputs; those that are there."""
        files = self.image.files
        if files is None:
            return ()
        agent, tools = (env.get("PATH", self.image.search) for env in (self.env, self.tools_env))
        wanted = [(ENTRY, self.subject.command, agent)]
        if self.tools is not None:
            wanted += [
                (BRIDGE, BRIDGE_COMMAND, agent),
                (PROXY, self.proxy_command, tools),
                (SERVER, self.tools.server, tools),
            ]
        found = (
            resolve(part, command, files, search, partial(_from_inputs, inputs))
            for part, command, search in wanted
        )
        return tuple(program for program in found if program is not None)


def _from_inputs(inputs: Path | None, path: bytes) -> tuple[bytes, bytes | None] | None:
    """A program of the work folder (harness.evidence.programs.FromWorkspace)."""
    if inputs is None:
        return None
    root = inputs.resolve()
    file = (root / os.fsdecode(path.removeprefix(WORKSPACE.encode())).lstrip("/")).resolve()
    if not (file.is_relative_to(root) and file.is_file() and file.stat().st_mode & 0o111):
        return None
    with file.open("rb") as data:
        first = data.read(SHEBANG_BYTES)
    return os.fsencode(f"{WORKSPACE}/{file.relative_to(root)}"), shebang(first)


def plan_fixture(fixture: Fixture, image: RunImage, *, run_id: str | None) -> Plan:
    """A fixture's run. InputError for a bad run id, policy or input; nothing has been started then."""
    file = fixture.file
    if fixture.policy is not None:
        check_policy(fixture.policy)
    spec = _spec(file.subject, file.agent_shim, run_id, file.witnesses)
    survey(fixture.inputs)
    return Plan(
        spec=spec,
        name=fixture.name,
        image=image,
        subject=file.subject,
        witnesses=file.witnesses,
        network=file.network,
        volatile=file.volatile,
        inputs=fixture.inputs,
        tools=file.tools,
        policy=fixture.policy,
    )


def plan_image(
    command: tuple[str, ...],
    image: RunImage,
    *,
    run_id: str | None,
    inputs: Path | None,
    deadline_s: float,
) -> Plan:
    """The run of any command in any image, with the kernel witness alone."""
    subject = SubjectSpec(command=command, deadline_s=deadline_s)
    if inputs is not None and not inputs.is_dir():
        raise InputError("not a folder", place=str(inputs), hint="--work takes a folder of input files")
    if deadline_s <= 0:
        raise InputError("the deadline must be positive", place="--deadline", hint="give seconds")
    spec = _spec(subject, "none", run_id, ("kernel",))
    if inputs is not None:
        survey(inputs)
    return Plan(
        spec=spec,
        name=image.tag,
        image=image,
        subject=subject,
        witnesses=("kernel",),
        inputs=inputs,
    )


def contract_spec(command: tuple[str, ...], *, run_id: str | None, agent_shim: str) -> RunSpec:
    """The validated spec of a run without kernel capture."""
    spec = RunSpec(command=command, agent_shim=agent_shim)
    if run_id is not None:
        spec = evolve(spec, run_id=run_id)
    spec.validate()
    return spec


def _spec(subject: SubjectSpec, agent_shim: str, run_id: str | None, witnesses: tuple[str, ...]) -> RunSpec:
    spec = contract_spec(subject.command, run_id=run_id, agent_shim=agent_shim)
    env = dict(subject.env) | {"ASSAY_RUNNER_RUN_ID": spec.run_id}
    if "sdk" in witnesses:
        env["ASSAY_RUNNER_SDK_EVENT_SCHEMA"] = "assay.runner.sdk_event.v0"
        env["ASSAY_RUNNER_SDK_SOCKET"] = SDK_SOCKET
    if "policy" in witnesses:
        env["ASSAY_RUNNER_MCP_COMMAND"] = json.dumps(BRIDGE_COMMAND)
    return RunSpec(
        command=spec.command, run_id=spec.run_id, agent_shim=agent_shim, env=dict(sorted(env.items()))
    )
