"""Reads archives of strangers: everything is bounded before it is allocated (contracts §1.7).

For those that compare or show: structure and manifest are checked, nothing else; see `verify`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from harness.bundle.members import Bounded, Members, Structured
from harness.bundle.payload import Limits
from harness.bundle.problem import BrokenError
from harness.contracts.canonical import JsonError, load_json, sha256_of
from harness.contracts.converter import ContractError, parse
from harness.contracts.manifest import COMPANION_MANIFEST, MANIFEST, ArchiveManifest
from harness.errors import InputError, VerificationError

__all__ = ["Archive", "Limits", "found_at", "manifest_of", "read_archive"]

T = TypeVar("T")
_HINT = "the archive is damaged or was changed: get it again from where it was made"


@frozen
class Archive:
    """The members in their order, checked for structure only; see `verify` for what they say.

    `identity` is the digest of the exact manifest.json bytes.
    """

    place: str
    members: Mapping[str, bytes]
    manifest: ArchiveManifest

    @property
    def identity(self) -> str:
        return sha256_of(self.members[MANIFEST])

    @property
    def run_id(self) -> str:
        return self.manifest.run_id

    @property
    def has_companion(self) -> bool:
        return COMPANION_MANIFEST in self.members


def read_archive(path: Path, limits: Limits | None = None) -> Archive:
    """An archive file, or the folder into which one was extracted.

    InputError when there is nothing to read; VerificationError (codes of contracts §1.7) when it
    is no archive of ours or of the reference.
    """
    try:
        structured = Structured(found_at(path, lambda: Bounded(path, limits)))
        return Archive(structured.place, structured.members, manifest_of(structured.members))
    except BrokenError as broken:
        first = broken.problems[0]
        place = f"{path}: {first.where}" if first.where else str(path)
        raise VerificationError(first.code, first.text, place=place, hint=first.remedy or _HINT) from None


def found_at(path: Path, read: Callable[[], T]) -> T:
    """What `read` gives; InputError when nothing may be read at `path`, BrokenError when it breaks off."""
    try:
        return read()
    except FileNotFoundError:
        raise InputError("no such archive", place=str(path), hint="check the path") from None
    except PermissionError:
        raise InputError("may not be read", place=str(path), hint="ask for read permission") from None
    except OSError as error:
        raise BrokenError.one("IntegrityIo", "", f"cannot be read: {error.strerror}") from None


def manifest_of(members: Members) -> ArchiveManifest:
    """manifest.json as a model; BrokenError for any other document."""
    try:
        return parse(ArchiveManifest, load_json(members[MANIFEST], MANIFEST))
    except JsonError as error:
        raise BrokenError.one(error.code, MANIFEST, error.message) from None
    except ContractError as error:
        code = "ContractSchemaVersion" if error.pointer == "/schema" else "ContractInvalidJson"
        raise BrokenError.one(code, MANIFEST, error.message, error.pointer or "/") from None
