"""Verifies an archive offline: what it holds, and that it says nothing that the rest does not bear out.

Stages, each a type that can only be made from the one before it, and whose existence is the proof that its
check was good: bounds, structure, manifest, digests, contents, run ids, sequence, meaning.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen

from harness.bundle.checked import checked
from harness.bundle.contents import Contents
from harness.bundle.meaning import RULES
from harness.bundle.members import Bounded, Members, Structured
from harness.bundle.problem import BrokenError, Kept, Problem
from harness.bundle.reader import Archive, found_at, manifest_of
from harness.contracts.canonical import Sha256, to_bytes
from harness.contracts.companion import COMPANION_MODELS, LATER_COMPANION
from harness.contracts.converter import unstructure
from harness.contracts.manifest import (
    COMPANION_MANIFEST,
    MANIFEST,
    V0_MEMBERS,
    ArchiveFile,
    CompanionManifest,
)
from harness.errors import VerificationError


class Listed:
    """Stage 3: the manifests list exactly the members that are there, in order, with their sizes."""

    def __init__(self, structured: Structured) -> None:
        self.members = members = structured.members
        kept = Kept()
        self.archive = Archive(structured.place, members, manifest_of(members))
        if to_bytes(unstructure(self.archive.manifest)) != members[MANIFEST]:
            kept.add(Problem("ContractInvalidJson", MANIFEST, "", "canonical bytes", "other bytes"))
        _list(MANIFEST, self.archive.manifest.files, V0_MEMBERS[1:], members, kept)
        self.companion = self._companion(members, kept)
        kept.raise_any()

    def _companion(self, members: Members, kept: Kept) -> CompanionManifest | None:
        present = tuple(name for name in members if name in COMPANION_MODELS)
        if COMPANION_MANIFEST not in members:
            for name in present:
                kept.add(Problem("ContractMissingManifest", name, "", COMPANION_MANIFEST, "no such member"))
            return None
        data = members[COMPANION_MANIFEST]
        found: CompanionManifest | None = checked(COMPANION_MANIFEST, "", data, CompanionManifest, kept.add)
        if found is not None:
            wanted = tuple(n for n in COMPANION_MODELS if n in members or n not in LATER_COMPANION)
            _list(COMPANION_MANIFEST, found.files, wanted, members, kept)
        return found


class Digested:
    """Stage 4: every member has the bytes that its manifest lists, and the companion belongs to this one."""

    def __init__(self, listed: Listed) -> None:
        self.archive, self.members = listed.archive, listed.members
        files, kept = dict(listed.archive.manifest.files), Kept()
        if listed.companion is not None:
            files |= listed.companion.files
            bound = listed.companion.v0_manifest_sha256
            if bound != self.archive.identity:
                place = "/v0_manifest_sha256"
                kept.add(
                    Problem("IntegrityManifestHash", COMPANION_MANIFEST, place, self.archive.identity, bound)
                )
        for name, file in files.items():
            digest = Sha256()
            for chunk in self.members.chunks(name):
                digest.update(chunk)
            if digest.text != file.sha256:
                place = f"/files/{_escaped(name)}/sha256"
                kept.add(Problem("IntegrityManifestHash", name, place, file.sha256, digest.text))
        kept.raise_any()


class Parsed:
    """Stage 5: every member is of its schema, in canonical bytes, and keeps its own rules."""

    def __init__(self, digested: Digested) -> None:
        self.archive = digested.archive
        kept = Kept()
        self.contents = Contents(digested.members, self.archive.run_id, kept.add_or_stop)
        kept.raise_any()


class OfOneRun:
    """Stage 6: every member, and every line, is of the run that the manifest names."""

    def __init__(self, parsed: Parsed) -> None:
        self.archive, self.contents = parsed.archive, parsed.contents
        self.contents.other_runs.raise_any()


class InSequence:
    """Stage 7: lines are numbered from 0 without a gap; those of the companion are a sorted set."""

    def __init__(self, one: OfOneRun) -> None:
        self.archive, self.contents = one.archive, one.contents
        self.contents.unordered.raise_any()


class Meant:
    """Stage 8: what follows from other members is what it follows as; `unchecked` rules had no base."""

    def __init__(self, ordered: InSequence) -> None:
        self.archive = ordered.archive
        contents, kept = ordered.contents, Kept()
        unchecked = []
        for rule in RULES:
            why = rule.missing(contents)
            if why:
                unchecked.append(Unchecked(rule.name, rule.text, why))
                continue
            for problem in rule.problems(contents):
                kept.add(problem)
        self.unchecked = tuple(unchecked)
        kept.raise_any()


# Each makes its type from the one that the entry before it made.
STAGES: Mapping[str, Callable[[Any], Any]] = {
    "bounds": Bounded,
    "structure": Structured,
    "manifest": Listed,
    "digests": Digested,
    "contents": Parsed,
    "run_ids": OfOneRun,
    "sequence": InSequence,
    "meaning": Meant,
}
CHECKS = tuple(STAGES)
_DO_NOT_USE = "do not use this archive: it is damaged, was changed, or was wrongly made"
_TOO_LARGE = "no verifier takes an archive beyond these bounds: measure a smaller piece of work"


@frozen
class Unchecked:
    """A rule that could not be checked of this archive, and why."""

    rule: str
    text: str
    why: str


@frozen
class Verification:
    """The archive holds when `problems` is empty; they are all of one stage, the last of `checks`.

    checks       stages that were begun, in order; the others are in `not_reached`
    unchecked    rules that this archive gives no base for
    more         there are more problems than are listed
    """

    place: str
    run_id: str | None
    identity: str | None
    checks: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    more: bool = False

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def not_reached(self) -> tuple[str, ...]:
        return CHECKS[len(self.checks) :]


def verify(path: Path) -> Verification:
    """All problems of the first stage that does not hold; InputError only when there is nothing to read."""
    return _verified(path)[0]


def check(path: Path) -> Archive:
    """The archive, if it holds; else its first problem as VerificationError."""
    result, archive = _verified(path)
    for problem in result.problems:
        raise VerificationError(
            problem.code,
            problem.text,
            place=f"{path}: {problem.where}" if problem.where else str(path),
            hint=problem.remedy or (_TOO_LARGE if problem.code.startswith("Limit") else _DO_NOT_USE),
        )
    assert archive is not None
    return archive


def _verified(path: Path) -> tuple[Verification, Archive | None]:
    reached: Any = path
    archive: Archive | None = None
    begun: list[str] = []
    broken: BrokenError | None = None
    for name, stage in STAGES.items():
        begun.append(name)
        try:
            reached = found_at(path, partial(stage, reached))
        except BrokenError as error:
            broken = error
            break
        archive = getattr(reached, "archive", None)
    result = Verification(
        place=str(path),
        run_id=archive.run_id if archive else None,
        identity=archive.identity if archive else None,
        checks=tuple(begun),
        problems=broken.problems if broken else (),
        unchecked=() if broken else reached.unchecked,
        more=broken.more if broken else False,
    )
    return result, archive


def _list(
    member: str, files: Mapping[str, ArchiveFile], wanted: tuple[str, ...], members: Members, kept: Kept
) -> None:
    for problem in _files_problems(member, files, wanted, members):
        kept.add(problem)


def _files_problems(
    member: str, files: Mapping[str, ArchiveFile], wanted: tuple[str, ...], members: Members
) -> Iterator[Problem]:
    """A manifest lists exactly the members of its kind, in their order, with their size."""
    for name in wanted:
        if name not in files:
            code = "ContractUnexpectedFile" if name in members else "ContractMissingFile"
            yield Problem(code, name, "", f"an entry in {member}", "none")
    for name, file in files.items():
        place = f"/files/{_escaped(name)}"
        if file.path != name:
            yield Problem("ContractInvalidJson", member, f"{place}/path", name, file.path)
        if name not in wanted or name not in members:
            yield Problem("ContractMissingFile", member, place, "a member of that name", "none")
        elif file.bytes != members.size(name):
            size = str(members.size(name))
            yield Problem("IntegrityFileSizeMismatch", name, f"{place}/bytes", str(file.bytes), size)
    if list(files) != sorted(files, key=lambda name: name.encode("utf-8", "surrogatepass")):
        yield Problem("ContractFileOrder", member, "/files", "entries sorted by path", "another order")


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
