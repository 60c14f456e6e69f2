"""Baselines: what was accepted, written for review, and a later run compared with it."""

from pathlib import Path

from harness.compare.capabilities import sorted_capabilities
from harness.compare.examples import Examples
from harness.compare.tree import Run, capabilities_of, common, compare, status_of_run
from harness.contracts.baseline import Baseline
from harness.contracts.canonical import JsonError, load_json
from harness.contracts.capability_diff import DiffStatus
from harness.contracts.converter import structure
from harness.contracts.difference import Contract, DifferenceReport, Granularity
from harness.errors import EvidenceError, InputError

MAX_BYTES = 64 << 20
UNNAMED = "unnamed"
_HINT = "make it again with `assay-runner baseline accept`"


def accept(run: Run) -> Baseline:
    """The run's surface, v1 where it has one; EvidenceError when its evidence is not clean."""
    if status_of_run(run) is not DiffStatus.CLEAN:
        raise EvidenceError(
            "not accepted: its evidence is not clean, so the surface may lack something",
            place=run.archive.place,
            hint="see `assay-runner claims`, and run again",
        )
    contract = Contract.V0 if run.v1 is None else Contract.V1
    return Baseline(
        fixture=run.fixture or UNNAMED,
        contract=contract,
        capabilities=sorted_capabilities(capabilities_of(run, contract)),
    )


def read_baseline(path: Path) -> Baseline:
    """InputError with the place for anything but a baseline."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError("no such baseline", place=str(path), hint=_HINT) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", place=str(path), hint=_HINT) from None
    if len(data) > MAX_BYTES:
        raise InputError(f"more than {MAX_BYTES} bytes", place=str(path), hint=_HINT)
    try:
        text = load_json(data, "document")
    except JsonError as error:
        raise InputError(error.message, place=str(path), hint=_HINT) from None
    return structure(Baseline, text, place=str(path))


def check_run(
    baseline: Baseline, head: Run, granularity: Granularity = Granularity.EXACT
) -> DifferenceReport:
    """What `head` can do that was not accepted, and the other way round."""
    if baseline.contract is Contract.V1 and head.v1 is None:
        raise InputError(
            "has no surface v1, but the baseline is of v1",
            place=head.archive.place,
            hint="compare with `diff`",
        )
    accepted = {category: dict(names) for category, names in baseline.capabilities.items()}
    found = common(capabilities_of(head, baseline.contract), accepted)
    unknown = sorted(accepted.keys() - found.keys())
    if unknown:
        raise InputError(f"{unknown[0]!r} is no category", place="/capabilities", hint=_HINT)
    notes = []
    if head.fixture not in (None, baseline.fixture):
        notes.append(f"other_fixture: the baseline is of {baseline.fixture}, this run is of {head.fixture}")
    return DifferenceReport(
        base=f"baseline of {baseline.fixture}",
        head=head.side.run_id,
        fixture=head.fixture,
        contract=baseline.contract,
        granularity=granularity,
        status=status_of_run(head),
        notes=tuple(notes),
        categories=compare(accepted, found, granularity, Examples(head.archive, granularity).of),
    )
