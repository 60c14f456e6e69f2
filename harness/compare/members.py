"""Members of an archive as models, for comparing: only those that are asked for, each with its digest.

That surface and reports follow from the layers is `verify`'s business, not looked at here.
"""

from pathlib import Path
from typing import TypeVar

from harness.bundle.reader import Archive, Limits, read_archive
from harness.contracts.bounds import MIB
from harness.contracts.canonical import JsonError, load_json, sha256_of, split_lines
from harness.contracts.companion import COMPANION_SCHEMAS
from harness.contracts.converter import ContractError, parse
from harness.contracts.manifest import COMPANION_MANIFEST, ArchiveFile, CompanionManifest
from harness.errors import VerificationError

T = TypeVar("T")
# A surface of a million paths fits; what is not asked for is never parsed.
LIMITS = Limits(document=128 * MIB)
_HINT = "see `assay-runner verify`; do not use this archive if it does not hold"


def open_archive(path: Path) -> Archive:
    """An archive or the folder of an extracted one; InputError or VerificationError as `read_archive`."""
    return read_archive(path, LIMITS)


def document(archive: Archive, member: str, cls: type[T]) -> T:
    """A JSON member; VerificationError for a wrong digest, bad JSON, or a broken contract."""
    return _parse(archive, member, "", content(archive, member), cls)


def lines(archive: Archive, member: str, cls: type[T]) -> tuple[T, ...]:
    """The lines of an NDJSON member; errors as `document`, with the line."""
    data = content(archive, member)
    try:
        parts = split_lines(data, member)
    except JsonError as error:
        raise _failure(archive, member, error.code, error.message) from None
    return tuple(
        _parse(archive, member, f"line {number}", part, cls) for number, part in enumerate(parts, start=1)
    )


def content(archive: Archive, member: str) -> bytes:
    """The bytes that the manifest binds; VerificationError for others."""
    files = _companion_files(archive) if member in COMPANION_SCHEMAS else archive.manifest.files
    if member not in archive.members or member not in files:
        raise _failure(
            archive, member, "ContractMissingFile", "the archive or its manifest has no such member"
        )
    return _bound(archive, member, files[member])


def failure(archive: Archive, member: str, code: str, message: str) -> VerificationError:
    """An error of this member, with the remedy."""
    return _failure(archive, member, code, message)


def _companion_files(archive: Archive) -> dict[str, ArchiveFile]:
    if not archive.has_companion:
        return {}
    manifest = _parse(archive, COMPANION_MANIFEST, "", archive.members[COMPANION_MANIFEST], CompanionManifest)
    if manifest.v0_manifest_sha256 != archive.identity:
        message = "belongs to another archive: v0_manifest_sha256 is not this manifest's digest"
        raise _failure(archive, COMPANION_MANIFEST, "IntegrityManifestHash", message)
    return dict(manifest.files)


def _bound(archive: Archive, member: str, file: ArchiveFile) -> bytes:
    data = archive.members[member]
    if sha256_of(data) != file.sha256:
        raise _failure(archive, member, "IntegrityManifestHash", f"is {sha256_of(data)}, not {file.sha256}")
    return data


def _parse(archive: Archive, member: str, at: str, data: bytes, cls: type[T]) -> T:
    try:
        return parse(cls, load_json(data, at or "document"))
    except JsonError as error:
        raise _failure(archive, member, error.code, error.message) from None
    except ContractError as error:
        code = "ContractSchemaVersion" if error.pointer == "/schema" else "ContractInvalidJson"
        where = " ".join(part for part in (member, at, f"at {error.pointer or '/'}") if part)
        raise _failure(archive, where, code, error.message) from None


def _failure(archive: Archive, where: str, code: str, message: str) -> VerificationError:
    return VerificationError(code, message, place=f"{archive.place}: {where}", hint=_HINT)
