"""One side of a capability comparison: the three documents that it reads, and how good they are."""

from pathlib import Path

from attrs import frozen

from harness.bundle.reader import Archive
from harness.compare.fidelity import fidelity_verdict
from harness.compare.members import document, open_archive
from harness.contracts.correlation import CorrelationReport
from harness.contracts.fidelity import Verdict
from harness.contracts.health import Correlation, KernelLayer, ObservationHealth, PolicyLayer, SdkLayer
from harness.contracts.manifest import CORRELATION, HEALTH, SURFACE
from harness.contracts.surface import CapabilitySurface
from harness.errors import VerificationError


@frozen(kw_only=True)
class Side:
    """`place` names the archive in errors."""

    place: str
    health: ObservationHealth
    surface: CapabilitySurface
    correlation: CorrelationReport

    @property
    def run_id(self) -> str:
        return self.surface.run_id

    @property
    def health_clean(self) -> bool:
        """The full bar of contracts §3.6: all three witnesses, nothing lost."""
        health = self.health
        return (
            health.kernel_layer is KernelLayer.COMPLETE
            and health.ringbuf_drops == 0
            and health.policy_layer is PolicyLayer.PRESENT
            and health.sdk_layer is SdkLayer.SELF_REPORTED
            and health.cgroup_correlation is Correlation.CLEAN
        )

    @property
    def correlation_clean(self) -> bool:
        return self.correlation.status is Correlation.CLEAN and not self.correlation.ambiguities

    @property
    def failures(self) -> tuple[str, ...]:
        """Why this is no evidence at all, as stable names; empty for evidence, degraded or not."""
        verdict = fidelity_verdict(self.health)
        found = [reason.rule.value for reason in verdict.reasons] if verdict.verdict is Verdict.FAILED else []
        if self.correlation.status is Correlation.FAILED:
            found.append("correlation_report_status_failed")
        return tuple(found)

    def outcomes(self) -> dict[str, str | None]:
        """tool_call_id -> policy decision; VerificationError for an empty id or one that is there twice."""
        found: dict[str, str | None] = {}
        for number, binding in enumerate(self.correlation.bindings):
            name = binding.tool_call_id
            if not name.strip() or name in found:
                code, what = ("EmptyToolCallId", "is empty")
                if name in found:
                    code, what = ("DuplicateToolCallId", f"{name!r} is bound twice")
                raise VerificationError(
                    code,
                    what,
                    place=f"{self.place}: {CORRELATION} at /bindings/{number}/tool_call_id",
                    hint="calls cannot be told apart: give every tool call an id of its own and run again",
                )
            found[name] = binding.policy_decision
        return found


def load_side(path: Path) -> Side:
    """An archive, or the folder of an extracted one.

    InputError when there is nothing to read; VerificationError for what is not as its manifest and
    contracts say, with the place. Health that is not valid is read: the comparison is then `failed`.
    """
    return side_of(open_archive(path))


def side_of(archive: Archive) -> Side:
    """As `load_side`, of an archive that has been read."""
    side = Side(
        place=archive.place,
        health=document(archive, HEALTH, ObservationHealth),
        surface=document(archive, SURFACE, CapabilitySurface),
        correlation=document(archive, CORRELATION, CorrelationReport),
    )
    for member, run_id in (
        (HEALTH, side.health.run_id),
        (SURFACE, side.surface.run_id),
        (CORRELATION, side.correlation.run_id),
    ):
        if run_id != archive.run_id:
            raise VerificationError(
                "ContractRunIdMismatch",
                f"is {run_id!r}, but manifest.json says {archive.run_id!r}",
                place=f"{archive.place}: {member} at /run_id",
                hint="these are files of different runs: extract the archive again",
            )
    return side
