"""One run in a few lines: what was called, written, run and reached, and what no tool call accounts for.

Made from an archive's members alone, so it says nothing that the archive does not. Archives come from
strangers: what they bring passes `shown`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from attrs import frozen

from harness.contracts.canonical import load_json, load_ndjson
from harness.contracts.companion import (
    ACCOUNTING,
    RUNSPEC,
    SURFACE,
    AccountingV1,
    CapabilitySurfaceV1,
    NetworkCapability,
    PathCapability,
    RunSpecDocV1,
)
from harness.contracts.companion import POLICY as TOLD
from harness.contracts.companion_policy import REFUSED
from harness.contracts.converter import parse
from harness.contracts.manifest import POLICY
from harness.evidence.causes import MISSING_ID, Cause, causes
from harness.present.words import shown

T = TypeVar("T")
_NAMED = 3  # of a kind, in a line
_CAME = "calls came without an id and were"
_GUIDE = "docs/guide/policy.md"
_WRITES = frozenset({"write", "create", "replace"})
_CHANGES = ("write", "create", "replace", "delete", "execute")
_NOWHERE = frozenset({"/dev/null"})  # what is written there changes nothing
_SUBJECT = "subject"


@frozen
class Calls:
    """Tool calls as the policy proxy saw them; `refused` are messages that it did not even judge."""

    allowed: int
    denied: int
    without_id: int  # of those denied
    refused: int


@frozen
class Summary:
    """Names as in companion/surface.json; only what was done, but for endpoints, which may be tried in vain.

    calls   None for a run without tools
    hidden  what the agent did outside of any tool call: a run with tools alone can tell
    """

    run_id: str
    clean: bool
    causes: tuple[Cause, ...]
    calls: Calls | None
    written: tuple[str, ...]
    deleted: tuple[str, ...]
    programs: tuple[str, ...]
    endpoints: tuple[str, ...]
    hidden: tuple[str, ...]


def summary_of(members: Mapping[str, bytes]) -> Summary:
    """`members` as of an archive with a companion."""
    books = _document(members, ACCOUNTING, AccountingV1)
    surface = _document(members, SURFACE, CapabilitySurfaceV1)
    tools = _document(members, RUNSPEC, RunSpecDocV1).tools_server is not None
    deleted = [path.path for path in surface.paths if _did(path, {"delete"})]
    gone = set(deleted)
    written = [path.path for path in surface.paths if _did(path, _WRITES) and path.path not in _NOWHERE]
    return Summary(
        run_id=books.run_id,
        clean=books.clean,
        causes=causes(books.unclean),
        calls=_calls(members, books) if tools else None,
        written=tuple(name for name in written if name not in gone),
        deleted=tuple(deleted),
        programs=tuple(dict.fromkeys(run.path for run in surface.execs if run.result == "done")),
        endpoints=tuple(dict.fromkeys(map(_endpoint, _reached(surface.network)))),
        hidden=tuple(_hidden(surface)) if tools else (),
    )


def as_lines(summary: Summary) -> list[str]:
    """For a terminal, without an end of line."""
    lines = [] if summary.calls is None else list(_about_calls(summary.calls))
    lines.append(f"files: {_some(summary.written, 'written')}; {_some(summary.deleted, 'deleted')}")
    lines.append(f"programs: {_some(summary.programs, 'run')}")
    lines.append(f"endpoints: {_some(summary.endpoints, 'tried')}")
    if summary.calls is not None:
        lines.append(f"by the agent itself, outside any tool call: {_some(summary.hidden, 'found')}")
    lines += [f"not clean: {shown(cause.text)} ({shown(cause.code)})" for cause in summary.causes]
    return lines


def _about_calls(calls: Calls) -> Iterator[str]:
    yield f"tool calls: {calls.allowed} allowed, {calls.denied} denied, {calls.refused} refused"
    if calls.without_id:
        were = (
            "call came without an id and was"
            if calls.without_id == 1
            else "calls came without an id and were"
        )
        yield f"  {calls.without_id} tool {were} denied ({MISSING_ID}): {_GUIDE}#how-a-call-is-judged"
    elif calls.denied and not calls.allowed:
        yield f"  every call was denied: is that what the policy is for? {_GUIDE}"


def _some(names: tuple[str, ...], done: str) -> str:
    """How many, and the first of them."""
    if not names:
        return f"none {done}"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} {done}: {', '.join(map(shown, names[:_NAMED]))}{more}"


def _calls(members: Mapping[str, bytes], books: AccountingV1) -> Calls:
    decisions = Counter(line["decision"] for line in load_ndjson(members[POLICY], POLICY))
    return Calls(
        allowed=decisions["allow"],
        denied=decisions["deny"] + books.idless_calls,
        without_id=books.idless_calls,
        refused=_refused(members),
    )


def _refused(members: Mapping[str, bytes]) -> int:
    """Archives of before have no such member."""
    told = load_ndjson(members.get(TOLD, b""), TOLD)
    return sum(line.get("count", 1) for line in told if line["event"] == REFUSED)


def _did(path: PathCapability, actions: Iterable[str], role: str | None = None) -> bool:
    return any(
        action.action in actions and action.result == "done" and (role is None or role in action.roles)
        for action in path.actions
    )


def _reached(network: Iterable[NetworkCapability]) -> Iterator[NetworkCapability]:
    return (one for one in network if one.address and one.operation not in ("socket", "bind"))


def _endpoint(one: NetworkCapability) -> str:
    return one.address if one.result == "done" else f"{one.address} (in vain)"


def _hidden(surface: CapabilitySurfaceV1) -> Iterator[str]:
    """What the agent's own processes changed, ran or tried to reach, where tools were there for that."""
    for path in surface.paths:
        done = [name for name in _CHANGES if _did(path, {name}, _SUBJECT)]
        if "write" in done and "create" in done:
            done.remove("create")
        if done and path.path not in _NOWHERE:
            yield f"{' and '.join(done)} {path.path}"
    for one in _reached(surface.network):
        if _SUBJECT in one.roles:
            yield f"{one.operation} {_endpoint(one)}"


def _document(members: Mapping[str, bytes], name: str, cls: type[T]) -> T:
    return parse(cls, load_json(members[name], name))
