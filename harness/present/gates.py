"""The end of a gate session: a line for each runtime, on a terminal and in a log alike."""

from harness.contracts.gate_summary import GateSummary
from harness.present.table import aligned
from harness.present.words import shown

_NUMBERS = frozenset({3, 4, 5})


def as_matrix(summary: GateSummary) -> str:
    """Aligned columns; distinct calls and paths of the runtime's gates, seconds of all its runs."""
    rows = [["runtime", "SDK version", "id source", "calls", "paths", "wall time", "verdict"]]
    rows += [
        [
            shown(line.runtime),
            shown(line.sdk_version or "-"),
            line.id_source or "-",
            str(line.calls),
            str(line.paths),
            f"{line.seconds:.1f} s",
            "pass" if line.passed else "FAIL",
        ]
        for line in summary.runtimes
    ]
    return aligned(rows, right=_NUMBERS)
