"""One line of companion/policy.ndjson: what the policy proxy decided, refused, limited and ended.

Nothing that varies between runs of the same thing may enter it: no time, no process. Lines are in the
order of connections, and within one in that of arrival.
"""

from types import MappingProxyType

from attrs import frozen

from harness.contracts.converter import Natural, NonEmpty, constant, nullable, omittable
from harness.contracts.rules import RunId

POLICY_EVENT_V1 = "assay.runner.policy_event.v1"

DECIDED, REFUSED, LIMITED, KILLED, ENDED = "decided", "refused", "limited", "killed", "ended"
CALL = "tools/call"
# What the proxy (harness.policy.refusals) tells one by one, of one kind on one connection and of a whole run.
TOLD_OF_A_KIND = 100
TOLD_OF_A_RUN = 10_000
UNTOLD = "too_many_refusals"  # beyond it: the run is not clean
UNTOLD_PROBLEM = "TooManyRefusals"

# Keys that an event has beyond the first six, and those that it may have.
_MUST = MappingProxyType(
    {DECIDED: {"name", "decision", "rule"}, REFUSED: set(), LIMITED: set(), KILLED: set(), ENDED: set()}
)
_MAY = MappingProxyType(
    {DECIDED: {"tool_call_id", "id_key", "paths", "notes"}, REFUSED: {"request_id", "count"}}
)
_OPTIONAL = (
    "request_id", "count", "name", "tool_call_id", "id_key", "decision", "rule", "paths", "notes",
)  # fmt: skip


@frozen(kw_only=True)
class PolicyEventV1:
    """connection  counts from 1 as agents connected; 0: of no connection, or not known.
    event         "decided" (judged by the policy), "refused" (a line that was not judged), "limited"
                  (a connection was not served, or no more is told), "killed" (a server, by the proxy)
                  or "ended" (a server, by itself, while its client was still there).
    method        of the request that was sent; null where there is none that could be read.
    reason        why, as a stable code (docs/contracts/policy-event.md).
    request_id    JSON-RPC id of what was refused, as sent; left out where there is none. Decisions have
                  none: clients may choose ids anew in each run, and a tool call has its own.
    count         this line stands for so many refusals beyond those that were told one by one.
    name          of the tool or prompt, or the resource's URI, byte for byte as sent.
    paths, notes  as in the decision log; sorted, each once; left out when empty.
    """

    schema: str = constant(POLICY_EVENT_V1)
    run_id: RunId
    seq: Natural
    connection: Natural
    event: str
    method: str | None = nullable()
    reason: NonEmpty
    request_id: int | str | None = omittable()
    count: Natural | None = omittable()
    name: str | None = omittable()
    tool_call_id: NonEmpty | None = omittable()
    id_key: str | None = omittable()
    decision: NonEmpty | None = omittable()
    rule: str | None = omittable()
    paths: tuple[str, ...] | None = omittable()
    notes: tuple[str, ...] | None = omittable()

    @property
    def odd(self) -> str:
        """What is wrong with the keys of this kind of event; empty if nothing is."""
        if self.event not in _MUST:
            return f"no event {self.event!r} is known"
        have = {key for key in _OPTIONAL if getattr(self, key) is not None}
        must = _MUST[self.event]
        if wrong := sorted((have ^ must) - (have & _MAY.get(self.event, set()))):
            return f"{self.event} {'with' if wrong[0] in have else 'without'} {wrong[0]}"
        return ""
