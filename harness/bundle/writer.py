"""Writes an archive, whole or not at all (contracts §1.2, §1.3, §1.5)."""

from collections.abc import Mapping
from pathlib import Path

from harness.bundle.layout import MEMBER_ORDER, gzip_bytes, tar_bytes
from harness.bundle.whole_file import write_whole
from harness.contracts import correlation, health, surface
from harness.contracts.canonical import load_json, sha256_of, to_bytes
from harness.contracts.companion import COMPANION_SCHEMAS
from harness.contracts.converter import ContractError, parse, unstructure
from harness.contracts.health import ObservationHealth
from harness.contracts.manifest import (
    COMPANION_MANIFEST,
    CORRELATION,
    HEALTH,
    MANIFEST,
    SURFACE,
    V0_MEMBERS,
    ArchiveManifest,
    CompanionManifest,
    describe,
)
from harness.contracts.rules import RuleError, is_run_id
from harness.errors import VerificationError


class ArchiveRefusedError(VerificationError):
    """The members contradict each other: no archive is written. `code` as in contracts §1.5."""


def build_archive(members: Mapping[str, bytes]) -> bytes:
    """The archive's bytes; `members` includes the manifests, in any order.

    ValueError for a member that no reader knows.
    """
    unknown = sorted(set(members) - set(MEMBER_ORDER))
    if unknown:
        raise ValueError(f"not members of an archive: {', '.join(unknown)}")
    return gzip_bytes(tar_bytes((name, members[name]) for name in MEMBER_ORDER if name in members))


def write_archive(
    path: Path,
    v0_members: Mapping[str, bytes],
    companion_members: Mapping[str, bytes],
    run_id: str,
) -> str:
    """Write the archive to `path` (replacing a file there) and return its identity.

    v0_members         the seven members besides manifest.json, by path
    companion_members  members below companion/ besides their manifest; may be empty

    The identity is the digest of the exact manifest.json bytes. Raises ArchiveRefusedError
    (nothing written), InputError for a `path` that cannot be, EnvironmentUnfitError when the disk
    cannot take it; after an error there is no file at `path` that is not whole.
    """
    _refuse_bad_members(v0_members, companion_members, run_id)
    manifest = to_bytes(unstructure(ArchiveManifest(run_id=run_id, files=describe(v0_members))))
    members = {MANIFEST: manifest, **v0_members}
    if companion_members:
        companion = CompanionManifest(
            run_id=run_id,
            v0_manifest_sha256=sha256_of(manifest),
            files=describe(companion_members),
        )
        members |= {COMPANION_MANIFEST: to_bytes(unstructure(companion)), **companion_members}
    write_whole(path, build_archive(members), "archive")
    return sha256_of(manifest)


def _refuse_bad_members(v0: Mapping[str, bytes], companion: Mapping[str, bytes], run_id: str) -> None:
    if not run_id:
        raise ArchiveRefusedError("EmptyRunId", "the archive has no run id")
    if not is_run_id(run_id):
        raise ArchiveRefusedError("UnsafeRunId", f"{run_id!r} is no run id")
    wanted = set(V0_MEMBERS[1:])
    for name in sorted(wanted - set(v0)):
        raise ArchiveRefusedError("ContractMissingFile", "this member is missing", place=name)
    for name in sorted((set(v0) - wanted) | (set(companion) - set(COMPANION_SCHEMAS))):
        raise ArchiveRefusedError("ContractUnexpectedFile", "this member is not known", place=name)
    for member, field in (
        (SURFACE, "capability_surface"),
        (HEALTH, "observation_health"),
        (CORRELATION, "correlation_report"),
    ):
        _refuse_other_run(v0, member, field, run_id)
    _refuse_bad_health(v0[HEALTH])
    for member, name, cls in (
        (SURFACE, "CapabilitySurface", surface.CapabilitySurface),
        (CORRELATION, "CorrelationReport", correlation.CorrelationReport),
    ):
        try:
            parse(cls, load_json(v0[member], member))
        except ContractError as error:
            raise ArchiveRefusedError(name, str(error), place=member) from None


def _refuse_other_run(v0: Mapping[str, bytes], member: str, field: str, run_id: str) -> None:
    try:
        document = load_json(v0[member], member)
    except ContractError as error:
        raise ArchiveRefusedError("ContractInvalidJson", str(error), place=member) from None
    actual = document.get("run_id") if isinstance(document, dict) else None
    if actual != run_id:
        message = f"{field} is of run {actual!r}, the archive of run {run_id!r}"
        raise ArchiveRefusedError("RunIdMismatch", message, place=f"{member} at /run_id")


def _refuse_bad_health(data: bytes) -> None:
    try:
        document = load_json(data, HEALTH)
        if document.get("schema") != health.SCHEMA:
            raise RuleError("InvalidSchema", "/schema", f"must be {health.SCHEMA}")
        parse(ObservationHealth, document).validate()
    except ContractError as error:
        identity = error.identity if isinstance(error, RuleError) else error.message
        raise ArchiveRefusedError(f"ObservationHealth({identity})", str(error), place=HEALTH) from None
