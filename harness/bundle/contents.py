"""What the members say: documents and short layers as models, the two kernel layers as facts."""

from collections.abc import Iterator
from typing import Any, TypeVar

from harness.bundle.checked import Report, checked
from harness.bundle.kernel_lines import TooManyError, V0Kernel, V1Kernel
from harness.bundle.members import Members
from harness.bundle.problem import Kept, Problem
from harness.contracts import companion
from harness.contracts.bounds import MAX_CHANNEL_LINES, MAX_EVENTS, MAX_LINE_BYTES, MAX_LINES
from harness.contracts.companion import COMPANION_MODELS, PolicyEventV1
from harness.contracts.correlation import CorrelationReport
from harness.contracts.health import ObservationHealth
from harness.contracts.manifest import (
    COMPANION_MANIFEST,
    CORRELATION,
    EVENTS,
    HEALTH,
    KERNEL,
    POLICY,
    SDK,
    SURFACE,
    CompanionManifest,
)
from harness.contracts.policy_event import PolicyEvent
from harness.contracts.run_event import RunFinished, RunStarted
from harness.contracts.sdk_event import SdkEvent
from harness.contracts.surface import CapabilitySurface

T = TypeVar("T")

DOCUMENTS: dict[str, type] = {
    SURFACE: CapabilitySurface,
    CORRELATION: CorrelationReport,
    HEALTH: ObservationHealth,
    COMPANION_MANIFEST: CompanionManifest,
    **{name: cls for name, cls in COMPANION_MODELS.items() if name.endswith(".json")},
}
LINES: dict[str, tuple[type, ...]] = {
    POLICY: (PolicyEvent,),
    SDK: (SdkEvent,),
    EVENTS: (RunStarted, RunFinished),
    companion.POLICY: (PolicyEventV1,),
}


class Contents:
    """Reads every member but the two manifests, and reports what is not as its contract says.

    `other_runs` and `unordered` are problems of later stages: run ids, and the order of lines.
    """

    def __init__(self, members: Members, run_id: str, report: Report) -> None:
        self.members = members
        self.run_id = run_id
        self.other_runs = Kept()
        self.unordered = Kept()
        self._models: dict[str, Any] = {}
        self.v0 = V0Kernel(run_id)
        self.v1 = V1Kernel(run_id)
        for name in members:
            if name == KERNEL:
                self._read_kernel(name, self.v0, report)
            elif name == companion.KERNEL:
                self._read_kernel(name, self.v1, report)
            elif name in LINES:
                self._models[name] = tuple(self._read_lines(name, report))
            elif name in DOCUMENTS:
                self._read_document(name, report)

    @property
    def has_companion(self) -> bool:
        return COMPANION_MANIFEST in self.members

    @property
    def policy(self) -> tuple[PolicyEvent, ...]:
        return self._lines_of(POLICY, PolicyEvent)

    @property
    def policy_v1(self) -> tuple[PolicyEventV1, ...]:
        """Empty also for archives of before."""
        found: tuple[PolicyEventV1, ...] = self._models.get(companion.POLICY, ())
        return found

    @property
    def sdk(self) -> tuple[SdkEvent, ...]:
        return self._lines_of(SDK, SdkEvent)

    @property
    def started(self) -> RunStarted:
        found: RunStarted = self._models[EVENTS][0]
        return found

    @property
    def finished(self) -> RunFinished:
        found: RunFinished = self._models[EVENTS][1]
        return found

    def document(self, member: str, cls: type[T]) -> T:
        """A document's model; of companion/surface.json it is made anew, because it may be large."""
        found = self._models.get(member) or checked(member, "", self.members[member], cls, _none)
        assert isinstance(found, cls)
        return found

    def _lines_of(self, member: str, _cls: type[T]) -> tuple[T, ...]:
        found: tuple[T, ...] = self._models[member]
        return found

    def _read_document(self, member: str, report: Report) -> None:
        model = checked(member, "", self.members[member], DOCUMENTS[member], report)
        if model is None:
            return
        if member != companion.SURFACE:
            self._models[member] = model
        if model.run_id != self.run_id:
            self.other_runs.add(
                Problem("ContractRunIdMismatch", member, "/run_id", self.run_id, model.run_id)
            )

    def _read_lines(self, member: str, report: Report) -> Iterator[Any]:
        number, classes = 0, LINES[member]
        most = MAX_CHANNEL_LINES if member == companion.POLICY else MAX_EVENTS
        for lines in _blocks(self.members, member, most, report):
            for line in lines:
                number += 1
                if member == EVENTS and number > len(classes):
                    report(Problem("ContractInvalidEvent", member, f"line {number}", "2 lines", "another"))
                    return
                model = self._line(member, number, line, classes[min(number, len(classes)) - 1], report)
                if model is not None:
                    yield model
        if member == EVENTS and number < len(classes):
            report(Problem("ContractInvalidEvent", member, "", "2 lines", str(number)))

    def _read_kernel(self, member: str, kernel: V0Kernel | V1Kernel, report: Report) -> None:
        number = 0
        try:
            for lines in _blocks(self.members, member, MAX_LINES, report):
                taken = _taken(kernel, lines, number)
                number += taken
                for line in lines[taken:]:
                    number += 1
                    model = self._line(member, number, line, kernel.model, report)
                    if model is not None:
                        kernel.add(model)
        except TooManyError as error:
            report(Problem("LimitDistinctLines", member, "", "", str(error)))
        if isinstance(kernel, V1Kernel) and kernel.unordered is not None:
            place = f"line {kernel.unordered}"
            self.unordered.add(
                Problem("ContractLineOrder", member, place, "distinct lines, sorted", "another order")
            )

    def _line(self, member: str, number: int, line: bytes, cls: type, report: Report) -> Any:
        place = f"line {number}"
        if not line.strip():
            report(Problem("ContractInvalidJson", member, place, "", "blank line"))
            return None
        model = checked(member, place, line, cls, report)
        if model is None:
            return None
        if model.run_id != self.run_id:
            at = f"{place} at /run_id"
            self.other_runs.add(Problem("ContractRunIdMismatch", member, at, self.run_id, model.run_id))
        if model.seq != number - 1:
            code = "ContractSequenceGap" if number > 1 else "ContractSequenceStart"
            self.unordered.add(Problem(code, member, f"{place} at /seq", str(number - 1), str(model.seq)))
        return model


def _taken(kernel: V0Kernel | V1Kernel, lines: list[bytes], number: int) -> int:
    """How many lines could be taken at once: all, none, or those before the numbers get longer."""
    taken = 0
    while kernel.count == number + taken and taken < len(lines):
        wider = 10 ** len(str(kernel.count)) - number
        if not kernel.take(lines[taken:wider]):
            break
        taken = kernel.count - number
    return taken


def _blocks(members: Members, member: str, most: int, report: Report) -> Iterator[list[bytes]]:
    """Whole lines, about as many as a chunk has; a problem for what is no line."""
    rest, number = b"", 0
    for chunk in members.chunks(member):
        lines = chunk.split(b"\n")
        if len(rest) + len(lines[0]) > MAX_LINE_BYTES:
            text = f"longer than {MAX_LINE_BYTES} bytes"
            report(Problem("LimitLineBytes", member, f"line {number + 1}", "", text))
            return
        lines[0] = rest + lines[0]
        rest = lines.pop()
        number += len(lines)
        if number > most:
            report(Problem("LimitTotalEvents", member, "", f"at most {most} lines", "more"))
            return
        if lines:
            yield lines
    if rest:
        report(Problem("ContractInvalidJson", member, "", "", "the last line does not end with a newline"))


def _none(_: Problem) -> None:
    """A document that has been read once can be read again."""
