"""Which gates a change needs (contracts §7.5, with this repository's paths): rules as data.

The first rule that matches a path decides; the gates of all paths together are needed. A path that no
rule knows needs every gate. That what the gates run imports nothing of the paths below `NONE` is the
import linter's contract "What gates run never imports comparisons or presenters".
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import PurePosixPath

from attrs import frozen

from harness.contracts.proof_pack import ALL_GATES
from harness.gates.catalog import all_fixtures, all_gates, gate_name

FIXTURES = "runner-fixtures"


class Needs(StrEnum):
    NONE = "none"
    FIXTURE = "the fixture's own gates"
    ALL = "all"


@frozen
class Rule:
    """`paths` are files, or folders if they end with a slash, or "*" and how a file's path ends."""

    name: str
    needs: Needs
    why: str
    paths: tuple[str, ...]

    def matches(self, path: str) -> bool:
        return any(_matches(pattern, path) for pattern in self.paths)


RULES = (
    Rule("prose", Needs.NONE, "no program reads it", ("docs/", "findings/", "*.md", "LICENSE", ".gitignore")),
    Rule(
        "lane classifier", Needs.NONE, "it decides about gates and runs in none", ("harness/gates/lanes.py",)
    ),
    Rule(
        "first difference",
        Needs.ALL,
        "the gates' determinism check explains differences with it",
        ("harness/compare/__init__.py", "harness/compare/pointer.py"),
    ),
    Rule(
        "progress",
        Needs.ALL,
        "the gates print through it",
        ("harness/present/__init__.py", "harness/present/progress.py"),
    ),
    Rule(
        "comparisons and presenters",
        Needs.NONE,
        "they read finished archives; nothing that a gate runs imports them",
        ("harness/compare/", "harness/present/", "harness/arguments/compare.py"),
    ),
    Rule(
        "published texts of the program",
        Needs.NONE,
        "made from the models, or written into new fixtures; tests hold them against their source",
        ("schemas/", "harness/scaffold/", "harness/schemas.py"),
    ),
    Rule(
        "tests", Needs.NONE, "every change runs them; gates do not", ("tests/", ".ci/", "requirements/dev.*")
    ),
    Rule("one fixture", Needs.FIXTURE, "only its gates run it", (f"{FIXTURES}/",)),
    Rule("kernel program", Needs.ALL, "every witness's ground truth", ("bpf/",)),
    Rule("images", Needs.ALL, "every fixture image is made of it", ("images/",)),
    Rule(
        "program",
        Needs.ALL,
        "contracts, evidence, archive, capture and engine are part of every gate",
        ("harness/",),
    ),
    Rule(
        "toolchain",
        Needs.ALL,
        "what the gates run with",
        ("enter", "noxfile.py", "pyproject.toml", "flake.nix", "flake.lock", "requirements/"),
    ),
    Rule("delegated lane", Needs.ALL, "the lane that proves every change", (".github/",)),
)


def _matches(pattern: str, path: str) -> bool:
    if pattern.startswith("*"):
        return path.endswith(pattern[1:])
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return path.startswith(pattern) if pattern.endswith("/") else path == pattern


@frozen
class Verdict:
    """One changed path; `rule` is None when no rule knows it."""

    path: str
    rule: Rule | None
    gates: tuple[str, ...]

    @property
    def why(self) -> str:
        if self.rule is None:
            return "no rule knows this path, so nothing is assumed of it"
        if self.rule.needs is Needs.FIXTURE and self.gates == (ALL_GATES,):
            return "no gate names this fixture folder, so nothing is assumed of it"
        if self.rule.needs is Needs.FIXTURE and not self.gates:
            return "a candidate's, and its gates are no part of all"
        return self.rule.why


@frozen
class Lane:
    """`gates`: none, names in gate order, or "all" alone."""

    verdicts: tuple[Verdict, ...]
    gates: tuple[str, ...]


def rule_of(path: str) -> Rule | None:
    """The first rule that matches."""
    return next((rule for rule in RULES if rule.matches(path)), None)


def is_gated(path: str) -> bool:
    """A change of it needs at least one gate."""
    rule = rule_of(path)
    return rule is None or rule.needs is not Needs.NONE


def fixture_gates() -> dict[str, tuple[str, ...]]:
    """Fixture folder -> gates that run its files or its image, in gate order; none for a candidate's."""
    found: dict[str, list[str]] = {}
    for fixture in all_gates():
        for folder in dict.fromkeys((fixture.folder.name, fixture.file.image)):
            found.setdefault(folder, []).append(gate_name(fixture))
    for fixture in all_fixtures():
        if fixture.file.candidate:
            found.setdefault(fixture.folder.name, [])
    return {folder: tuple(names) for folder, names in found.items()}


def classify(paths: Iterable[str], gates: Mapping[str, tuple[str, ...]] | None = None) -> Lane:
    """What a change of these paths needs; `gates` as of `fixture_gates`."""
    known = fixture_gates() if gates is None else gates
    verdicts = tuple(_verdict(path, known) for path in sorted(paths))
    needed = {gate for verdict in verdicts for gate in verdict.gates}
    if ALL_GATES in needed:
        return Lane(verdicts, (ALL_GATES,))
    order = dict.fromkeys(gate for names in known.values() for gate in names)
    return Lane(verdicts, tuple(gate for gate in order if gate in needed))


def _verdict(path: str, known: Mapping[str, tuple[str, ...]]) -> Verdict:
    rule = rule_of(path)
    if rule is None or rule.needs is Needs.ALL:
        return Verdict(path, rule, (ALL_GATES,))
    if rule.needs is Needs.NONE:
        return Verdict(path, rule, ())
    parts = PurePosixPath(path).parts
    return Verdict(path, rule, known.get(parts[1], (ALL_GATES,)) if len(parts) > 2 else (ALL_GATES,))
