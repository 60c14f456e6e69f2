"""Members below companion/: which there are, their schemas and their models (design §6).

The manifest that binds them to the v0 manifest is in `contracts.manifest`.
"""

from harness.contracts.companion_evidence import (
    ATTRIBUTION_V1,
    KERNEL_EVENT_V1,
    PROCESS_TREE_V1,
    SURFACE_V1,
    Action,
    AttributedCall,
    AttributedEvidence,
    AttributionV1,
    CapabilitySurfaceV1,
    ExecCapability,
    ExecImage,
    KernelEventV1,
    NetworkCapability,
    PathCapability,
    ProcessNode,
    ProcessTreeV1,
    ToolCapability,
)
from harness.contracts.companion_policy import POLICY_EVENT_V1, PolicyEventV1
from harness.contracts.companion_run import (
    ACCOUNTING_V1,
    HOST_V1,
    NETWORK_SEAL_V1,
    RUNSPEC_V1,
    AccountingV1,
    CaptureCounts,
    ClassCounts,
    DeclaredProgram,
    HostV1,
    Identity,
    KindCounts,
    NetworkSealV1,
    RoleSeal,
    RunSpecDocV1,
)

ACCOUNTING = "companion/accounting.json"
ATTRIBUTION = "companion/attribution.json"
HOST = "companion/host.json"
KERNEL = "companion/kernel.ndjson"
NETWORK = "companion/network.json"
POLICY = "companion/policy.ndjson"
PROCESSES = "companion/processes.json"
RUNSPEC = "companion/runspec.json"
SURFACE = "companion/surface.json"

# Member -> the schema of its document, or of each of its lines for .ndjson.
COMPANION_SCHEMAS: dict[str, str] = {
    ACCOUNTING: ACCOUNTING_V1,
    ATTRIBUTION: ATTRIBUTION_V1,
    HOST: HOST_V1,
    KERNEL: KERNEL_EVENT_V1,
    NETWORK: NETWORK_SEAL_V1,
    POLICY: POLICY_EVENT_V1,
    PROCESSES: PROCESS_TREE_V1,
    RUNSPEC: RUNSPEC_V1,
    SURFACE: SURFACE_V1,
}

COMPANION_MODELS: dict[str, type] = {
    ACCOUNTING: AccountingV1,
    ATTRIBUTION: AttributionV1,
    HOST: HostV1,
    KERNEL: KernelEventV1,
    NETWORK: NetworkSealV1,
    POLICY: PolicyEventV1,
    PROCESSES: ProcessTreeV1,
    RUNSPEC: RunSpecDocV1,
    SURFACE: CapabilitySurfaceV1,
}

# Companion members that must have the same bytes in every run of the same thing (design §6).
COMPARED_COMPANION: tuple[str, ...] = (ATTRIBUTION, KERNEL, POLICY, PROCESSES, SURFACE)
# Members that runs of before do not have.
LATER_COMPANION: frozenset[str] = frozenset({POLICY})

__all__ = [
    "ACCOUNTING",
    "ATTRIBUTION",
    "COMPANION_MODELS",
    "COMPANION_SCHEMAS",
    "COMPARED_COMPANION",
    "HOST",
    "KERNEL",
    "LATER_COMPANION",
    "NETWORK",
    "POLICY",
    "PROCESSES",
    "RUNSPEC",
    "SURFACE",
    "AccountingV1",
    "Action",
    "AttributedCall",
    "AttributedEvidence",
    "AttributionV1",
    "CapabilitySurfaceV1",
    "CaptureCounts",
    "ClassCounts",
    "DeclaredProgram",
    "ExecCapability",
    "ExecImage",
    "HostV1",
    "Identity",
    "KernelEventV1",
    "KindCounts",
    "NetworkCapability",
    "NetworkSealV1",
    "PathCapability",
    "PolicyEventV1",
    "ProcessNode",
    "ProcessTreeV1",
    "RoleSeal",
    "RunSpecDocV1",
    "ToolCapability",
]
