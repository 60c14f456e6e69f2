"""What may be claimed of each drift dimension: both archives must bear it (contracts §2.11, §6.3)."""

from harness.compare.claims import supported
from harness.compare.drift import Arm
from harness.compare.fidelity import fidelity_verdict
from harness.compare.methods import descriptors
from harness.contracts.coverage import Dimension
from harness.contracts.fidelity import ClaimKind, Decision, strictest
from harness.contracts.rules import sorted_unique
from harness.contracts.runtime_drift import Annotation, DriftAnnotation, DriftDimension

# The others are reports of a witness that has no coverage descriptor: they support no claim.
_MEASURED = {
    DriftDimension.FILESYSTEM_PATHS: Dimension.FILESYSTEM,
    DriftDimension.FILE_OPERATIONS: Dimension.FILESYSTEM,
    DriftDimension.NETWORK: Dimension.NETWORK,
    DriftDimension.EXECS: Dimension.PROCESS,
}


def annotate(a: Arm, b: Arm) -> DriftAnnotation:
    """Every dimension with every kind of claim, the strictest decision of both archives."""
    return DriftAnnotation(
        archive_a=a.reference,
        archive_b=b.reference,
        annotations=tuple(
            _annotation(dimension, kind, a, b) for dimension in DriftDimension for kind in ClaimKind
        ),
    )


def is_blocked(annotation: DriftAnnotation, kind: ClaimKind, dimension: DriftDimension) -> bool:
    return any(
        one.decision is Decision.BLOCKED
        for one in annotation.annotations
        if (one.kind, one.dimension) == (kind, dimension)
    )


def _annotation(dimension: DriftDimension, kind: ClaimKind, a: Arm, b: Arm) -> Annotation:
    decisions, rules = [], set[str]()
    for arm in (a, b):
        measured = _MEASURED.get(dimension)
        descriptor = descriptors(arm.archive, arm.health).get(measured) if measured else None
        decision, names, _ = supported(fidelity_verdict(arm.health), descriptor, kind)
        decisions.append(decision)
        rules.update(names)
    return Annotation(
        dimension=dimension, kind=kind, decision=strictest(*decisions), rules=sorted_unique(rules)
    )
