"""Companion members that say what was done: the four that must not vary between runs.

No process number, descriptor, thread, time, order or count of reads may enter them (design §6).
"""

from attrs import frozen

from harness.contracts.converter import Natural, constant, nullable, omittable
from harness.contracts.rules import RunId

KERNEL_EVENT_V1 = "assay.runner.kernel_event.v1"
SURFACE_V1 = "assay.runner.capability_surface.v1"
ATTRIBUTION_V1 = "assay.runner.attribution.v1"
PROCESS_TREE_V1 = "assay.runner.process_tree.v1"


@frozen(kw_only=True)
class KernelEventV1:
    """One line of companion/kernel.ndjson: a distinct operation, however often it was done.

    process   place in the fork tree, `tools.0.1`; "?" when the process was not seen to start.
    path      inside the container, symlinks resolved when the operation succeeded; U+FFFD stands
              for bytes that are no UTF-8, and then path_hex has all bytes. null: no name.
    outcome   "ok", an errno name, "unknown" (no result was seen) or "seen" (has no result).
    event_class  the class of harness.evidence.classify, for instance "evidence".
    called    the name an execution was called by, where it is not `path` (links, scripts).
    """

    schema: str = constant(KERNEL_EVENT_V1)
    run_id: RunId
    seq: Natural
    role: str
    process: str
    operation: str
    outcome: str
    event_class: str
    path: str | None = nullable()
    path_hex: str | None = omittable()
    path2: str | None = omittable()
    path2_hex: str | None = omittable()
    access: str | None = omittable()
    flags: tuple[str, ...] | None = omittable()
    mode: str | None = omittable()
    file_type: str | None = omittable()
    called: str | None = omittable()
    argv: tuple[str, ...] | None = omittable()
    argv_cut: bool | None = omittable()
    family: str | None = omittable()
    address: str | None = omittable()


@frozen(kw_only=True)
class Action:
    """What was done to a path: read, write, create, replace, delete, execute or metadata.

    replace  a file that was made beside it under a temporary name was renamed onto it
    result  "done" or "attempted"; a role that did it is not listed as attempting it too.
    """

    action: str
    result: str
    roles: tuple[str, ...]


@frozen(kw_only=True)
class PathCapability:
    path: str
    path_hex: str | None = omittable()
    actions: tuple[Action, ...]


@frozen(kw_only=True)
class NetworkCapability:
    operation: str
    family: str
    address: str
    result: str
    roles: tuple[str, ...]


@frozen(kw_only=True)
class ExecCapability:
    """An execution; argv is unknown (left out) when it did not succeed."""

    path: str
    called: str | None = omittable()
    argv: tuple[str, ...] | None = omittable()
    result: str
    roles: tuple[str, ...]


@frozen(kw_only=True)
class ToolCapability:
    tool: str
    decisions: tuple[str, ...]


@frozen(kw_only=True)
class CapabilitySurfaceV1:
    """companion/surface.json: what the run touched, without declared plumbing.

    telemetry  read-only opens that the v0 taxonomy leaves out (contracts §4.6); writes to such
               places are in `paths`.
    """

    schema: str = constant(SURFACE_V1)
    run_id: RunId
    paths: tuple[PathCapability, ...]
    network: tuple[NetworkCapability, ...]
    execs: tuple[ExecCapability, ...]
    tools: tuple[ToolCapability, ...]
    telemetry: tuple[PathCapability, ...]


@frozen(kw_only=True)
class AttributedEvidence:
    """A distinct operation and how it belongs to a call.

    match  "exact": inside the window of this call alone among those that judged its path;
           "window": inside this call's window alone; "ambiguous": `candidates` lists the calls;
           "unattributed": inside no window.
    """

    role: str
    process: str
    operation: str
    outcome: str
    path: str | None = nullable()
    path2: str | None = omittable()
    address: str | None = omittable()
    match: str
    candidates: tuple[str, ...] | None = omittable()


@frozen(kw_only=True)
class AttributedCall:
    """answered: the proxy saw the answer; without it the window stays open to the end of the run."""

    tool_call_id: str
    tool: str
    decision: str
    answered: bool
    paths: tuple[str, ...]
    evidence: tuple[AttributedEvidence, ...]


@frozen(kw_only=True)
class AttributionV1:
    """companion/attribution.json. `ambiguous` and `unattributed` belong to no single call."""

    schema: str = constant(ATTRIBUTION_V1)
    run_id: RunId
    calls: tuple[AttributedCall, ...]
    ambiguous: tuple[AttributedEvidence, ...]
    unattributed: tuple[AttributedEvidence, ...]


@frozen(kw_only=True)
class ExecImage:
    path: str
    called: str | None = omittable()
    argv: tuple[str, ...]
    argv_cut: bool | None = omittable()


@frozen(kw_only=True)
class ProcessNode:
    """One process.

    exit_code, signal  how it ended. Left out for a process other than the role's first one that
                       ended with 0, SIGTERM or SIGKILL: when a container's first process ends, the
                       kernel kills the others, so which of the three it was is a race.
    """

    process: str
    role: str
    parent: str | None = nullable()
    execs: tuple[ExecImage, ...]
    exit_code: int | None = omittable()
    signal: int | None = omittable()


@frozen(kw_only=True)
class ProcessTreeV1:
    schema: str = constant(PROCESS_TREE_V1)
    run_id: RunId
    processes: tuple[ProcessNode, ...]
