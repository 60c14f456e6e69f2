"""The members of an archive as models: strictly parsed, canonical bytes, schemas as named."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import count, repeat
from typing import Any, TypeVar

from attrs import frozen

from harness.bundle.problem import Problem
from harness.bundle.reader import Archive
from harness.contracts.canonical import JsonError, load_json, split_lines, to_bytes
from harness.contracts.companion import COMPANION_MODELS
from harness.contracts.converter import ContractError, parse, unstructure
from harness.contracts.correlation import CorrelationReport
from harness.contracts.health import ObservationHealth
from harness.contracts.kernel_event import KernelEvent
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
from harness.contracts.rules import RuleError
from harness.contracts.run_event import RunFinished, RunStarted
from harness.contracts.sdk_event import SdkEvent
from harness.contracts.surface import CapabilitySurface

T = TypeVar("T")
MAX_LINES = 1_000_000  # of one NDJSON member
RUN_EVENTS: tuple[type, ...] = (RunStarted, RunFinished)

MODELS: dict[str, type] = {
    SURFACE: CapabilitySurface,
    CORRELATION: CorrelationReport,
    KERNEL: KernelEvent,
    POLICY: PolicyEvent,
    SDK: SdkEvent,
    HEALTH: ObservationHealth,
    COMPANION_MANIFEST: CompanionManifest,
    **COMPANION_MODELS,
}


@frozen
class Place:
    member: str
    pointer: str


@frozen
class Contents:
    """Members that could be read: one model for a document, a tuple of models for NDJSON.

    A member with any problem is not here: nothing is derived from half a layer.
    """

    models: Mapping[str, Any]

    def document(self, member: str, cls: type[T]) -> T | None:
        model = self.models.get(member)
        return model if isinstance(model, cls) else None

    def lines(self, member: str, cls: type[T]) -> tuple[T, ...] | None:  # noqa: ARG002
        """The lines of a member; `cls` is what they are."""
        return self.models.get(member)

    def run_ids(self) -> Iterator[tuple[Place, str]]:
        for member, model in self.models.items():
            if not isinstance(model, tuple):
                yield Place(member, "/run_id"), model.run_id
                continue
            for number, line in enumerate(model, start=1):
                yield Place(member, f"line {number} at /run_id"), line.run_id

    def sequences(self) -> Iterator[tuple[str, list[int]]]:
        for member, model in self.models.items():
            if isinstance(model, tuple):
                yield member, [line.seq for line in model]


def read_contents(archive: Archive) -> tuple[Contents, list[Problem]]:
    """Every member but manifest.json, which the reader has parsed."""
    models: dict[str, Any] = {}
    problems: list[Problem] = []
    for member, data in archive.members.items():
        found: list[Problem] = []
        if member.endswith(".ndjson"):
            models[member] = _lines(member, data, found)
        elif member in MODELS:
            models[member] = _checked(member, "", data, found, MODELS[member])
        if found:
            del models[member]
        problems += found
    return Contents(models), problems


def _lines(member: str, data: bytes, problems: list[Problem]) -> tuple[Any, ...]:
    if data.count(b"\n") > MAX_LINES:
        problems.append(Problem("LimitTotalEvents", member, "", f"at most {MAX_LINES} lines", "more"))
        return ()
    try:
        lines = split_lines(data, member)
    except JsonError as error:
        problems.append(Problem(error.code, member, "", "", error.message))
        return ()
    if member == EVENTS and len(lines) != len(RUN_EVENTS):
        problems.append(Problem("ContractInvalidEvent", member, "", "2 lines", str(len(lines))))
        return ()
    classes: Iterable[type] = RUN_EVENTS if member == EVENTS else repeat(MODELS[member])
    return tuple(
        _checked(member, f"line {number}", line, problems, cls)
        for number, line, cls in zip(count(1), lines, classes, strict=False)
    )


def _checked(member: str, place: str, data: bytes, problems: list[Problem], cls: type) -> Any:
    """The model of one document, or None with a problem noted."""
    try:
        model: Any = parse(cls, load_json(data, place or member))
        if isinstance(model, ObservationHealth | KernelEvent | SdkEvent):
            model.validate()
    except JsonError as error:
        problems.append(Problem(error.code, member, place, "", error.message))
        return None
    except RuleError as error:
        problems.append(Problem("ContractInvalidEvent", member, _at(place, error.pointer), "", error.message))
        return None
    except ContractError as error:
        code = "ContractSchemaVersion" if error.pointer == "/schema" else "ContractInvalidJson"
        problems.append(Problem(code, member, _at(place, error.pointer), "", error.message))
        return None
    if to_bytes(unstructure(model)) != data:
        problems.append(Problem("ContractInvalidJson", member, place, "canonical bytes", "other bytes"))
        return None
    return model


def _at(place: str, pointer: str) -> str:
    return f"{place} at {pointer or '/'}" if place else pointer
