"""From one observed run to the members of its archive (design §2 step 9). Never fails on evidence:
a run whose agent crashed, hung, or wrote garbage gives an archive that says so.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import Factory, evolve, frozen

from harness.contracts import companion, manifest
from harness.contracts.bounds import MAX_CHANNEL_LINES, MAX_DOCUMENT, MAX_PROBLEMS
from harness.contracts.canonical import ndjson, to_bytes
from harness.contracts.companion import (
    AccountingV1,
    DeclaredProgram,
    HostV1,
    KernelEventV1,
    NetworkSealV1,
    RunSpecDocV1,
)
from harness.contracts.converter import unstructure
from harness.contracts.correlation import CorrelationReport
from harness.contracts.health import ObservationHealth
from harness.contracts.rules import sorted_unique
from harness.contracts.run_event import RunFinished, RunStarted
from harness.contracts.surface import CapabilitySurface
from harness.evidence.accounting import (
    LEFT_OUT,
    Books,
    capture_counts,
    class_counts,
    keep_books,
    problem_codes,
    role_seal,
)
from harness.evidence.attribute import attribute, read_calls
from harness.evidence.classify import Classified, Context, EventClass, classify
from harness.evidence.correlate import correlate, surface
from harness.evidence.health import derive_health
from harness.evidence.image import RunImage
from harness.evidence.kernel_v0 import kernel_events_v0
from harness.evidence.kernel_v1 import kernel_events_v1
from harness.evidence.layers import PolicyLayer, SdkLayer, policy_layer, sdk_layer
from harness.evidence.model import ChannelLog, Observation, Role, TooMuchError
from harness.evidence.operations import Operation
from harness.evidence.paths import text
from harness.evidence.plumbing import subject_sockets
from harness.evidence.processes import Processes, process_tree, read_processes
from harness.evidence.programs import Command, Program
from harness.evidence.surface_v1 import surface_v1
from harness.evidence.tripwires import tripped
from harness.spec import RunSpec

_LEAST = 90  # bytes of an operation in companion/attribution.json, beside its names


@frozen(kw_only=True)
class RunContext:
    """What was declared before the run; `spec.env` is what the runner set for the subject.

    tools_env      what the fixture set for the tools; None without tools, as is `tools_legacy`
    tools_legacy   the proxy answers server/discover itself
    plumbing       per role, argv of every program that belongs to the run itself
    programs       what these are in the image
    network        "none", or "loopback" if the agent may talk to itself
    workspace      how the tools see /workspace: "ro", "rw", or "none" without tools
    volatile       globs for names that the agent makes up anew in each run
    inputs         file below /workspace -> sha256:... of its bytes
    input_folders  folders below /workspace that nothing is in
    input_programs inputs that can be executed
    input_links    link below /workspace -> what it says
    """

    spec: RunSpec
    fixture: str
    image: RunImage
    deadline_s: float
    witnesses: tuple[str, ...]
    network: str = "none"
    plumbing: Mapping[Role, tuple[Command, ...]] = Factory(dict)
    programs: tuple[Program, ...] = ()
    policy_sha256: str | None = None
    tools_server: Command | None = None
    tools_env: Mapping[str, str] | None = None
    tools_legacy: bool | None = None
    workspace: str = "none"
    volatile: tuple[str, ...] = ()
    inputs: Mapping[str, str] = Factory(dict)
    input_folders: tuple[str, ...] = ()
    input_programs: tuple[str, ...] = ()
    input_links: Mapping[str, str] = Factory(dict)

    @property
    def run_id(self) -> str:
        return self.spec.run_id

    @property
    def classification(self) -> Context:
        sockets = subject_sockets(tools=self.tools_server is not None, sdk="sdk" in self.witnesses)
        return Context(
            runtime_roots=self.image.runtime_roots,
            programs=self.programs,
            sockets=sockets,
            image=self.image.files,
            volatile=self.volatile,
        )


@frozen(kw_only=True)
class Assembled:
    """Bytes of every member but the two manifests, which the writer makes, and what they say.

    unclean            stable codes, sorted; empty for a clean run
    missing_witnesses  layers that the run was to have and has not
    idless_calls       tool calls without an id: all of them were denied
    """

    v0: dict[str, bytes]
    companion: dict[str, bytes]
    unclean: tuple[str, ...]
    missing_witnesses: tuple[str, ...]
    idless_calls: int
    health: ObservationHealth
    surface: CapabilitySurface
    correlation: CorrelationReport

    @property
    def clean(self) -> bool:
        return not self.unclean


@frozen
class _Evidence:
    """All that was understood, before it is written down."""

    processes: Processes
    classified: Classified
    policy: PolicyLayer
    sdk: SdkLayer
    missing: tuple[str, ...]
    books: Books
    lines: list[KernelEventV1]


def assemble(observation: Observation, context: RunContext) -> Assembled:
    """Decode, classify, correlate, check the books; same observation, same bytes.

    TooMuchError for so many operations, processes or calls that the members would not fit into an archive.
    """
    evidence = _understand(observation, context)
    run_id, books = context.run_id, evidence.books
    policy_events, sdk_events = evidence.policy.events, evidence.sdk.events
    kernel_events = kernel_events_v0(run_id, evidence.classified)
    captured = observation.accounting is not None
    health = derive_health(
        run_id,
        kernel_events=len(kernel_events),
        kernel_asked=captured,
        ring_drops=books.ring_drops,
        other_losses=books.lost,
        unclean=books.kernel_unclean if captured else (),
        policy_events=len(policy_events),
        sdk_events=len(sdk_events),
        sdk_tool_calls=len(evidence.sdk.tool_call_ids),
        platform=context.spec.platform,
    )
    capabilities = surface(run_id, kernel_events, policy_events)
    correlation = correlate(
        run_id, policy_events, len(kernel_events), sdk_events, evidence.policy.idless_calls
    )
    v0 = {
        manifest.SURFACE: _document(capabilities),
        manifest.CORRELATION: _document(correlation),
        manifest.EVENTS: _lines(_run_events(observation, context.spec)),
        manifest.KERNEL: _lines(kernel_events),
        manifest.POLICY: _lines(policy_events),
        manifest.SDK: _lines(sdk_events),
        manifest.HEALTH: _document(health),
    }
    return Assembled(
        v0=v0,
        companion=_companion(observation, context, evidence),
        unclean=books.unclean,
        missing_witnesses=evidence.missing,
        idless_calls=evidence.policy.idless_calls,
        health=health,
        surface=capabilities,
        correlation=correlation,
    )


def _understand(observation: Observation, context: RunContext) -> _Evidence:
    run_id = context.run_id
    for log in (observation.decisions, observation.sdk_events):
        if len(log.lines) > MAX_CHANNEL_LINES:
            raise TooMuchError("lines of one channel", MAX_CHANNEL_LINES)
    processes = read_processes(observation.records)
    classified = classify(observation.records, processes, context.classification)
    if observation.accounting is not None:
        beyond = sum(observation.accounting.left_out.values())
        classified = evolve(classified, counts={**classified.counts, EventClass.LEFT_OUT: beyond})
    policy = policy_layer(_data(observation.decisions), run_id)
    sdk = sdk_layer(_data(observation.sdk_events), run_id)
    missing = _missing(context.witnesses, observation, policy, sdk)
    problems = problem_codes("decisions", observation.decisions, policy.problems)
    problems += problem_codes("sdk", observation.sdk_events, sdk.problems)
    _bound(classified)
    lines = kernel_events_v1(run_id, classified)
    problems += tripped(lines)
    books = keep_books(observation, processes, classified, problems, missing)
    return _Evidence(processes, classified, policy, sdk, missing, books, lines)


def _bound(classified: Classified) -> None:
    """How long companion/attribution.json is at least, which names each distinct operation that matters."""
    if sum(_length(operation) for operation in classified.main) <= MAX_DOCUMENT:  # nearly always
        return
    distinct = {(op.process, op.name, op.outcome, op.path, op.path2): _length(op) for op in classified.main}
    if sum(distinct.values()) > MAX_DOCUMENT:
        raise TooMuchError("bytes of distinct operations", MAX_DOCUMENT)


def _length(operation: Operation) -> int:
    return _LEAST + len(operation.path or b"") + len(operation.path2 or b"")


def _missing(
    witnesses: Iterable[str], observation: Observation, policy: PolicyLayer, sdk: SdkLayer
) -> tuple[str, ...]:
    present = {
        "kernel": observation.accounting is not None,
        "policy": bool(policy.events),
        "sdk": bool(sdk.events),
    }
    return sorted_unique(name for name in witnesses if not present.get(name, False))


def _run_events(observation: Observation, spec: RunSpec) -> tuple[RunStarted, RunFinished]:
    subject = observation.subject
    started = RunStarted(
        run_id=spec.run_id,
        agent_shim=spec.agent_shim,
        command=tuple(spec.command),
        env_keys=sorted_unique(spec.env),
    )
    finished = RunFinished(
        run_id=spec.run_id,
        exit_code=subject.exit_code,
        signal=subject.signal,
        success=subject.success and not observation.timed_out,
        window_elapsed_ms=observation.elapsed_ms,
    )
    return started, finished


def _companion(observation: Observation, context: RunContext, evidence: _Evidence) -> dict[str, bytes]:
    run_id = context.run_id
    calls = read_calls(_data(observation.decisions))
    seals = tuple(role_seal(seal) for seal in sorted(observation.seals, key=lambda seal: seal.role.value))
    host = HostV1(run_id=run_id, facts=dict(sorted(observation.host.items())))
    lines = evidence.lines
    return {
        companion.ACCOUNTING: _document(_accounting(observation, run_id, evidence)),
        companion.ATTRIBUTION: _document(attribute(run_id, evidence.classified, calls)),
        companion.HOST: _document(host),
        companion.KERNEL: _lines(lines),
        companion.POLICY: _lines(evidence.policy.told),
        companion.NETWORK: _document(NetworkSealV1(run_id=run_id, seals=seals)),
        companion.PROCESSES: _document(process_tree(run_id, evidence.processes)),
        companion.RUNSPEC: _document(runspec_document(context)),
        companion.SURFACE: _document(surface_v1(run_id, lines, evidence.policy.events)),
    }


def _accounting(observation: Observation, run_id: str, evidence: _Evidence) -> AccountingV1:
    counters, books = observation.accounting, evidence.books
    return AccountingV1(
        run_id=run_id,
        clean=not books.unclean,
        unclean=books.unclean,
        missing_witnesses=evidence.missing,
        capture=None if counters is None else capture_counts(counters),
        records=class_counts(evidence.classified),
        identities=books.identities,
        unlabelled=evidence.processes.unlabelled,
        io_uring_refused=evidence.classified.counts[EventClass.IO_URING_REFUSED],
        idless_calls=evidence.policy.idless_calls,
        policy_events=len(evidence.policy.told),
        volatile=dict(evidence.classified.volatile),
        temporary=_temporary(evidence.classified.temporary),
        host_view=dict(evidence.classified.host_view),
        survivors=observation.survivors,
        timed_out=observation.timed_out,
        problems=(*_left_out(observation), *_problem_places(evidence)),
    )


def _left_out(observation: Observation) -> Iterator[str]:
    """What is not told because of a bound, in the form of a layer's problem; line 0 is the whole layer."""
    accounting = observation.accounting
    records = sum(accounting.left_out.values()) if accounting is not None else 0
    logs = (("decisions", observation.decisions.left_out), ("sdk", observation.sdk_events.left_out))
    for layer, count, noun in (("kernel", records, "records"), *((name, n, "lines") for name, n in logs)):
        if count:
            yield f"{layer} line 0: {LEFT_OUT} {count} {noun}: {observation.beyond}"


def _temporary(names: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]] | None:
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        found.setdefault(text(names[name]), []).append(text(name))
    return {told: tuple(found[told][:MAX_PROBLEMS]) for told in sorted(found)} or None


def _problem_places(evidence: _Evidence) -> Iterator[str]:
    """Layer problems with their line, as `sdk line 2: InvalidJson ...`; the rest of very many as a count."""
    for channel, problems in (("decisions", evidence.policy.problems), ("sdk", evidence.sdk.problems)):
        for problem in problems[:MAX_PROBLEMS]:
            yield f"{channel} line {problem.line}: {problem.identity} {problem.detail}".rstrip()
        for identity, count in Counter(problem.identity for problem in problems[MAX_PROBLEMS:]).items():
            yield f"{channel} line 0: {identity} {count} times more"


def runspec_document(context: RunContext) -> RunSpecDocV1:
    """companion/runspec.json of a run with these declarations."""
    image = context.image
    return RunSpecDocV1(
        run_id=context.run_id,
        agent_shim=context.spec.agent_shim,
        command=tuple(context.spec.command),
        env=dict(sorted(context.spec.env.items())),
        fixture=context.fixture,
        image=image.tag,
        image_id=image.id,
        image_locked=image.locked,
        image_files_sha256=image.files.sha256 if image.files else None,
        runtime_roots=image.runtime_roots,
        deadline_s=context.deadline_s,
        witnesses=context.witnesses,
        network=context.network,
        policy_sha256=context.policy_sha256,
        tools_server=context.tools_server,
        tools_env=None if context.tools_env is None else dict(sorted(context.tools_env.items())),
        tools_legacy=context.tools_legacy,
        workspace=context.workspace,
        volatile=context.volatile,
        plumbing={role.value: commands for role, commands in sorted(context.plumbing.items())},
        programs=tuple(_program(program) for program in context.programs),
        inputs=dict(sorted(context.inputs.items())),
        input_folders=sorted_unique(context.input_folders),
        input_programs=context.input_programs or None,
        input_links=dict(sorted(context.input_links.items())) or None,
    )


def _program(program: Program) -> DeclaredProgram:
    return DeclaredProgram(
        part=program.part, path=text(program.path), argv=tuple(text(word) for word in program.argv)
    )


def _data(log: ChannelLog) -> list[bytes]:
    return [line.data for line in log.lines]


def _document(model: object) -> bytes:
    return to_bytes(unstructure(model))


def _lines(models: Iterable[Any]) -> bytes:
    return ndjson(unstructure(model) for model in models)
