"""The run's own folder in its containers, and who may do what there.

Each socket is the host's; its folder is the host's as well, and read-only where it is mounted. What is
listed here is all that anybody has to do there: whatever else touches the folder is told, and the run
is not clean (harness.evidence.tripwires).
"""

CONTROL = "/run/assay"
MCP_SOCKET = f"{CONTROL}/mcp/mcp.sock"  # in the subject alone: for the bridge
SDK_SOCKET = f"{CONTROL}/sdk/sdk.sock"  # in the subject alone: for any of its programs
DECISIONS_SOCKET = f"{CONTROL}/decisions/decisions.sock"  # in the tools alone: for the proxy, once
