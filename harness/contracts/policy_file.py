"""policy.toml as a model, for its schema. The proxy in the image reads the file by itself."""

import re
from enum import StrEnum
from typing import Annotated

from attrs import frozen

from harness.contracts.converter import NonEmpty, Rule, constant
from harness.contracts.rules import RuleError

SCHEMA = "assay.runner.policy.v1"
RESERVED_IDS = ("default", "missing_tool_call_id")

# "/", or segments that a normalised absolute path can have, starting with "/" or "**".
PATH_GLOB = (
    r"^(?=/|\*\*)(?:/|/?(?!\.{1,2}(?:/|(?![\s\S])))[^/]+(?:/(?!\.{1,2}(?:/|(?![\s\S])))[^/]+)*)(?![\s\S])"
)

FOLDER = r"^(?:/|(?:/(?!\.{1,2}(?:/|(?![\s\S])))[^/\x00]+)+)(?![\s\S])"

Names = Annotated[
    tuple[str, ...],
    Rule(
        "must be non-empty strings, each once, at least one",
        lambda value: bool(value) and all(value) and len(set(value)) == len(value),
    ),
]
PathGlobs = Annotated[
    tuple[str, ...],
    Rule(
        "must be globs of absolute, normalised paths, each once, at least one",
        lambda value: bool(value) and len(set(value)) == len(value) and all(map(_is_path_glob, value)),
    ),
]
Folder = Annotated[
    str,
    Rule("must be an absolute, normalised folder", lambda value: re.match(FOLDER, value) is not None),
]
RuleId = Annotated[NonEmpty, Rule("is reserved", lambda value: value not in RESERVED_IDS)]


class Effect(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


@frozen(kw_only=True)
class PolicyRule:
    """One [[rule]], about tools, resources or prompts; meaning in docs/guide/policy.md."""

    id: RuleId
    effect: Effect
    tools: Names | None = None
    resources: Names | None = None
    prompts: Names | None = None
    paths: PathGlobs | None = None
    path_args: Names | None = None

    def validate(self) -> None:
        """RuleError for path_args without paths, and for a rule about nothing, or about two things."""
        if sum(names is not None for names in (self.tools, self.resources, self.prompts)) != 1:
            raise RuleError("NotOneKind", "/tools", "write one of tools, resources and prompts")
        if self.paths is not None and self.tools is None:
            raise RuleError("PathsWithoutTools", "/paths", "only tools have path arguments")
        if self.path_args is not None and self.paths is None:
            raise RuleError("PathArgsWithoutPaths", "/path_args", "add paths, or leave path_args out")


@frozen(kw_only=True)
class PolicyFile:
    schema: str = constant(SCHEMA)
    default: Effect = Effect.DENY
    base: Folder | None = None
    accepted_id_keys: Names | None = None
    rule: tuple[PolicyRule, ...] = ()

    def validate(self) -> None:
        """RuleError for a rule's own faults and for an id that is there twice."""
        seen: set[str] = set()
        for rule in self.rule:
            rule.validate()
            if rule.id in seen:
                raise RuleError("DuplicateRuleId", "/rule", f"{rule.id!r} is there twice")
            seen.add(rule.id)


def _is_path_glob(glob: str) -> bool:
    return re.match(PATH_GLOB, glob) is not None
