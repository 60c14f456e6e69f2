"""The policy file (assay.runner.policy.v1) and its verdict on one tool call.

Stdlib only: shipped into every image beside the proxy, and used on the host to check a policy
before a run. Reason codes: contracts §5.2. Meaning of the file: docs/guide/policy.md.
"""

import hashlib
import posixpath
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

SCHEMA = "assay.runner.policy.v1"
WORKSPACE = "/workspace"
ID_KEYS = ("dev.assay.runner/tool_call_id", "claudecode/toolUseId")
ARGUMENTS_ID_KEY = "arguments._meta.tool_call_id"
PATH_ARGS = (
    "path",
    "paths",
    "file",
    "files",
    "file_path",
    "filepath",
    "filename",
    "directory",
    "source",
    "destination",
    "old_path",
    "new_path",
)
MISSING_ID = "missing_tool_call_id"
DEFAULT = "default"

_CODES = {"allow": "P_POLICY_ALLOW", "deny": "P_POLICY_DENY"}

_MAX_FILE = 1 << 20
_MAX_PATH = 4096  # PATH_MAX: a longer name cannot be opened, and keeps glob matching cheap
_FILE_KEYS = {"schema", "default", "accepted_id_keys", "rule"}
_RULE_KEYS = {"id", "effect", "tools", "paths", "path_args"}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_WILDCARD = re.compile(r"(\*\*|\*|\?)")


class PolicyError(ValueError):
    """A policy file that may not be used: `place` inside the file, and the remedy."""

    def __init__(self, message: str, place: str = "", hint: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.message = message
        self.place = place
        self.hint = hint


class Verdict(NamedTuple):
    """What the policy says about one call; `rule` is the rule's id, or why there was none."""

    decision: str  # "allow" or "deny"
    reason_code: str
    rule: str


class Rule(NamedTuple):
    """One [[rule]]: `paths` None means the rule does not look at paths."""

    id: str
    effect: str
    tools: tuple[re.Pattern[str], ...]
    paths: tuple[re.Pattern[str], ...] | None
    path_args: frozenset[str]

    def matches(self, tool: str, arguments: Mapping[str, object]) -> bool:
        """An allow needs every path argument inside, a deny one; none at all never matches."""
        if not any(glob.fullmatch(tool) for glob in self.tools):
            return False
        if self.paths is None:
            return True
        allow = self.effect == "allow"
        inside = []
        for value in _path_values(arguments, self.path_args):
            path = normalise(value)
            # What cannot be judged is never allowed and always denied.
            inside.append(not allow if path is None else any(glob.fullmatch(path) for glob in self.paths))
        return bool(inside) and (all(inside) if allow else any(inside))


class Policy(NamedTuple):
    """A checked policy file; `digest` is over its bytes, `path_args` over all its rules."""

    digest: str
    default: str
    rules: tuple[Rule, ...]
    id_keys: tuple[str, ...]
    path_args: frozenset[str]

    def judge(self, tool: str, arguments: Mapping[str, object]) -> Verdict:
        """The first rule that matches decides, else the default."""
        for rule in self.rules:
            if rule.matches(tool, arguments):
                return Verdict(rule.effect, _CODES[rule.effect], rule.id)
        code = "P_POLICY_ALLOW" if self.default == "allow" else "P_TOOL_NOT_ALLOWED"
        return Verdict(self.default, code, DEFAULT)

    def find_id(
        self, meta: Mapping[str, object], arguments: Mapping[str, object]
    ) -> tuple[str | None, str | None]:
        """(tool_call_id, the key it was found under), or (None, None).

        The first accepted key that is present decides, also when its value is no id.
        """
        found = [(meta[key], key) for key in self.id_keys if key in meta]
        inner = arguments.get("_meta")
        if isinstance(inner, dict) and "tool_call_id" in inner:
            found.append((inner["tool_call_id"], ARGUMENTS_ID_KEY))
        if not found or not isinstance(found[0][0], str) or not found[0][0].strip():
            return None, None
        return found[0][0], found[0][1]

    def paths_of(self, arguments: Mapping[str, object]) -> list[str]:
        """The path arguments that could be judged, normalised, sorted, unique."""
        paths = {normalise(value) for value in _path_values(arguments, self.path_args)}
        return sorted(path for path in paths if path is not None)


def normalise(value: object) -> str | None:
    """Absolute lexical form of a path argument, relative ones from /workspace.

    None for what cannot be judged: no string, NUL or too long, "~" (servers expand it), a URI.
    """
    if not isinstance(value, str) or len(value) > _MAX_PATH or "\0" in value:
        return None
    if value.startswith("~") or _SCHEME.match(value):
        return None
    # POSIX normpath keeps a leading "//"; the kernel does not.
    return "/" + posixpath.normpath(posixpath.join(WORKSPACE, value)).lstrip("/")


def load_policy(path: str | Path | int) -> Policy:
    """Read and check a policy file; PolicyError (a ValueError) names the place and the remedy.

    `path` may be an open descriptor, which is closed. OSError if it cannot be read.
    """
    with open(path, "rb") as file:
        raw = file.read(_MAX_FILE + 1)
    if len(raw) > _MAX_FILE:
        raise PolicyError(f"larger than {_MAX_FILE} bytes", hint="use globs in fewer rules")
    try:
        document = tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise PolicyError(f"not UTF-8: byte {error.start}", hint="save the file as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError(f"not valid TOML: {error}", hint="correct the TOML syntax there") from None
    _refuse_unknown(document, _FILE_KEYS, "top level")
    if document.get("schema") != SCHEMA:
        raise PolicyError(f"schema is {document.get('schema')!r}", "schema", f'write schema = "{SCHEMA}"')
    default = document.get("default", "deny")
    if default not in ("allow", "deny"):
        raise PolicyError(f"{default!r} is not an effect", "default", 'write "deny" or "allow"')
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise PolicyError("not a list of tables", "rule", "write each rule below its own [[rule]] line")
    rules: list[Rule] = []
    for number, table in enumerate(tables, 1):
        rule = _rule(table, number)
        if any(other.id == rule.id for other in rules):
            raise PolicyError("an earlier rule has this id", f"rule {rule.id!r}", "choose another id")
        rules.append(rule)
    return Policy(
        digest="sha256:" + hashlib.sha256(raw).hexdigest(),
        default=default,
        rules=tuple(rules),
        id_keys=_strings(document, "accepted_id_keys", "top level", ID_KEYS),
        path_args=_folded(PATH_ARGS).union(*(rule.path_args for rule in rules)),
    )


def _rule(table: Mapping[str, object], number: int) -> Rule:
    name = table.get("id")
    if not isinstance(name, str) or not name.strip():
        raise PolicyError("has no id", f"rule number {number}", 'write id = "a-name"')
    place = f"rule {name!r}"
    if name in (DEFAULT, MISSING_ID):
        raise PolicyError("this id is reserved", place, "choose another id")
    _refuse_unknown(table, _RULE_KEYS, place)
    effect = table.get("effect")
    if effect not in ("allow", "deny"):
        raise PolicyError(f"effect is {effect!r}", place, 'write effect = "allow" or "deny"')
    if "tools" not in table:
        raise PolicyError("has no tools", place, 'write tools = ["name"], or ["*"] for all')
    if "path_args" in table and "paths" not in table:
        raise PolicyError("has path_args but no paths", place, "add paths, or leave path_args out")
    paths = _strings(table, "paths", place) if "paths" in table else None
    for glob in paths or ():
        # Any other form could never equal a normalised path: a rule without effect is an error.
        segments = glob.removeprefix("/").split("/")
        if not glob.startswith(("/", "**")) or (glob != "/" and not {"", ".", ".."}.isdisjoint(segments)):
            raise PolicyError(
                f"paths: {glob!r} can match no absolute, normalised path",
                place,
                "start it with / or **, without //, '.', '..' or a final /",
            )
    return Rule(
        id=name,
        effect=str(effect),
        tools=tuple(_compile(glob, any_star=True) for glob in _strings(table, "tools", place)),
        paths=None if paths is None else tuple(_compile(glob, any_star=False) for glob in paths),
        path_args=_folded(_strings(table, "path_args", place, PATH_ARGS)),
    )


def _strings(
    table: Mapping[str, object], key: str, place: str, absent: tuple[str, ...] = ()
) -> tuple[str, ...]:
    if key not in table:
        return absent
    value = table[key]
    items = [item for item in value if isinstance(item, str) and item] if isinstance(value, list) else []
    if not isinstance(value, list) or not value or len(items) != len(value):
        raise PolicyError(f"{key} is no list of non-empty strings", place, f'write {key} = ["…"]')
    if len(set(items)) != len(items):
        raise PolicyError(f"{key} names something twice", place, "remove the repetition")
    return tuple(items)


def _refuse_unknown(table: Mapping[str, object], known: set[str], place: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise PolicyError(f"unknown key {unknown[0]!r}", place, f"known: {', '.join(sorted(known))}")


def _compile(glob: str, *, any_star: bool) -> re.Pattern[str]:
    meaning = {"**": ".*", "*": ".*" if any_star else "[^/]*", "?": "." if any_star else "[^/]"}
    parts = (meaning.get(part, re.escape(part)) for part in _WILDCARD.split(glob))
    return re.compile("".join(parts), re.DOTALL)


def _folded(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.casefold() for name in names)


def _path_values(arguments: Mapping[str, object], names: frozenset[str]) -> list[object]:
    """Case is ignored: some servers' JSON decoders ignore it."""
    values: list[object] = []
    for key, value in arguments.items():
        if key.casefold() in names:
            values += value if isinstance(value, list) else [value]
    return values
