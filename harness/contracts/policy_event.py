"""One line of layers/policy.ndjson (contracts §2.5)."""

from attrs import frozen

from harness.contracts.converter import Natural, NonEmpty, constant
from harness.contracts.rules import RunId

SCHEMA = "assay.runner.policy_event.v0"
DECISION_TYPE = "assay.tool.decision"


@frozen(kw_only=True)
class PolicyEvent:
    """One decision about one call that named its tool_call_id."""

    schema: str = constant(SCHEMA)
    run_id: RunId
    seq: Natural
    source_event_type: str = constant(DECISION_TYPE)
    source: NonEmpty
    tool_call_id: NonEmpty
    tool: NonEmpty
    decision: NonEmpty
