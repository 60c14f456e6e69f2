"""What companion/policy.ndjson must agree with: the policy layer, the attribution, and the books."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from harness.bundle.contents import Contents
from harness.bundle.meaning_layers import short
from harness.bundle.problem import Problem
from harness.contracts import companion
from harness.contracts.companion import AccountingV1, AttributionV1, RunSpecDocV1
from harness.contracts.companion_policy import (
    CALL,
    DECIDED,
    REFUSED,
    TOLD_OF_A_KIND,
    TOLD_OF_A_RUN,
    UNTOLD_PROBLEM,
    PolicyEventV1,
)
from harness.contracts.manifest import POLICY
from harness.contracts.rules import is_sorted_unique
from harness.evidence.policy_v1 import is_untold


def no_policy_events(contents: Contents) -> str:
    """Why there is nothing to check; the books of a later run say that there is."""
    if not contents.has_companion:
        return "the archive has no companion"
    books = contents.document(companion.ACCOUNTING, AccountingV1)
    if books.policy_events is None and companion.POLICY not in contents.members:
        return "the archive is of before its proxy's refusals were kept"
    return ""


def policy_event_problems(contents: Contents) -> Iterator[Problem]:
    books = contents.document(companion.ACCOUNTING, AccountingV1)
    events = contents.policy_v1
    if companion.POLICY not in contents.members or books.policy_events != len(events):
        yield _wrong("", f"{books.policy_events} lines, as the books say", str(len(events)))
        return
    spec = contents.document(companion.RUNSPEC, RunSpecDocV1)
    if events and spec.tools_server is None:
        yield _wrong("", "none without tools", f"{len(events)} lines")
    for number, event in enumerate(events, start=1):
        if event.odd:
            yield _wrong(f"line {number}", "the keys of its event", event.odd)
        for key, values in (("paths", event.paths), ("notes", event.notes)):
            if values is not None and not (values and is_sorted_unique(values)):
                yield _wrong(f"line {number} at /{key}", "values, sorted, each once", short(values))
    for number, (before, after) in enumerate(pairwise(events), start=2):
        if after.connection < before.connection:
            yield _wrong(f"line {number} at /connection", "connections in order", str(after.connection))
    yield from _bound_problems(events, books)
    yield from _call_problems(contents, [event for event in events if event.method == CALL], books)


def _bound_problems(events: tuple[PolicyEventV1, ...], books: AccountingV1) -> Iterator[Problem]:
    """Told one by one as long as there are few; a count comes after those, once."""
    told: Counter[tuple[int, str, str | None]] = Counter()
    counted = set()
    for number, event in enumerate(events, start=1):
        if event.event != REFUSED:
            continue
        kind = (event.connection, event.reason, event.method)
        if event.count is None:
            told[kind] += 1
            good = told[kind] <= TOLD_OF_A_KIND
        else:
            good = event.count > 0 and told[kind] == TOLD_OF_A_KIND and kind not in counted
            counted.add(kind)
        if not good:
            expected = f"{TOLD_OF_A_KIND} of a kind one by one, then their number"
            yield _wrong(f"line {number}", expected, short([event.reason, event.count]))
    others = sum(event.event != DECIDED for event in events)
    if others > 2 * TOLD_OF_A_RUN:
        yield _wrong("", f"at most {2 * TOLD_OF_A_RUN} lines beside decisions", str(others))
    if any(map(is_untold, events)) != (f"decisions:{UNTOLD_PROBLEM}" in books.unclean):
        yield _wrong("", f"{UNTOLD_PROBLEM} in the books just when the proxy told no more", "not so")


def _call_problems(contents: Contents, calls: list[PolicyEventV1], books: AccountingV1) -> Iterator[Problem]:
    decided = [call for call in calls if call.event == DECIDED]
    have = sorted((c.tool_call_id, c.name, c.decision) for c in decided if c.tool_call_id is not None)
    want = sorted((event.tool_call_id, event.tool, event.decision) for event in contents.policy)
    if have != want:
        yield _wrong("", f"the calls of {POLICY}: {short(want)}", short(have))
    idless = sum(call.tool_call_id is None for call in decided)
    if idless != books.idless_calls:
        yield _wrong("", f"{books.idless_calls} calls without an id, as the books say", str(idless))
    if any(code.startswith("decisions:") for code in books.unclean):
        return  # the attribution may know less of them
    attributed = contents.document(companion.ATTRIBUTION, AttributionV1).calls
    paths = sorted((c.tool_call_id, c.paths or ()) for c in decided if c.tool_call_id is not None)
    judged = sorted((call.tool_call_id, call.paths) for call in attributed)
    if paths != judged:
        yield _wrong("", f"the paths of {companion.ATTRIBUTION}: {short(judged)}", short(paths))


def _wrong(place: str, expected: str, actual: str) -> Problem:
    return Problem("ContractPolicyMismatch", companion.POLICY, place, expected, actual)
