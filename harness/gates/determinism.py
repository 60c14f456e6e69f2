"""Three-run determinism, as bytes: no parsing, no masking (design §6).

Between the runs something harmless is varied, so that equality proves something: the containers'
host name, the folder that the workspace comes from, and the order of its inputs on disk.
"""

from pathlib import Path

from harness.bundle.reader import read_archive
from harness.compare.pointer import first_divergence
from harness.contracts.compared import compared


def divergences(archives: list[Path]) -> list[str]:
    """Run 1 against every other run: one line per member that differs, with the first pointer."""
    first, *others = [read_archive(path).members for path in archives]
    found = []
    for number, other in enumerate(others, start=2):
        for member in compared(first, other):
            divergence = first_divergence(first[member], other[member], member)
            if divergence is not None:
                found.append(
                    f"run 1 and run {number} differ in {member} at {divergence.place}: "
                    f"{divergence.left} and {divergence.right}"
                )
    return found
