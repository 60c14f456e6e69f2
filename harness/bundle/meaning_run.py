"""Processes, attribution and what was declared: what the companion's documents say of each other."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise, starmap

from harness.bundle.contents import Contents
from harness.bundle.meaning_layers import short
from harness.bundle.problem import Problem
from harness.contracts import companion
from harness.contracts.canonical import to_bytes
from harness.contracts.companion import (
    AccountingV1,
    AttributedCall,
    AttributedEvidence,
    AttributionV1,
    NetworkSealV1,
    ProcessNode,
    ProcessTreeV1,
    RunSpecDocV1,
)
from harness.contracts.converter import unstructure
from harness.contracts.manifest import EVENTS, POLICY
from harness.contracts.replay_kit import stays_inside
from harness.contracts.rules import is_sorted_unique, sorted_unique
from harness.evidence.attribute import AMBIGUOUS, EXACT, UNATTRIBUTED, WINDOW
from harness.evidence.model import Role
from harness.evidence.processes import ENDED_BY_CONTAINER, UNKNOWN
from harness.evidence.surface_v1 import is_main
from harness.evidence.temporary import final
from harness.spec import AGENT_SHIMS, NETWORKS, WITNESSES

_OUR_TAG = re.compile(r"assay-runner/[^:]+:([0-9a-f]{12})")  # the beginning of the image's identity
_SUBJECT, _TOOLS = Role.SUBJECT.value, Role.TOOLS.value


def process_problems(contents: Contents) -> Iterator[Problem]:
    """A tree without gaps, in order, whose programs are the executions of the kernel layer."""
    nodes = contents.document(companion.PROCESSES, ProcessTreeV1).processes
    names = [node.process for node in nodes]
    places = [_place(node.process) for node in nodes]
    if None in places:
        yield _process("/processes", "role.0 and numbers for children", short(names))
        return
    if names != [name for name, _ in sorted(zip(names, places, strict=True), key=lambda pair: pair[1] or ())]:
        yield _process("/processes", "processes in order", short(names))
    known = set(names)
    for index, node in enumerate(nodes):
        yield from _node_problems(f"/processes/{index}", node, known)
    if len(known) != len(names):
        yield _process("/processes", "each process once", short(names))
    yield from _exec_problems(contents, nodes)
    roles_kept = "left_slice" not in contents.document(companion.ACCOUNTING, AccountingV1).unclean
    unlabelled = contents.document(companion.ACCOUNTING, AccountingV1).unlabelled
    for role, process in sorted(contents.v1.processes):
        if process == UNKNOWN and not unlabelled:
            yield _kernel(f"process {process}", "unlabelled records are counted", "none are")
        elif process != UNKNOWN and (
            process not in known or (roles_kept and process.partition(".")[0] != role)
        ):
            yield _kernel(f"process {process}", f"a {role} process of {companion.PROCESSES}", process)


def _place(name: str) -> tuple[str, *tuple[int, ...]] | None:
    role, *steps = name.split(".")
    good = all(step.isascii() and step.isdigit() and str(int(step[:9])) == step for step in steps)
    if role not in (_SUBJECT, _TOOLS) or not good or steps[:1] != ["0"]:
        return None
    return role, *map(int, steps)


def _node_problems(where: str, node: ProcessNode, known: set[str]) -> Iterator[Problem]:
    parent, _, number = node.process.rpartition(".")
    first = parent in (_SUBJECT, _TOOLS)
    if node.parent != (None if first else parent):
        yield _process(f"{where}/parent", str(None if first else parent), str(node.parent))
    if node.role != node.process.partition(".")[0]:
        yield _process(f"{where}/role", node.process.partition(".")[0], node.role)
    before = f"{parent}.{int(number) - 1}" if int(number) else parent
    if not first and before not in known:
        yield _process(f"{where}/process", f"{before} before it", "none")
    if node.exit_code is not None and node.signal is not None:
        yield _process(f"{where}/signal", "no signal beside an exit code", str(node.signal))
    raced = not first and (node.exit_code == 0 or node.signal in ENDED_BY_CONTAINER)
    in_range = 0 <= (node.exit_code or 0) < 256 and 0 < (node.signal or 1) < 128
    if raced or not in_range:
        expected = "no end that may be the container's" if raced else "an exit code or signal of Linux"
        yield _process(where, expected, short([node.exit_code, node.signal]))


def _exec_problems(contents: Contents, nodes: Iterable[ProcessNode]) -> Iterator[Problem]:
    # What was decoded: the kernel's counters are lost with the capture process, its records are not.
    books = contents.document(companion.ACCOUNTING, AccountingV1).identities
    executions = sum(len(node.execs) for node in nodes)
    for identity in books:
        if identity.name == "exec_decoded" and executions > identity.right:
            expected = f"at most {identity.right} executions, as were recorded"
            yield _process("/processes", expected, str(executions))
    in_tree = {
        (node.process, image.path, image.called, image.argv, bool(image.argv_cut))
        for node in nodes
        for image in node.execs
    }
    seen = {
        (line.process, line.path or "", line.called, line.argv or (), bool(line.argv_cut))
        for line in contents.v1.lines()
        if line.operation == "exec" and line.outcome == "ok" and line.process != UNKNOWN
    }
    for process, *rest in sorted(seen - in_tree, key=repr):
        yield _process(f"process {process}", f"an execution of {short(rest)}", "none")
    for process, *rest in sorted(in_tree - seen, key=repr):
        yield _process(f"process {process}", f"none that {companion.KERNEL} has not", short(rest))


def attribution_problems(contents: Contents) -> Iterator[Problem]:
    """Each operation that matters stands there, as a match that its call's own words allow."""
    report = contents.document(companion.ATTRIBUTION, AttributionV1)
    unclean = contents.document(companion.ACCOUNTING, AccountingV1).unclean
    if not any(code.startswith("decisions:") for code in unclean):
        judged = sorted((call.tool_call_id, call.tool, call.decision) for call in report.calls)
        decided = sorted((event.tool_call_id, event.tool, event.decision) for event in contents.policy)
        if judged != decided:
            yield _attribution("/calls", f"the calls of {POLICY}: {short(decided)}", short(judged))
    yield from _sorted_problems("/calls", report.calls)
    everything: list[AttributedEvidence] = []
    for index, call in enumerate(report.calls):
        where = f"/calls/{index}"
        if call.answered and call.decision != "allow":
            yield _attribution(f"{where}/answered", "false for a call that was not allowed", "true")
        if not is_sorted_unique(call.paths):
            yield _attribution(f"{where}/paths", "names sorted, each once", short(call.paths))
        for evidence in call.evidence:
            yield from _call_problems(f"{where}/evidence", call, evidence)
        yield from _sorted_problems(f"{where}/evidence", call.evidence)
        everything += call.evidence
    allowed = Counter(call.tool_call_id for call in report.calls if call.decision == "allow")
    for evidence in report.ambiguous:
        yield from _ambiguous_problems(allowed, evidence)
    for evidence in report.unattributed:
        if evidence.match != UNATTRIBUTED or evidence.candidates is not None:
            yield _attribution("/unattributed", f"{UNATTRIBUTED}, without candidates", evidence.match)
    yield from _sorted_problems("/ambiguous", report.ambiguous)
    yield from _sorted_problems("/unattributed", report.unattributed)
    everything += report.ambiguous + report.unattributed
    yield from _evidence_problems(contents, everything)


def _evidence_problems(contents: Contents, everything: Iterable[AttributedEvidence]) -> Iterator[Problem]:
    have = {(e.role, e.process, e.operation, e.outcome, e.path, e.path2, e.address) for e in everything}
    want = {
        (line.role, line.process, line.operation, line.outcome, line.path, line.path2, line.address)
        for line in contents.v1.lines()
        if line.process and is_main(line)
    }
    for operation in sorted(want - have, key=repr):
        yield _attribution("", f"{short(operation)} somewhere", "nowhere")
    for operation in sorted(have - want, key=repr):
        yield _attribution("", f"nothing that {companion.KERNEL} has not", short(operation))


def _call_problems(where: str, call: AttributedCall, evidence: AttributedEvidence) -> Iterator[Problem]:
    if call.decision != "allow" or evidence.role != _TOOLS or evidence.candidates is not None:
        yield _attribution(
            where, "operations of tools, for an allowed call alone", short(unstructure(evidence))
        )
    wanted = EXACT if _judged(call, evidence) else WINDOW
    if evidence.match != wanted:
        yield _attribution(f"{where}/match", f"{wanted}, as its paths say", evidence.match)


def _judged(call: AttributedCall, evidence: AttributedEvidence) -> bool:
    return not {path and final(path) for path in (evidence.path, evidence.path2)}.isdisjoint(call.paths)


def _ambiguous_problems(allowed: Mapping[str, int], evidence: AttributedEvidence) -> Iterator[Problem]:
    """`allowed`: how many allowed calls have that id."""
    names = evidence.candidates or ()
    good = evidence.match == AMBIGUOUS and evidence.role == _TOOLS and is_sorted_unique(names)
    if not good or not names or not all(name in allowed for name in names):
        yield _attribution(
            "/ambiguous", "operations of tools, with allowed calls", short(unstructure(evidence))
        )
        return
    if sum(allowed[name] for name in names) < 2:
        yield _attribution("/ambiguous", "two calls or more", short(names))


def _sorted_problems(
    where: str, entries: Iterable[AttributedCall] | Iterable[AttributedEvidence]
) -> Iterator[Problem]:
    keys = [to_bytes(unstructure(entry)) for entry in entries]
    if any(second < first for first, second in pairwise(keys)):
        yield _attribution(where, "entries in order", "another order")
    if where != "/calls" and len(set(keys)) != len(keys):
        yield _attribution(where, "each entry once", "one that is there twice")


def run_event_problems(contents: Contents) -> Iterator[Problem]:
    """The lifecycle lines say what was declared, and how the subject's first process ended."""
    spec = contents.document(companion.RUNSPEC, RunSpecDocV1)
    books = contents.document(companion.ACCOUNTING, AccountingV1)
    start, end = contents.started, contents.finished
    for key, want, have in (
        ("agent_shim", spec.agent_shim, start.agent_shim),
        ("command", spec.command, start.command),
        ("env_keys", sorted_unique(spec.env), start.env_keys),
    ):
        if want != have:
            yield _event(f"line 1 at /{key}", short(want), short(have))
    success = end.exit_code == 0 and not books.timed_out
    if end.success != success:
        yield _event("line 2 at /success", str(success), str(end.success))
    for node in contents.document(companion.PROCESSES, ProcessTreeV1).processes:
        told = (node.exit_code, node.signal)
        if node.process == f"{_SUBJECT}.0" and told not in ((None, None), (end.exit_code, end.signal)):
            expected = f"{short(told)}, as in {companion.PROCESSES}"
            yield _event("line 2 at /exit_code", expected, short([end.exit_code, end.signal]))


def seal_problems(contents: Contents) -> Iterator[Problem]:
    """One seal a role; only what was declared is announced."""
    spec = contents.document(companion.RUNSPEC, RunSpecDocV1)
    seals = contents.document(companion.NETWORK, NetworkSealV1).seals
    roles = [seal.role for seal in seals]
    if not is_sorted_unique(roles) or not set(roles) <= {_SUBJECT, _TOOLS}:
        yield Problem("ContractNetworkMismatch", companion.NETWORK, "/seals", "one a role", short(roles))
    for index, seal in enumerate(seals):
        wanted = spec.network if seal.role == _SUBJECT else "none"
        if seal.declared != wanted:
            place = f"/seals/{index}/declared"
            yield Problem("ContractNetworkMismatch", companion.NETWORK, place, wanted, seal.declared)


def runspec_problems(contents: Contents) -> Iterator[Problem]:
    """What was declared does not contradict itself, nor what the proxy said of itself."""
    spec = contents.document(companion.RUNSPEC, RunSpecDocV1)
    bridge = spec.env.get("ASSAY_RUNNER_MCP_COMMAND")
    commands = {role: [list(command) for command in found] for role, found in spec.plumbing.items()}
    tools = spec.tools_server
    for place, want, good in (
        ("/agent_shim", short(AGENT_SHIMS), spec.agent_shim in AGENT_SHIMS),
        ("/network", short(NETWORKS), spec.network in NETWORKS),
        ("/witnesses", f"of {short(WITNESSES)}", set(spec.witnesses) <= set(WITNESSES)),
        ("/deadline_s", "0 (none) or more", spec.deadline_s >= 0),
        ("/env", "names in order", is_sorted_unique(tuple(spec.env))),
        ("/inputs", "names in order", is_sorted_unique(tuple(spec.inputs))),
        ("/input_links", "names in order, of links that stay inside", _links_fit(spec.input_links)),
        ("/input_programs", "of the inputs", _programs_fit(spec)),
        (
            "/env/ASSAY_RUNNER_RUN_ID",
            contents.run_id,
            spec.env.get("ASSAY_RUNNER_RUN_ID", contents.run_id) == contents.run_id,
        ),
        ("/workspace", "ro or rw, none without tools", _workspace_fits(spec)),
        ("/plumbing", "of subject and tools", set(commands) <= {_SUBJECT, _TOOLS}),
        ("/plumbing", "the subject's command", _has(commands, _SUBJECT, spec.command)),
        ("/plumbing", "the tools' server", tools is None or _has(commands, _TOOLS, tools)),
        (
            "/env/ASSAY_RUNNER_MCP_COMMAND",
            "a declared command of the subject",
            bridge is None or bridge in map(json.dumps, commands.get(_SUBJECT, [])),
        ),
        ("/image_id", "as the image's tag says", _tag_fits(spec)),
    ):
        if not good:
            yield Problem("ContractRunSpecMismatch", companion.RUNSPEC, place, want, "another")
    sources = {
        command[command.index("--source") + 1] for command in commands.get(_TOOLS, []) if _sources(command)
    }
    for number, event in enumerate(contents.policy, start=1):
        if sources and event.source not in sources:
            place = f"line {number} at /source"
            yield Problem("ContractPolicyMismatch", POLICY, place, short(sorted(sources)), event.source)


def _has(commands: dict[str, list[list[str]]], role: str, command: tuple[str, ...]) -> bool:
    return role not in commands or list(command) in commands[role]


def _sources(command: list[str]) -> bool:
    return "--source" in command[:-1]


def _workspace_fits(spec: RunSpecDocV1) -> bool:
    return spec.workspace in (("none",) if spec.tools_server is None else ("ro", "rw"))


def _links_fit(links: dict[str, str] | None) -> bool:
    if links is None:
        return True
    return bool(links) and is_sorted_unique(tuple(links)) and all(starmap(stays_inside, links.items()))


def _programs_fit(spec: RunSpecDocV1) -> bool:
    return spec.input_programs is None or 0 < len(spec.input_programs) == len(
        set(spec.input_programs) & set(spec.inputs)
    )


def _tag_fits(spec: RunSpecDocV1) -> bool:
    ours = _OUR_TAG.fullmatch(spec.image)
    return ours is None or spec.image_id.startswith(f"sha256:{ours[1]}")


def _process(place: str, expected: str, actual: str) -> Problem:
    return Problem("ContractProcessMismatch", companion.PROCESSES, place, expected, actual)


def _kernel(place: str, expected: str, actual: str) -> Problem:
    return Problem("ContractProcessMismatch", companion.KERNEL, place, expected, actual)


def _attribution(place: str, expected: str, actual: str) -> Problem:
    return Problem("ContractAttributionMismatch", companion.ATTRIBUTION, place, expected, actual)


def _event(place: str, expected: str, actual: str) -> Problem:
    return Problem("ContractRunEventMismatch", EVENTS, place, expected, actual)
