"""manifest.json of the archive and of its companion (contracts §1.1, §1.3)."""

from collections.abc import Mapping

from attrs import frozen

from harness.contracts.canonical import sha256_of
from harness.contracts.converter import Natural, constant
from harness.contracts.rules import Digest, RunId

MANIFEST = "manifest.json"
SURFACE = "capability-surface.json"
CORRELATION = "correlation-report.json"
EVENTS = "events.ndjson"
KERNEL = "layers/kernel.ndjson"
POLICY = "layers/policy.ndjson"
SDK = "layers/sdk.ndjson"
HEALTH = "observation-health.json"
V0_MEMBERS = (MANIFEST, SURFACE, CORRELATION, EVENTS, KERNEL, POLICY, SDK, HEALTH)

COMPANION_FOLDER = "companion/"
COMPANION_MANIFEST = "companion/manifest.json"

SCHEMA = "assay.runner.archive_manifest.v0"
COMPANION_SCHEMA = "assay.runner.companion_manifest.v1"


@frozen(kw_only=True)
class ArchiveFile:
    """One member: `sha256` of its bytes, `bytes` its size."""

    path: str
    sha256: Digest
    bytes: Natural


@frozen(kw_only=True)
class ArchiveManifest:
    """manifest.json: every v0 member but itself, keys sorted."""

    schema: str = constant(SCHEMA)
    run_id: RunId
    files: Mapping[str, ArchiveFile]


@frozen(kw_only=True)
class CompanionManifest:
    """companion/manifest.json: binds every companion member to one v0 manifest."""

    schema: str = constant(COMPANION_SCHEMA)
    run_id: RunId
    v0_manifest_sha256: Digest
    files: Mapping[str, ArchiveFile]


def describe(members: Mapping[str, bytes]) -> dict[str, ArchiveFile]:
    """The `files` table of these members, keys sorted by UTF-8 bytes."""
    return {
        path: ArchiveFile(path=path, sha256=sha256_of(members[path]), bytes=len(members[path]))
        for path in sorted(members, key=str.encode)
    }
