"""Companion members about the run itself: counters, seal, host, and all that replay needs."""

from attrs import frozen

from harness.contracts.converter import Natural, constant, nullable, omittable, required
from harness.contracts.rules import Digest, OrderedSet, RunId

ACCOUNTING_V1 = "assay.runner.accounting.v1"
NETWORK_SEAL_V1 = "assay.runner.network_seal.v1"
RUNSPEC_V1 = "assay.runner.runspec.v1"
HOST_V1 = "assay.runner.host.v1"


@frozen(kw_only=True)
class Identity:
    """One equation of the books; `left` and `right` are the two sides as counted."""

    name: str
    left: Natural
    right: Natural
    holds: bool


@frozen(kw_only=True)
class KindCounts:
    seen: Natural
    submitted: Natural
    dropped: Natural
    oversized: Natural
    fault: Natural
    truncated: Natural
    unreadable: Natural


@frozen(kw_only=True)
class CaptureCounts:
    """Counters of one capture window (harness.evidence.model.CaptureAccounting)."""

    kinds: dict[str, KindCounts]
    received: Natural
    received_bytes: Natural
    decoded: Natural
    decode_errors: Natural
    recursion_misses: Natural
    sentinels_expected: Natural
    sentinels_seen: Natural
    boundaries: tuple[str, ...]
    ring_bytes: Natural
    ring_high_water: Natural
    freezes: Natural
    frozen_ns: Natural


@frozen(kw_only=True)
class ClassCounts:
    """Each record is in exactly one class; `total` is their sum."""

    classes: dict[str, Natural]
    total: Natural


@frozen(kw_only=True)
class AccountingV1:
    """companion/accounting.json; `capture` is null when kernel capture was not asked for.

    unlabelled  records of processes that were not seen to start
    policy_events  lines of companion/policy.ndjson; left out by runs from before there was one
    volatile    operations whose name became a declared glob, by glob: nothing of them is lost but the name;
                and looks at a declared file of /proc or /sys, which are told nowhere else
    host_view   looks at kernel files that say how large the host is, by place (harness.evidence.host_view):
                told nowhere else; left out by runs from before, which told them in the kernel layer
    temporary   names of the moment, by what stands for them in the other members; the first 1000 of each
    unclean     every reason why the run is not clean, as stable codes; empty for a clean run
    """

    schema: str = constant(ACCOUNTING_V1)
    run_id: RunId
    clean: bool
    unclean: tuple[str, ...]
    missing_witnesses: tuple[str, ...]
    capture: CaptureCounts | None = nullable()
    records: ClassCounts
    identities: tuple[Identity, ...]
    unlabelled: Natural
    io_uring_refused: Natural
    idless_calls: Natural
    policy_events: Natural | None = omittable()
    volatile: dict[str, Natural]
    host_view: dict[str, Natural] | None = omittable()
    temporary: dict[str, tuple[str, ...]] | None = omittable()
    survivors: Natural
    timed_out: bool
    problems: tuple[str, ...]


@frozen(kw_only=True)
class RoleSeal:
    """What was found in one container's network namespace; `packets` on all links together.

    declared  "none", or "loopback" where packets on it were announced before the run
    """

    role: str
    links_start: tuple[str, ...]
    links_end: tuple[str, ...]
    foreign_routes: tuple[str, ...]
    packets: Natural
    declared: str = required("none")
    problems: tuple[str, ...]


@frozen(kw_only=True)
class NetworkSealV1:
    schema: str = constant(NETWORK_SEAL_V1)
    run_id: RunId
    seals: tuple[RoleSeal, ...]


@frozen(kw_only=True)
class DeclaredProgram:
    """A command of the run itself, as resolved in the image before the run.

    part  "entry" (the agent), "bridge", "proxy" or "server"
    path  the file that the kernel executes; of a script that of its last interpreter
    argv  the arguments that it then has
    """

    part: str
    path: str
    argv: tuple[str, ...]


@frozen(kw_only=True)
class RunSpecDocV1:
    """companion/runspec.json: what replay needs to do the run again.

    env                 names and values that the runner set for the subject
    image_locked        image_id is the one that the image's lock names
    image_files_sha256  digest of the image's file list, by which reads of the image were told; null:
                        not known
    tools_server        argv of the MCP server; null: the run had no tools container
    tools_env           names and values that the fixture set for the tools; left out as `tools_legacy`
    tools_legacy        the proxy answers server/discover itself; left out without tools, and by runs from
                        before it was recorded, which cannot be replayed for that reason
    network             "none", or "loopback": the agent was declared to talk to itself
    plumbing            per role, the commands that belong to the run itself, as argv
    programs            what they are in the image: by that their executions are told as plumbing; left out by
                        runs from before, which went by what a program was called
    volatile            globs that stand for names which the agent makes up anew in each run; files of /proc
                        and /sys which it may look at or not
    inputs              file below /workspace -> sha256 of its bytes before the run
    input_folders       folders below /workspace that nothing was in before the run; left out by runs from
                        before it was recorded
    input_programs      the inputs that can be executed; left out if there are none
    input_links         symbolic link below /workspace -> what it says; left out if there are none
    """

    schema: str = constant(RUNSPEC_V1)
    run_id: RunId
    agent_shim: str
    command: tuple[str, ...]
    env: dict[str, str]
    fixture: str
    image: str
    image_id: str
    image_locked: bool = required(False)
    image_files_sha256: Digest | None = nullable()
    runtime_roots: tuple[str, ...]
    deadline_s: float
    witnesses: tuple[str, ...]
    network: str = required("none")
    policy_sha256: Digest | None = nullable()
    tools_server: tuple[str, ...] | None = nullable()
    tools_env: dict[str, str] | None = omittable()
    tools_legacy: bool | None = omittable()
    workspace: str
    volatile: tuple[str, ...] = required(())
    plumbing: dict[str, tuple[tuple[str, ...], ...]]
    programs: tuple[DeclaredProgram, ...] | None = omittable()
    inputs: dict[str, Digest]
    input_folders: OrderedSet | None = omittable()
    input_programs: OrderedSet | None = omittable()
    input_links: dict[str, str] | None = omittable()


@frozen(kw_only=True)
class HostV1:
    """companion/host.json: facts of the host as the machine side found them."""

    schema: str = constant(HOST_V1)
    run_id: RunId
    facts: dict[str, str]
