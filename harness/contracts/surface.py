"""capability-surface.json: what the run touched, as five ordered sets (contracts §2.2)."""

from attrs import frozen

from harness.contracts.converter import constant
from harness.contracts.rules import OrderedSet, RunId

SCHEMA = "assay.runner.capability_surface.v0"
DIMENSIONS = (
    "filesystem_paths",
    "network_endpoints",
    "process_execs",
    "mcp_tools",
    "policy_decisions",
)


@frozen(kw_only=True)
class CapabilitySurface:
    """Each array sorted by UTF-8 bytes, each value once; attempts are included."""

    schema: str = constant(SCHEMA)
    run_id: RunId
    filesystem_paths: OrderedSet
    network_endpoints: OrderedSet
    process_execs: OrderedSet
    mcp_tools: OrderedSet
    policy_decisions: OrderedSet  # "<decision>:<tool>"
