"""One measured run, top to bottom (design §2). Nothing else orchestrates."""

import os
import shutil
import signal as signals
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from attrs import evolve, frozen

from harness import work_folder
from harness.bench import Bench
from harness.bundle.bounded import assemble_within_bounds, write_within_bounds
from harness.contracts.bounds import MAX_NAME_BYTES
from harness.engine.containers import CHANGE_USER, ROOT, USER, Bind, ContainerSpec, RoleContainer
from harness.engine.output import Output
from harness.errors import CommandFailedError, EnvironmentUnfitError, EvidenceError, InputError
from harness.evidence.assemble import Assembled
from harness.evidence.causes import MISSING_ID, causes
from harness.evidence.control import DECISIONS_SOCKET, MCP_SOCKET, SDK_SOCKET
from harness.evidence.model import (
    ChannelLog,
    KernelRecord,
    Kind,
    Observation,
    Role,
    RoleOutcome,
)
from harness.host.cgroup import Slice
from harness.host.namespaces import Namespaces
from harness.host.state import RunFolder
from harness.plan import AGENT_USER, PROXY_USER, WORKSPACE, Plan
from harness.recorder.apart import proxy_problems
from harness.recorder.channel import Channel, Recorder, listening, type_of

READY = "assay.proxy.ready"
DECISION = "assay.tool.decision"
ENGINE_LOST = "engine_lost"
_READY_TIMEOUT = 30.0  # seconds
_STOP_TIMEOUT = 10.0


@frozen
class Measured:
    """What a run gave. `phases` are milliseconds by step; `output` what both containers wrote."""

    plan: Plan
    observation: Observation
    assembled: Assembled
    phases: dict[str, float]
    output: dict[Role, Output]

    @property
    def decision_log(self) -> bytes:
        """The CloudEvents decision lines as they arrived (contracts §5.1)."""
        lines = (line.data for line in self.observation.decisions.lines)
        return b"".join(line + b"\n" for line in lines if type_of(line) == DECISION)

    def write(self, path: Path) -> "Measured":
        """Write the archive, whole or not at all; gives the run as the archive tells it.

        Of a run beyond the bounds that verifiers keep, that is its beginning, and not clean.
        """
        told = self.observation, self.assembled
        observation, assembled = write_within_bounds(path, self.observation, self.plan.context(), told)
        return evolve(self, observation=observation, assembled=assembled)

    def verdict(self) -> None:
        """Raise EvidenceError or CommandFailedError; evidence that was lost outranks a failed command.

        Messages say what happened in words, with the code that the archive has; hints say what to do.
        """
        subject, assembled = self.observation.subject, self.assembled
        witnesses = {f"missing_witness:{name}" for name in assembled.missing_witnesses}
        if damage := [code for code in assembled.unclean if code not in witnesses]:
            raise EvidenceError(f"the evidence is not clean: {_told(damage)}", hint=self._hint(damage))
        if self.observation.timed_out:
            limit = self.plan.subject.deadline_s
            raise CommandFailedError(
                f"the agent was still running after {limit:g} s and was killed", hint=self._hint(())
            )
        if not subject.success:
            how = f"signal {subject.signal}" if subject.signal else f"exit code {subject.exit_code}"
            raise CommandFailedError(f"the agent ended with {how}", hint=self._hint(()))
        if witnesses:
            codes = sorted(witnesses)
            if assembled.idless_calls:  # calls did come: that is why there is no decision that v0 can hold
                codes = [MISSING_ID, *(code for code in codes if code != "missing_witness:policy")]
            raise EvidenceError(
                f"no evidence from: {', '.join(assembled.missing_witnesses)}: "
                f"{_told(codes, assembled.idless_calls)}",
                hint=self._hint(codes),
            )

    def _hint(self, codes: Iterable[str]) -> str:
        """The next step for each code, what it tried to reach in vain, and what both sides wrote last."""
        lines = list(dict.fromkeys(found.hint for found in causes(codes)))
        tried = self.assembled.surface.network_endpoints
        if tried and self.plan.network == "none":
            more = f" and {len(tried) - 3} more" if len(tried) > 3 else ""
            lines.append(
                f"the container has no network; it tried {', '.join(tried[:3])}{more}; "
                'network = "loopback" in fixture.toml if it talks to itself'
            )
        for role, name in ((Role.SUBJECT, "agent"), (Role.TOOLS, "server")):
            lines += self.output.get(role, Output()).ends(name)
        return "\n        ".join(lines)


def _told(codes: Iterable[str], idless: int = 0) -> str:
    """What the codes mean, each with its code."""
    counted = {MISSING_ID: f"{idless} "}
    return "; ".join(f"{counted.get(found.code, '')}{found.text} ({found.code})" for found in causes(codes))


class _Clock:
    """Milliseconds by phase."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self._last = self.begun = time.monotonic_ns()

    def lap(self, phase: str) -> None:
        now = time.monotonic_ns()
        self.phases[phase] = round((now - self._last) / 1e6, 1)
        self._last = now


def measure(bench: Bench, plan: Plan, *, hostname: str = "assay") -> Measured:  # noqa: PLR0915 - design §2 as a list
    """Run the plan once. Raises EnvironmentUnfitError or InputError if it could not be started.

    Whatever the agent does, the result is an observation: verdicts come later.
    """
    run_id, clock = plan.spec.run_id, _Clock()
    with ExitStack() as stack:
        folder, slice_ = bench.claim(run_id)
        stack.callback(folder.remove)
        stack.callback(_end_slice, slice_)
        places = _folders(folder, plan)
        # digests are of what is mounted: the originals may change meanwhile
        plan = evolve(plan, given=plan.described(places["workspace"], places.get("policy")))
        clock.lap("slice")

        capture = bench.capture
        capture.arm(
            run=slice_.path,
            subject=slice_.role_path(Role.SUBJECT),
            tools=slice_.role_path(Role.TOOLS),
            sentinel=slice_.role_path(Role.HARNESS),
            spool=folder.path / "kernel.raw",
        )
        stack.callback(capture.abandon)
        clock.lap("capture_armed")

        recorder = stack.enter_context(Recorder(_channels(places), flooded=slice_.kill))
        clock.lap("recorders_armed")

        problems: list[str] = []
        containers: dict[Role, RoleContainer] = {}
        for container in _created(bench, plan, slice_, places, hostname):
            stack.callback(_remove, container, problems)
            containers[container.spec.role] = container
        clock.lap("containers_created")

        namespaces = Namespaces(slice_, subject=plan.network)
        stack.callback(namespaces.close)
        if Role.TOOLS in containers:
            namespaces.start(Role.TOOLS, containers[Role.TOOLS].start)
            if _proxy_ready(recorder, slice_):
                problems += proxy_problems(slice_.pids(Role.TOOLS), PROXY_USER)
            else:
                problems.append("proxy_not_ready")
            clock.lap("tools_ready")

        started, timed_out, survivors = time.monotonic_ns(), False, 0
        if not problems:
            namespaces.start(Role.SUBJECT, containers[Role.SUBJECT].start)
            clock.lap("subject_started")
            timed_out = not slice_.wait_empty(Role.SUBJECT, timeout_s=plan.subject.deadline_s)
            if timed_out:
                slice_.kill(Role.SUBJECT)
                slice_.wait_empty(Role.SUBJECT, timeout_s=_STOP_TIMEOUT)
        elapsed_ns = time.monotonic_ns() - started
        clock.lap("subject_ran")

        if Role.TOOLS in containers:
            recorder.hang_up("decisions")
        if not slice_.wait_empty(timeout_s=_STOP_TIMEOUT):
            survivors = slice_.kill()
            slice_.wait_empty(timeout_s=_STOP_TIMEOUT)
        clock.lap("tools_stopped")

        outcomes = {role: _outcome(containers[role], namespaces, problems) for role in containers}
        output = {role: container.output() for role, container in containers.items()}
        seals = namespaces.seals()
        clock.lap("closed")

        records, accounting = capture.disarm()
        logs = recorder.close()
        clock.lap("drained")
    clock.lap("removed")

    observation = Observation(
        records=records,
        accounting=accounting,
        decisions=logs.get("decisions", ChannelLog()),
        sdk_events=logs.get("sdk", ChannelLog()),
        subject=_as_the_kernel_saw(records, Role.SUBJECT, outcomes[Role.SUBJECT]),
        tools=_as_the_kernel_saw(records, Role.TOOLS, outcomes[Role.TOOLS]) if plan.tools else None,
        timed_out=timed_out,
        survivors=survivors,
        elapsed_ms=elapsed_ns // 10**6,
        seals=seals,
        host=bench.host_facts() | {"hostname": hostname},
        problems=tuple(problems),
        beyond=f"more than {MAX_NAME_BYTES} bytes of names" if any(accounting.left_out.values()) else "",
    )
    observation, assembled = assemble_within_bounds(observation, plan.context())
    clock.lap("evidence")
    return Measured(plan, observation, assembled, clock.phases, output)


def _folders(folder: RunFolder, plan: Plan) -> dict[str, Path]:
    """The run's folders on the host; inputs are copied, so a run cannot change them."""
    try:
        return _filled_folders(folder, plan)
    except (FileNotFoundError, shutil.Error) as error:
        raise InputError(
            f"inputs or policy went away before the start: {error}", place=plan.name, hint="put them back"
        ) from None
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the run's folders cannot be filled: {error}", place=str(folder.path), hint="is that disk full?"
        ) from None


def _filled_folders(folder: RunFolder, plan: Plan) -> dict[str, Path]:
    workspace = folder.subfolder("workspace", owner=AGENT_USER)
    if plan.inputs is not None:
        work_folder.copy(plan.inputs, workspace, AGENT_USER)
    places = {"workspace": workspace}
    if plan.tools is not None and plan.policy is not None:
        places["mcp"] = folder.subfolder("mcp")
        places["decisions"] = folder.subfolder("decisions", mode=0o700)  # the proxy enters while it is root
        places["policy"] = folder.path / "policy.toml"  # mounted nowhere: the proxy is handed it, open
        shutil.copy(plan.policy, places["policy"])
    if "sdk" in plan.witnesses:
        places["sdk"] = folder.subfolder("sdk")
    return places


def _channels(places: dict[str, Path]) -> list[Channel]:
    channels = []
    if "decisions" in places:
        path = places["decisions"] / Path(DECISIONS_SOCKET).name
        listener = listening(places["mcp"] / Path(MCP_SOCKET).name, mode=0o666)
        handed = listener.detach(), os.open(places["policy"], os.O_RDONLY | os.O_CLOEXEC)
        channels.append(Channel("decisions", path, acknowledge=True, exclusive=True, hand_over=handed))
    if "sdk" in places:
        channels.append(Channel("sdk", places["sdk"] / Path(SDK_SOCKET).name))
    return channels


def _created(
    bench: Bench, plan: Plan, slice_: Slice, places: dict[str, Path], hostname: str
) -> Iterator[RoleContainer]:
    """Both containers, tools first, each as soon as it is created, so that none is forgotten."""
    subject = [Bind(places["workspace"], WORKSPACE, writable=True)]
    if "sdk" in places:
        subject.append(Bind(places["sdk"], str(Path(SDK_SOCKET).parent)))
    wanted: dict[Role, tuple[tuple[str, ...], dict[str, str], list[Bind]]] = {}
    if plan.tools is not None:
        subject.append(Bind(places["mcp"], str(Path(MCP_SOCKET).parent)))
        tools = [
            Bind(places["workspace"], WORKSPACE, writable=plan.tools.workspace == "rw"),
            Bind(places["decisions"], str(Path(DECISIONS_SOCKET).parent)),
        ]
        wanted[Role.TOOLS] = plan.proxy_command, plan.tools_env, tools
    wanted[Role.SUBJECT] = plan.subject.command, plan.env, subject
    for role, (command, env, binds) in wanted.items():
        spec = ContainerSpec(
            run_id=plan.spec.run_id,
            role=role,
            image=plan.image.handle or plan.image.id,
            command=command,
            user=ROOT if role is Role.TOOLS else USER,
            capabilities=CHANGE_USER if role is Role.TOOLS else (),
            cgroup_parent=slice_.cgroup_parent(role),
            env=env,
            binds=tuple(binds),
            hostname=hostname,
        )
        yield RoleContainer.create(bench.client, bench.state, spec)


def _proxy_ready(recorder: Recorder, slice_: Slice) -> bool:
    """Wait until the proxy says so; no longer than it lives."""
    deadline = time.monotonic() + _READY_TIMEOUT
    while time.monotonic() < deadline:
        if recorder.wait_for("decisions", READY, 1.0) is not None:
            return True
        if slice_.wait_empty(Role.TOOLS, timeout_s=0.05):
            return recorder.wait_for("decisions", READY, 0.0) is not None
    return False


def _end_slice(slice_: Slice) -> None:
    slice_.thaw()
    slice_.kill()
    slice_.wait_empty(timeout_s=_STOP_TIMEOUT)
    slice_.remove()


def _outcome(container: RoleContainer, namespaces: Namespaces, problems: list[str]) -> RoleOutcome:
    """The engine's word: 128 + n may be signal n or a program's own exit code."""
    code = None
    if namespaces.knows(container.spec.role):
        try:
            code = container.wait(_STOP_TIMEOUT)
        except EnvironmentUnfitError:
            problems.append(ENGINE_LOST)  # what the kernel saw is still evidence
    return RoleOutcome(exit_code=code, signal=None)


def _remove(container: RoleContainer, problems: list[str]) -> None:
    try:
        container.remove()
    except EnvironmentUnfitError:
        problems.append(ENGINE_LOST)  # the next start finds it and removes it


def _as_the_kernel_saw(records: tuple[KernelRecord, ...], role: Role, engine: RoleOutcome) -> RoleOutcome:
    """The end of the role's first process from its exit record (task_struct.exit_code: wait status)."""
    for record in reversed(records):
        if record.kind is Kind.EXIT and record.role is role and record.vpid == 1 and record.args[1]:
            status = record.args[0]
            signal = status & 0x7F
            if signal:
                return evolve(engine, exit_code=None, signal=signal)
            return evolve(engine, exit_code=status >> 8 & 0xFF)
    if engine.exit_code is not None and engine.exit_code > 128 and engine.exit_code - 128 < signals.NSIG:
        return evolve(engine, exit_code=None, signal=engine.exit_code - 128)
    return engine
