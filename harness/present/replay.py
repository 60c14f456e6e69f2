"""What a replay found, for people; what a kit brings passes `shown`."""

from harness.contracts.difference import DifferenceReport
from harness.contracts.replay_kit import ReplayResult
from harness.present.text import as_text as difference_text
from harness.present.words import shown


def as_text(result: ReplayResult, report: DifferenceReport | None, *, colour: bool = False) -> str:
    """Lines ending in a newline; `report` is the tree of what the surfaces differ in, if anything differs."""
    compared, equal = len(result.compared), len(result.compared) - len(result.differences)
    lines = [
        f"{'equal' if result.equal else 'DIFFERENT'} {shown(result.kit)} run_id={result.run_id}",
        f"  image {result.image_id}",
        f"  archive of the kit {result.expected_identity}, of the replay {result.identity}",
        f"  {equal} of {compared} members have equal bytes",
    ]
    for one in result.differences:
        lines += [
            f"  {one.member} at {shown(one.place)}",
            f"    kit:    {shown(one.expected)}",
            f"    replay: {shown(one.replayed)}",
        ]
    text = "\n".join(lines) + "\n"
    return text if report is None else text + difference_text(report, colour=colour)
