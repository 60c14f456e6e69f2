"""One line of layers/sdk.ndjson: self-report of the agent's runtime (contracts §2.6, §5.3)."""

from enum import StrEnum

from attrs import frozen

from harness.contracts.converter import Natural, NonEmpty, constant, nullable
from harness.contracts.rules import RuleError, RunId

SCHEMA = "assay.runner.sdk_event.v0"


class SdkEventType(StrEnum):
    TOOL_CALL_STARTED = "tool_call_started"
    TOOL_CALL_COMPLETED = "tool_call_completed"
    RUN_FINISHED = "run_finished"
    RUN_FAILED = "run_failed"


TOOL_CALL_TYPES = (SdkEventType.TOOL_CALL_STARTED, SdkEventType.TOOL_CALL_COMPLETED)


@frozen(kw_only=True)
class SdkEvent:
    """The last four keys are null when unknown."""

    schema: str = constant(SCHEMA)
    run_id: RunId
    seq: Natural
    event_type: SdkEventType
    source: NonEmpty
    sdk_name: str | None = nullable()
    sdk_version: str | None = nullable()
    tool_call_id: str | None = nullable()
    tool: str | None = nullable()

    def validate(self) -> None:
        """RuleError MissingToolCallField when a tool call event does not name its call."""
        if self.event_type in TOOL_CALL_TYPES:
            for key, value in (("tool_call_id", self.tool_call_id), ("tool", self.tool)):
                if not value:
                    raise RuleError("MissingToolCallField", f"/{key}", f"{self.event_type} needs it")
