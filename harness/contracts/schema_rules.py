"""What a model's `validate` asks for beyond types, as JSON Schema: as much of it as can be said."""

from typing import Any

from harness.contracts.cross_runtime_diff import V0_RUNTIMES, CrossRuntimeDiff, CrossRuntimeSchema
from harness.contracts.health import LINUX, Correlation, KernelLayer, ObservationHealth
from harness.contracts.kernel_event import EVENT_KINDS, KernelEvent, Status
from harness.contracts.policy_file import PolicyRule
from harness.contracts.projection import APPLIED_KEYS, Projection, ProjectionSchema, ProjectionStatus
from harness.contracts.sdk_event import TOOL_CALL_TYPES, SdkEvent

Schema = dict[str, Any]


def has(key: str, **what: Any) -> Schema:
    """True of an object that has the key with such a value."""
    return {"required": [key], "properties": {key: what}}


def lacks(*keys: str) -> Schema:
    return {"not": {"anyOf": [{"required": [key]} for key in keys]}}


def when(condition: Schema, then: Schema, otherwise: Schema | None = None) -> Schema:
    return {"if": condition, "then": then} | ({"else": otherwise} if otherwise else {})


_KINDS = [
    when(has("event_type", const=number), has("kind", const=kind)) for number, kind in EVENT_KINDS.items()
]
_OTHER_KIND = when(
    has("event_type", type="integer", enum=list(EVENT_KINDS)),
    {},
    has("kind", pattern=r"^event_(0|[1-9][0-9]*)$(?!\n)"),
)
_OPERATIONS = {
    "items": {"enum": ["create", "truncate", "append", "exclusive"]},
    "minItems": 1,
    "uniqueItems": True,
}

MODEL_RULES: dict[type, tuple[Schema, ...]] = {
    ObservationHealth: (
        when(
            has("ringbuf_drops", type="integer", exclusiveMinimum=0),
            has("kernel_layer", const=KernelLayer.PARTIAL.value),
        ),
        when(
            has("platform", **{"not": {"const": LINUX}}), has("kernel_layer", const=KernelLayer.ABSENT.value)
        ),
        {"properties": {"cgroup_correlation": {"not": {"const": Correlation.FAILED.value}}}},
    ),
    KernelEvent: (
        *_KINDS,
        _OTHER_KIND,
        when({"required": ["flags"]}, {"required": ["access_mode"]}, lacks("access_mode", "operation_flags")),
        {"properties": {"operation_flags": _OPERATIONS, "resolve": {"minimum": 1}}},
        when(
            {"required": ["return_value"]},
            when(
                has("return_value", minimum=0),
                has("status", const=Status.SUCCESS.value),
                has("status", const=Status.ERROR.value),
            ),
            lacks("status"),
        ),
    ),
    SdkEvent: (
        when(
            has("event_type", enum=[kind.value for kind in TOOL_CALL_TYPES]),
            {"properties": {key: {"type": "string", "minLength": 1} for key in ("tool_call_id", "tool")}},
        ),
    ),
    CrossRuntimeDiff: (
        when(
            has("schema", const=CrossRuntimeSchema.V0.value),
            {
                "oneOf": [
                    {"properties": {"base_runtime": {"const": base}, "head_runtime": {"const": head}}}
                    for base, head in (V0_RUNTIMES, V0_RUNTIMES[::-1])
                ]
            },
        ),
    ),
    Projection: (
        when(
            has("status", const=ProjectionStatus.APPLIED.value),
            {
                "required": list(APPLIED_KEYS),
                "properties": {"schema": {"not": {"const": ProjectionSchema.NOT_APPLIED.value}}},
            },
            {"properties": {"schema": {"const": ProjectionSchema.NOT_APPLIED.value}}} | lacks(*APPLIED_KEYS),
        ),
    ),
    PolicyRule: (
        {
            "dependentRequired": {"path_args": ["paths"], "paths": ["tools"]},
            "oneOf": [{"required": [kind]} for kind in ("tools", "resources", "prompts")],
        },
    ),
}
