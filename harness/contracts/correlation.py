"""correlation-report.json: which call ids the policy layer bound (contracts §2.3, §5.4)."""

from attrs import frozen

from harness.contracts.converter import Natural, constant, nullable, omittable
from harness.contracts.health import Correlation
from harness.contracts.rules import RunId

SCHEMA = "assay.runner.correlation_report.v0"
RUN_STARTED = "run_started"
RUN_FINISHED = "run_finished"

SEVERAL_POLICY_EVENTS = "session_cgroup_ambiguous_for_multiple_policy_events"
NO_KERNEL_EVENTS = "policy_events_without_kernel_events"
NO_TOOL_CALL_ID = "policy_call_without_tool_call_id"
NO_BINDING = "sdk_tool_call_without_policy_binding"


@frozen
class Window:
    """Always the whole run."""

    start: str = RUN_STARTED
    end: str = RUN_FINISHED


@frozen(kw_only=True)
class Binding:
    """This call id was decided upon in a run with that many kernel events; nothing causal."""

    tool_call_id: str
    policy_decision: str | None = nullable()
    cgroup_id: Natural | None = omittable()
    kernel_event_count: Natural
    window: Window = Window()


@frozen(kw_only=True)
class CorrelationReport:
    """`ambiguities` in the order in which they were found."""

    schema: str = constant(SCHEMA)
    run_id: RunId
    status: Correlation
    bindings: tuple[Binding, ...]
    ambiguities: tuple[str, ...]
