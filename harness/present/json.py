"""A difference for programs: the v0 document exactly as the contract has it, or the tree."""

from harness.compare.capability import to_json
from harness.contracts.capability_diff import CapabilityDiff
from harness.contracts.cross_runtime_diff import CrossRuntimeDiff
from harness.contracts.difference import DifferenceReport

Document = CapabilityDiff | CrossRuntimeDiff | DifferenceReport


def as_json(document: Document) -> bytes:
    """Indent 2, keys in the contract's order, one newline at the end."""
    return to_json(document)
