"""One JSON document or line as a model: strictly parsed, canonical bytes, its own rules."""

from collections.abc import Callable
from typing import Any

from harness.bundle.problem import Problem
from harness.contracts.bounds import MAX_NODES
from harness.contracts.canonical import JsonError, load_json, to_bytes
from harness.contracts.converter import ContractError, parse, unstructure
from harness.contracts.health import ObservationHealth
from harness.contracts.kernel_event import KernelEvent
from harness.contracts.rules import RuleError
from harness.contracts.sdk_event import SdkEvent

Report = Callable[[Problem], None]


def checked(member: str, place: str, data: bytes, cls: type, report: Report) -> Any:
    """The model of `data`, or None with a problem reported; `place` is the line, empty for a document."""
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_NODES:
        report(Problem("LimitJsonNodes", member, place, "", f"more than {MAX_NODES} values"))
        return None
    try:
        model: Any = parse(cls, load_json(data, place or member))
        if isinstance(model, ObservationHealth | KernelEvent | SdkEvent):
            model.validate()
    except JsonError as error:
        report(Problem(error.code, member, place, "", error.message))
        return None
    except RuleError as error:
        report(Problem("ContractInvalidEvent", member, _at(place, error.pointer), "", error.message))
        return None
    except ContractError as error:
        code = "ContractSchemaVersion" if error.pointer == "/schema" else "ContractInvalidJson"
        report(Problem(code, member, _at(place, error.pointer), "", error.message))
        return None
    if to_bytes(unstructure(model)) != data:
        report(Problem("ContractInvalidJson", member, place, "canonical bytes", "other bytes"))
        return None
    return model


def _at(place: str, pointer: str) -> str:
    return f"{place} at {pointer or '/'}" if place else pointer
