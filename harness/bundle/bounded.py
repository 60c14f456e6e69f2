"""An archive that every verifier takes, whatever was observed: beyond a bound, only the beginning is told."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.bundle.payload import Limits
from harness.bundle.verify import verify
from harness.bundle.writer import write_archive
from harness.contracts.bounds import MIB
from harness.errors import EvidenceError
from harness.evidence.assemble import Assembled, RunContext, assemble
from harness.evidence.model import Observation, TooMuchError
from harness.evidence.reduce import SHARES, Share, reduced

Told = tuple[Observation, Assembled]

_SMALL = MIB  # unpacked: no bound is below it


def assemble_within_bounds(observation: Observation, context: RunContext) -> Told:
    """As much of what was observed as an archive can hold, and its members."""
    return _fitting(observation, context, observation, iter(SHARES))


def write_within_bounds(path: Path, observation: Observation, context: RunContext, first: Told) -> Told:
    """Write the archive of `first`, or of less until a verifier finds it within all bounds.

    Errors as `write_archive`; EvidenceError if what was declared is too large by itself. Whether the archive
    holds otherwise is for the caller to check.
    """
    told, tried = first, iter(SHARES)
    while True:
        assembled = told[1]
        write_archive(path, assembled.v0, assembled.companion, context.run_id)
        beyond = _beyond(path) if _size(assembled) > _SMALL else ""
        if not beyond:
            return told
        told = _fitting(observation, context, _less(observation, tried, beyond), tried)


def _fitting(
    observation: Observation, context: RunContext, told: Observation, tried: Iterator[Share]
) -> Told:
    while True:
        try:
            assembled = assemble(told, context)
            _refuse_large(assembled)
        except TooMuchError as error:
            told = _less(observation, tried, str(error))
        else:
            return told, assembled


def _less(observation: Observation, tried: Iterator[Share], beyond: str) -> Observation:
    for share in tried:
        return reduced(observation, share, observation.beyond or beyond)
    raise EvidenceError(
        f"what was declared for this run is too large for an archive by itself: {beyond}",
        hint="give it fewer inputs",
    )


def _refuse_large(assembled: Assembled) -> None:
    """Sizes are looked at before anything is packed: that takes longer than all else."""
    limits = Limits()
    for name, data in _members(assembled).items():
        if len(data) > limits.of_member(name):
            raise TooMuchError(f"bytes in {name}", limits.of_member(name))
    if _size(assembled) > limits.decoded:
        raise TooMuchError("bytes in all members", limits.decoded)


def _beyond(path: Path) -> str:
    """The bound that this archive does not keep, "" if it keeps all."""
    for problem in verify(path).problems:
        if problem.code.startswith("Limit") or problem.code == "IntegrityZipBomb":
            return f"{problem.where}: {problem.text}" if problem.where else problem.text
    return ""


def _size(assembled: Assembled) -> int:
    return sum(map(len, _members(assembled).values()))


def _members(assembled: Assembled) -> Mapping[str, bytes]:
    return {**assembled.v0, **assembled.companion}
