"""The two lines of events.ndjson (contracts §2.7)."""

from attrs import frozen

from harness.contracts.converter import Natural, constant, nullable
from harness.contracts.rules import OrderedSet, RunId

SCHEMA = "assay.runner.event.v0"
RUN_STARTED = "run_started"
RUN_FINISHED = "run_finished"


@frozen(kw_only=True)
class RunStarted:
    """`env_keys`: names, never values, of what the runner added to the environment."""

    schema: str = constant(SCHEMA)
    run_id: RunId
    seq: int = constant(0)
    type: str = constant(RUN_STARTED)
    agent_shim: str
    command: tuple[str, ...]
    env_keys: OrderedSet
    window_elapsed_ms: int = constant(0)


@frozen(kw_only=True)
class RunFinished:
    """`window_elapsed_ms` counts from run_started."""

    schema: str = constant(SCHEMA)
    run_id: RunId
    seq: int = constant(1)
    type: str = constant(RUN_FINISHED)
    exit_code: int | None = nullable()
    signal: int | None = nullable()
    success: bool
    window_elapsed_ms: Natural
