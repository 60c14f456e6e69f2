"""The policy file (assay.runner.policy.v1) and its verdict on one call, resource or prompt.

Stdlib only: shipped into every image beside the proxy, and used on the host to check a policy
before a run. Reason codes: contracts §5.2. Meaning of the file: docs/guide/policy.md.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from harness.policy.paths import Judged, folded, is_blank, judged_path, nfc, odd_uri, uri_text

SCHEMA = "assay.runner.policy.v1"
TOOLS, RESOURCES, PROMPTS = "tools", "resources", "prompts"
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
_FILE_KEYS = {"schema", "default", "base", "accepted_id_keys", "rule"}
_RULE_KEYS = {"id", "effect", TOOLS, RESOURCES, PROMPTS, "paths", "path_args"}
_FOLDER = re.compile(r"/|(?:/(?!\.{1,2}(?:/|\Z))[^/\0]+)+")
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


class Glob(NamedTuple):
    """`sent` is compared with a name as it was sent, only to say whether the form made the difference."""

    form: re.Pattern[str]
    sent: re.Pattern[str]

    def matches(self, name: str) -> bool:
        return self.form.fullmatch(nfc(name)) is not None

    def matches_as_sent(self, name: str) -> bool:
        return self.sent.fullmatch(name) is not None


class Rule(NamedTuple):
    """One [[rule]] about tools, resources or prompts; `paths` None means it does not look at paths."""

    id: str
    effect: str
    kind: str
    names: tuple[Glob, ...]
    paths: tuple[Glob, ...] | None
    path_args: frozenset[str]

    def matches(self, tool: str, arguments: Mapping[str, object], base: str | None) -> bool:
        """An allow needs every path argument inside, a deny one; none at all never matches."""
        if self.kind != TOOLS or not _any(self.names, tool):
            return False
        if self.paths is None:
            return True
        allow = self.effect == "allow"
        inside = []
        for _, judged in _judged(arguments, self.path_args, base):
            # What cannot be judged is never allowed and always denied.
            inside.append(not allow if judged.path is None else _any(self.paths, judged.path))
        return bool(inside) and (all(inside) if allow else any(inside))

    def matches_name(self, kind: str, name: str) -> bool:
        """A resource by its URI, a prompt by its name."""
        if self.kind != kind:
            return False
        if kind == RESOURCES and odd_uri(name):
            return self.effect == "deny"
        return _any(self.names, _text(kind, name))


class Policy(NamedTuple):
    """A checked policy file.

    digest     over its bytes
    base       the folder that relative paths start from, None if none is named
    path_args  over all rules, folded
    served     of RESOURCES and PROMPTS, those that a rule is about
    """

    digest: str
    default: str
    base: str | None
    rules: tuple[Rule, ...]
    id_keys: tuple[str, ...]
    path_args: frozenset[str]
    served: frozenset[str]

    def judge(self, tool: str, arguments: Mapping[str, object]) -> Verdict:
        """The first rule that matches decides, else the default."""
        return self._verdict(rule for rule in self.rules if rule.matches(tool, arguments, self.base))

    def judge_name(self, kind: str, name: str) -> Verdict:
        """As `judge`, of a resource or a prompt."""
        return self._verdict(rule for rule in self.rules if rule.matches_name(kind, name))

    def _verdict(self, matching: Iterator[Rule]) -> Verdict:
        for rule in matching:
            return Verdict(rule.effect, _CODES[rule.effect], rule.id)
        code = "P_POLICY_ALLOW" if self.default == "allow" else "P_TOOL_NOT_ALLOWED"
        return Verdict(self.default, code, DEFAULT)

    def notes(self, tool: str, arguments: Mapping[str, object], verdict: Verdict) -> list[str]:
        """What a reader of the verdict must know, sorted, each once.

        `not_judged:KEY:WHY` for a path argument that cannot be judged; `unicode_form:KEY` (or
        `unicode_form:tool`) where a name and the rule that decided agree in their normal form only.
        """
        found = set()
        for key, judged in _judged(arguments, self.path_args, self.base):
            if judged.path is None:
                found.add(f"not_judged:{key}:{judged.why}")
        for rule in self.rules:
            if rule.id == verdict.rule:
                found |= set(_form_notes(rule, tool, arguments, self.base))
        return sorted(found)

    def name_notes(self, kind: str, name: str, verdict: Verdict) -> list[str]:
        """As `notes`, of a resource or a prompt."""
        if kind == RESOURCES and (why := odd_uri(name)):
            return [f"not_judged:uri:{why}"]
        globs = [rule.names for rule in self.rules if rule.id == verdict.rule]
        same = not globs or _any_as_sent(globs[0], _text(kind, name))
        return [] if same else ["unicode_form:name"]

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
        if not found or not isinstance(found[0][0], str) or is_blank(found[0][0]):
            return None, None
        return found[0][0], found[0][1]

    def twin(self, meta: Mapping[str, object], arguments: Mapping[str, object]) -> str | None:
        """A key that is judged and stands there in two spellings, which decoders may read as one."""
        inner = arguments.get("_meta")
        for table, judged in (
            (meta, {folded(key) for key in self.id_keys}),
            (arguments, self.path_args | {"_meta"}),
            (inner if isinstance(inner, dict) else {}, {"tool_call_id"}),
        ):
            seen: set[str] = set()
            for key in table:
                fold = folded(key)
                if fold in judged and fold in seen:
                    return key
                seen.add(fold)
        return None

    def paths_of(self, arguments: Mapping[str, object]) -> list[str]:
        """The path arguments that could be judged, normalised, sorted, unique."""
        paths = {judged.path for _, judged in _judged(arguments, self.path_args, self.base)}
        return sorted(path for path in paths if path is not None)


def _form_notes(rule: Rule, tool: str, arguments: Mapping[str, object], base: str | None) -> Iterator[str]:
    if not _any_as_sent(rule.names, tool):
        yield "unicode_form:tool"
    for key, judged in _judged(arguments, rule.path_args, base):
        path = judged.path
        if rule.paths and path is not None and _any(rule.paths, path) != _any_as_sent(rule.paths, path):
            yield f"unicode_form:{key}"


def _text(kind: str, name: str) -> str:
    return (uri_text(name) or name) if kind == RESOURCES else name


def _any(globs: Iterable[Glob], name: str) -> bool:
    return any(glob.matches(name) for glob in globs)


def _any_as_sent(globs: Iterable[Glob], name: str) -> bool:
    return any(glob.matches_as_sent(name) for glob in globs)


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
        base=_base(document),
        rules=tuple(rules),
        id_keys=_strings(document, "accepted_id_keys", "top level", ID_KEYS),
        path_args=_folded(PATH_ARGS).union(*(rule.path_args for rule in rules)),
        served=frozenset(rule.kind for rule in rules) - {TOOLS},
    )


def _base(document: Mapping[str, object]) -> str | None:
    if "base" not in document:
        return None
    base = document["base"]
    if not isinstance(base, str) or not _FOLDER.fullmatch(base):
        raise PolicyError(
            f"base is {base!r}", "base", 'write an absolute, normalised folder, as in base = "/workspace"'
        )
    return base


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
    kinds = [kind for kind in (TOOLS, RESOURCES, PROMPTS) if kind in table]
    if not kinds:
        hint = 'write tools = ["name"], or ["*"] for all; or resources, or prompts'
        raise PolicyError("has no tools", place, hint)
    if len(kinds) > 1:
        raise PolicyError(f"has {' and '.join(kinds)}", place, "write a rule for each")
    if "paths" in table and kinds[0] != TOOLS:
        raise PolicyError(f"has paths beside {kinds[0]}", place, "only tools have path arguments")
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
        kind=kinds[0],
        names=tuple(
            _glob(_text(kinds[0], glob), any_star=kinds[0] != RESOURCES)
            for glob in _strings(table, kinds[0], place)
        ),
        paths=None if paths is None else tuple(_glob(glob, any_star=False) for glob in paths),
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


def _glob(glob: str, *, any_star: bool) -> Glob:
    return Glob(_compile(nfc(glob), any_star=any_star), _compile(glob, any_star=any_star))


def _compile(glob: str, *, any_star: bool) -> re.Pattern[str]:
    meaning = {"**": ".*", "*": ".*" if any_star else "[^/]*", "?": "." if any_star else "[^/]"}
    parts = (meaning.get(part, re.escape(part)) for part in _WILDCARD.split(glob))
    return re.compile("".join(parts), re.DOTALL)


def _folded(names: Iterable[str]) -> frozenset[str]:
    return frozenset(map(folded, names))


def _judged(
    arguments: Mapping[str, object], names: frozenset[str], base: str | None
) -> Iterator[tuple[str, Judged]]:
    """(key, what its value is judged as). Case is ignored: some servers' JSON decoders ignore it."""
    for key, value in arguments.items():
        if folded(key) in names:
            for one in value if isinstance(value, list) else [value]:
                yield key, judged_path(one, base)
