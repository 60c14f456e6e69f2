"""Verifies an archive offline: what it holds, and that it says nothing its layers do not bear out.

Order: structure, manifest, models, run ids, sequence, then all that can be recomputed. A forged
surface with a matching manifest is caught by the recomputation.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

from harness.bundle.contents import Contents, read_contents
from harness.bundle.derived import derived_problems
from harness.bundle.problem import Problem
from harness.bundle.reader import Archive, read_archive
from harness.contracts.canonical import sha256_of, to_bytes
from harness.contracts.companion import COMPANION_MODELS
from harness.contracts.converter import unstructure
from harness.contracts.manifest import (
    COMPANION_MANIFEST,
    MANIFEST,
    V0_MEMBERS,
    ArchiveFile,
    CompanionManifest,
)
from harness.errors import VerificationError

CHECKS = ("structure", "manifest", "companion", "contents", "run_ids", "sequence", "derived")


@frozen
class Verification:
    """`checks` were done, in order; the archive holds when `problems` is empty."""

    place: str
    run_id: str | None
    identity: str | None
    checks: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(path: Path) -> Verification:
    """All problems of the archive at `path`; InputError only when there is nothing to read."""
    try:
        archive = read_archive(path)
    except VerificationError as error:
        problem = Problem(error.code, "", error.place, "", error.message.partition(": ")[2])
        return Verification(str(path), None, None, CHECKS[:1], (problem,))
    problems = tuple(_problems(archive))
    return Verification(str(path), archive.run_id, archive.identity, CHECKS, problems)


def check(path: Path) -> Archive:
    """The archive, if it holds; else its first problem as VerificationError."""
    archive = read_archive(path)
    for problem in _problems(archive):
        raise VerificationError(
            problem.code,
            problem.text,
            place=f"{path}: {problem.where}",
            hint="do not use this archive: it is damaged, was changed, or was wrongly made",
        )
    return archive


def _problems(archive: Archive) -> Iterator[Problem]:
    yield from _manifest_problems(archive)
    contents, unreadable = read_contents(archive)
    yield from _companion_problems(archive, contents)
    yield from unreadable
    yield from _run_id_problems(archive, contents)
    yield from _sequence_problems(contents)
    yield from derived_problems(contents)


def _manifest_problems(archive: Archive) -> Iterator[Problem]:
    wanted = V0_MEMBERS[1:]
    yield from _files_problems(MANIFEST, archive.manifest.files, wanted, archive.members)
    if to_bytes(unstructure(archive.manifest)) != archive.members[MANIFEST]:
        yield Problem("ContractInvalidJson", MANIFEST, "", "canonical bytes", "other bytes")


def _companion_problems(archive: Archive, contents: Contents) -> Iterator[Problem]:
    present = [name for name in archive.members if name in COMPANION_MODELS]
    if not archive.has_companion:
        for name in present:
            yield Problem("ContractMissingManifest", name, "", COMPANION_MANIFEST, "no such member")
        return
    manifest = contents.document(COMPANION_MANIFEST, CompanionManifest)
    if manifest is None:
        return
    if manifest.v0_manifest_sha256 != archive.identity:
        yield Problem(
            "IntegrityManifestHash",
            COMPANION_MANIFEST,
            "/v0_manifest_sha256",
            archive.identity,
            manifest.v0_manifest_sha256,
        )
    yield from _files_problems(COMPANION_MANIFEST, manifest.files, tuple(present), archive.members)


def _files_problems(
    member: str,
    files: Mapping[str, ArchiveFile],
    wanted: tuple[str, ...],
    members: Mapping[str, bytes],
) -> Iterator[Problem]:
    """A manifest lists exactly the wanted members, in their order, with their size and digest."""
    for name in wanted:
        if name not in files:
            yield Problem("ContractUnexpectedFile", name, "", f"an entry in {member}", "none")
    for name, file in files.items():
        place = f"/files/{name.replace('~', '~0').replace('/', '~1')}"
        data = members.get(name) if name in wanted else None
        if file.path != name:
            yield Problem("ContractInvalidJson", member, f"{place}/path", name, file.path)
        if data is None:
            yield Problem("ContractMissingFile", member, place, "a member of that name", "none")
            continue
        if file.bytes != len(data):
            yield Problem(
                "IntegrityFileSizeMismatch", name, f"{place}/bytes", str(file.bytes), str(len(data))
            )
        if file.sha256 != sha256_of(data):
            yield Problem("IntegrityManifestHash", name, f"{place}/sha256", file.sha256, sha256_of(data))
    if list(files) != sorted(files, key=lambda name: name.encode("utf-8", "surrogatepass")):
        yield Problem("ContractFileOrder", member, "/files", "entries sorted by path", "another order")


def _run_id_problems(archive: Archive, contents: Contents) -> Iterator[Problem]:
    for place, run_id in contents.run_ids():
        if run_id != archive.run_id:
            yield Problem("ContractRunIdMismatch", place.member, place.pointer, archive.run_id, run_id)


def _sequence_problems(contents: Contents) -> Iterator[Problem]:
    for member, numbers in contents.sequences():
        for line, seq in enumerate(numbers):
            if seq != line:
                code = "ContractSequenceGap" if line else "ContractSequenceStart"
                yield Problem(code, member, f"line {line + 1} at /seq", str(line), str(seq))
                break
