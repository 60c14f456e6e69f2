"""What follows from the layers: the surface and the correlation report (contracts §2.2, §5.4).

The writer and the verifier use the same functions: a report that does not follow is a forgery.
"""

from collections.abc import Iterable, Sequence

from harness.contracts.correlation import (
    NO_BINDING,
    NO_KERNEL_EVENTS,
    NO_TOOL_CALL_ID,
    SEVERAL_POLICY_EVENTS,
    Binding,
    CorrelationReport,
)
from harness.contracts.health import Correlation
from harness.contracts.kernel_event import (
    CONNECT,
    CONNECT_BLOCKED,
    EXEC,
    FILE_BLOCKED,
    FIRST_OTHER_OPERATION,
    OPENAT,
    SENDMSG,
    SENDTO,
    KernelEvent,
)
from harness.contracts.policy_event import PolicyEvent
from harness.contracts.rules import sorted_unique
from harness.contracts.sdk_event import SdkEvent
from harness.contracts.surface import CapabilitySurface
from harness.evidence.layers import tool_call_ids

_FILE_EVENTS = frozenset({OPENAT, FILE_BLOCKED})
_NETWORK_EVENTS = frozenset({CONNECT, SENDTO, SENDMSG, CONNECT_BLOCKED})


def correlate(
    run_id: str,
    policy_events: Sequence[PolicyEvent],
    kernel_event_count: int,
    sdk_events: Iterable[SdkEvent],
    idless_calls: int = 0,
) -> CorrelationReport:
    """One binding a decision; explicit ids only, never order, time or "the only candidate".

    `idless_calls`: decisions that could not become policy events for want of an id.
    """
    bindings = tuple(
        Binding(
            tool_call_id=event.tool_call_id,
            policy_decision=event.decision,
            kernel_event_count=kernel_event_count,
        )
        for event in policy_events
    )
    ambiguities = []
    if len(policy_events) > 1:
        ambiguities.append(SEVERAL_POLICY_EVENTS)
    if policy_events and kernel_event_count == 0:
        ambiguities.append(NO_KERNEL_EVENTS)
    if idless_calls:
        ambiguities.append(NO_TOOL_CALL_ID)
    if policy_events:
        bound = {event.tool_call_id for event in policy_events}
        ambiguities += [f"{NO_BINDING}:{name}" for name in tool_call_ids(sdk_events) if name not in bound]
    return CorrelationReport(
        run_id=run_id,
        status=Correlation.PARTIAL if ambiguities else Correlation.CLEAN,
        bindings=bindings,
        ambiguities=tuple(ambiguities),
    )


def surface(
    run_id: str, kernel_events: Iterable[KernelEvent], policy_events: Sequence[PolicyEvent]
) -> CapabilitySurface:
    """What kernel and policy saw, attempts included; the SDK's self-report adds nothing."""
    files: set[str] = set()
    endpoints: set[str] = set()
    execs: set[str] = set()
    for event in kernel_events:
        if event.value is None:
            continue
        if event.event_type in _FILE_EVENTS or event.event_type >= FIRST_OTHER_OPERATION:
            files.add(event.value)
        elif event.event_type in _NETWORK_EVENTS:
            endpoints.add(event.value)
        elif event.event_type == EXEC:
            execs.add(event.value)
    return CapabilitySurface(
        run_id=run_id,
        filesystem_paths=sorted_unique(files),
        network_endpoints=sorted_unique(endpoints),
        process_execs=sorted_unique(execs),
        mcp_tools=sorted_unique(event.tool for event in policy_events),
        policy_decisions=sorted_unique(f"{event.decision}:{event.tool}" for event in policy_events),
    )
