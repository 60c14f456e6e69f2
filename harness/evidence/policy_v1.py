"""From what the policy proxy said to companion/policy.ndjson."""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve

from harness.contracts.companion_policy import (
    CALL,
    DECIDED,
    ENDED,
    KILLED,
    LIMITED,
    REFUSED,
    UNTOLD,
    PolicyEventV1,
)
from harness.contracts.policy_event import DECISION_TYPE
from harness.contracts.rules import sorted_unique

READY_TYPE = "assay.proxy.ready"
ANSWERED_TYPE = "assay.tool.answered"
REJECTED_TYPE = "assay.proxy.rejected"
LIMITED_TYPE = "assay.proxy.limited"
JUDGED_TYPE = "assay.proxy.judged"
ENDED_TYPE = "assay.server.ended"
# What the policy proxy says besides decisions.
OTHER_POLICY_TYPES = frozenset(
    {READY_TYPE, ANSWERED_TYPE, REJECTED_TYPE, LIMITED_TYPE, JUDGED_TYPE, ENDED_TYPE}
)
_BY_ITSELF = frozenset({"server_exited", "server_not_started"})
_UNKNOWN = "unknown"


def policy_event_v1(document: Mapping[str, Any], run_id: str) -> PolicyEventV1 | None:
    """The line of one CloudEvent; its seq is not known yet. None for what is no news."""
    kind, data = document.get("type"), document.get("data")
    if not isinstance(data, Mapping) or kind in (READY_TYPE, ANSWERED_TYPE):
        return None
    connection = data.get("connection")
    base = PolicyEventV1(
        run_id=run_id,
        seq=0,
        connection=connection if type(connection) is int and connection >= 0 else 0,
        event=REFUSED,
        method=_text(data, "method"),
        reason=_text(data, "reason") or _text(data, "reason_code") or _UNKNOWN,
    )
    if kind == REJECTED_TYPE:
        request_id, count = data.get("request_id"), data.get("count")
        return evolve(
            base,
            request_id=request_id if type(request_id) in (int, str) else None,
            count=count if type(count) is int and count > 0 else None,
        )
    if kind == LIMITED_TYPE:
        return evolve(base, event=LIMITED)
    if kind == ENDED_TYPE:
        return evolve(base, event=ENDED if base.reason in _BY_ITSELF else KILLED)
    return _decided(base, data, call=kind == DECISION_TYPE)


def in_order(events: Iterable[PolicyEventV1]) -> tuple[PolicyEventV1, ...]:
    """By connection, then as they arrived; numbered."""
    ordered = sorted(events, key=lambda event: event.connection)
    return tuple(evolve(event, seq=number) for number, event in enumerate(ordered))


def is_untold(event: PolicyEventV1) -> bool:
    """The proxy refused more than it tells."""
    return event.event == LIMITED and event.reason == UNTOLD


def _decided(base: PolicyEventV1, data: Mapping[str, Any], *, call: bool) -> PolicyEventV1:
    notes = set(_texts(data, "notes"))
    if data.get("duplicate_id") is True:
        notes.add("duplicate_id")
    return evolve(
        base,
        event=DECIDED,
        method=CALL if call else base.method,
        reason=_text(data, "reason_code") or _UNKNOWN,
        name=_text(data, "tool" if call else "name") or "",
        tool_call_id=_text(data, "tool_call_id"),
        id_key=_text(data, "id_key"),
        decision=_text(data, "decision") or _UNKNOWN,
        rule=_text(data, "rule") or "",
        paths=sorted_unique(_texts(data, "paths")) or None,
        notes=sorted_unique(notes) or None,
    )


def _text(data: Mapping[str, Any], key: str) -> str | None:
    """As it was sent; None for what is no text, or blank."""
    value = data.get(key)
    return value if isinstance(value, str) and value.strip() else None


def _texts(data: Mapping[str, Any], key: str) -> list[str]:
    value = data.get(key)
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
