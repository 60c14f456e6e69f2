"""What each code of `unclean` means, and what to do about it: for people who see it for the first time."""

from collections.abc import Iterable

from attrs import frozen

_FLOOD = "run a smaller piece of work: no verifier takes evidence of more (docs/contracts/verification.md)"
_HOST = "measure again; if it comes back, look at the host with `assay-runner doctor`"
_BUG = "measure again, and report it if it comes back: no program should be able to cause it"
_ESCAPE = "look at the archive before you trust this agent: ordinary programs do not do this"
_SEALED = 'if the agent talks to itself, declare network = "loopback" in fixture.toml'
_EVENTS = "correct the agent's event log: docs/guide/new-runtime.md says what an event must have"
_PROXY = "see server.stderr: the proxy and the MCP server write there"


@frozen
class Cause:
    """`text` is half a sentence about the run; `hint` the next step."""

    code: str
    text: str
    hint: str


MISSING_ID = "missing_tool_call_id"  # no code of `unclean`: the policy's word for what it denies

# By code, or by its beginning up to and with the colon.
WORDS = {
    "ring_drops": ("kernel records were lost: the ring was full", "measure again on a quieter host"),
    "oversized": ("kernel records were lost: they did not fit", _BUG),
    "kernel_fault": ("kernel records were lost: the kernel could not be read", _BUG),
    "decode_errors": ("kernel records could not be read back", _BUG),
    "recursion_misses": ("the kernel skipped events", "measure without other tracing on this host"),
    "truncated": ("a name was longer than the kernel takes", "see docs/limits.md; shorten the path"),
    "unreadable": ("a name was gone from memory before it could be read", _ESCAPE),
    "changed": ("memory said one thing and the kernel did another: a name or flags were swapped", _ESCAPE),
    "entry_missing": ("the start or the return of an operation on names was not seen", _HOST),
    "walk_fault": ("a path could not be followed in the kernel", _HOST),
    "sentinel_missing": ("a test record of the capture's own did not arrive", _HOST),
    "left_slice": ("a process was moved to another cgroup, out of sight", _ESCAPE),
    "compat_syscall": ("a 32-bit system call was made", "use programs of 64 bits"),
    "io_uring_used": ("io_uring was set up, which the kernel witness cannot see through", _ESCAPE),
    "unpaired_names": ("one of two names of a rename or link is missing", _HOST),
    "unlabelled_process": ("records came from processes that were not seen to start", _HOST),
    "slice_not_empty": (
        "processes were still running after the agent had ended, and were killed",
        "let the agent wait for what it starts",
    ),
    "proxy_not_ready": ("the policy proxy did not come up", _PROXY),
    "proxy_closed_early": ("the policy proxy ended before the agent did", _PROXY),
    "proxy_failed": ("the policy proxy did not end well", _PROXY),
    "proxy_looked_at": ("the MCP server looked at the policy proxy's process", _ESCAPE),
    "proxy_not_seen": ("the policy proxy's process was not found when it was looked at", _HOST),
    "proxy_not_apart": ("the policy proxy ran as a user that it must not be", _HOST),
    "proxy_not_hidden": ("the policy proxy's memory was not its own", _HOST),
    "proxy_not_confined": ("the policy proxy ran without its seccomp profile", _HOST),
    "control_touched:": ("the {rest} reached for the recorder's own folder, /run/assay", _ESCAPE),
    "roles_crossed": (
        "agent and MCP server spoke past the policy proxy, over a socket file in the work folder",
        _ESCAPE,
    ),
    "engine_lost": ("the container engine went away", "see the engine's log: `assay-runner engine status`"),
    "kernel:left_out": ("more was done than an archive can hold: it tells the beginning", _FLOOD),
    "decisions:left_out": ("more was decided than an archive can hold: it tells the beginning", _FLOOD),
    "sdk:left_out": ("more events came than an archive can hold: it tells the beginning", _FLOOD),
    "capture:too_many_bytes": ("stopped: it did more than half a gigabyte of records can hold", _FLOOD),
    "capture:too_many_records": ("stopped: it did more than two million records can hold", _FLOOD),
    "capture:spool_failed": (
        "kernel records could not be written down",
        "is the state folder's disk full?",
    ),
    "capture:capture_process_died": ("the capture process died", _HOST),
    "capture:opening_sentinels_lost": ("the capture did not see its own test records", _HOST),
    "capture:ring_not_drained": ("kernel records kept coming after the end", _HOST),
    "capture:": ("the capture reported {rest}", _HOST),
    "identity_broken:": ("the books do not add up ({rest})", _BUG),
    "boundary_missing:": ("the start of the {rest} container was not seen", _HOST),
    "network_seal:": ("the {rest} container's network was not sealed", _HOST),
    "network_packets:": ("packets were sent in the {rest} container, which has no network", _SEALED),
    "missing_witness:kernel": ("the kernel saw nothing", _HOST),
    "missing_witness:policy": (
        "no tool call reached the policy proxy",
        "does the agent start its MCP server by ASSAY_RUNNER_MCP_COMMAND? docs/guide/new-runtime.md",
    ),
    MISSING_ID: (
        "tool calls came without an id and were denied",
        "give each call an id: docs/guide/policy.md#how-a-call-is-judged",
    ),
    "missing_witness:sdk": (
        "no event reached the SDK socket",
        "does the agent write events to ASSAY_RUNNER_SDK_SOCKET? docs/guide/new-runtime.md",
    ),
    "decisions:too_many_bytes": ("stopped: the proxy's log was longer than 64 MiB", _FLOOD),
    "decisions:too_many_lines": ("stopped: the proxy had more than 100,000 things to tell", _FLOOD),
    "decisions:closed_early": ("the policy proxy hung up before the end: later calls were denied", _PROXY),
    "decisions:second_connection_refused": ("something tried to speak in the policy proxy's name", _ESCAPE),
    "decisions:TooManyRefusals": (
        "the proxy refused more than it tells one by one: the rest is only counted",
        _FLOOD,
    ),
    "decisions:": ("the policy proxy's log is not as it must be: {rest}", _PROXY),
    "sdk:too_many_bytes": ("stopped: it sent more than 64 MiB of events", _FLOOD),
    "sdk:too_many_lines": ("stopped: it sent more than 100,000 events", _FLOOD),
    "sdk:line_too_long": ("an event was longer than 1 MiB", _EVENTS),
    "sdk:too_many_connections": ("too many connections to the event socket at a time", _EVENTS),
    "sdk:incomplete_last_line": ("the last event did not end with a newline: was the agent killed?", _EVENTS),
    "sdk:InvalidJson": ("an event was no JSON object", _EVENTS),
    "sdk:SeqMismatch": ("events were not numbered one after the other", _EVENTS),
    "sdk:EventRunIdMismatch": ("an event was of another run", "take the run id from ASSAY_RUNNER_RUN_ID"),
    "sdk:": ("an event was not as it must be: {rest}", _EVENTS),
}
_UNKNOWN = ("{rest}", "docs/limits.md says what makes a run unclean")


def cause(code: str) -> Cause:
    """What the code means. One that nobody has put into words stands for itself."""
    family, colon, rest = code.partition(":")
    text, hint = WORDS.get(code) or WORDS.get(f"{family}{colon}", _UNKNOWN)
    return Cause(code, text.format(rest=(rest or code).replace("_", " ")), hint)


def causes(codes: Iterable[str]) -> tuple[Cause, ...]:
    """Of several, those that a person should read first: what stopped or cut a run, then the rest."""
    return tuple(sorted(map(cause, codes), key=lambda found: (found.hint != _FLOOD, found.code)))
