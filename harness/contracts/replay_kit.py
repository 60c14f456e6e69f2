"""assay.runner.replay_kit.v1: all that doing a run again needs, and assay.runner.replay_result.v1.

A kit is an uncompressed tar with the archive's fixed headers (contracts §1.2): kit.json first, its
signature if it has one, then the files that it binds, sorted by their names. Files are named by what
they are or by their digest, never by a path that somebody chose.
"""

from collections.abc import Iterable, Mapping

from attrs import frozen

from harness.contracts.converter import Natural, constant, nullable, omittable
from harness.contracts.manifest import ArchiveFile
from harness.contracts.rules import Digest, OrderedSet, RunId

SCHEMA = "assay.runner.replay_kit.v1"
RESULT_SCHEMA = "assay.runner.replay_result.v1"
PREDICATE = "urn:assay-runner:replay-kit:v1"  # of the in-toto statement that signs a kit

KIT = "kit.json"
SIGNATURE = "kit.dsse.json"
ARCHIVE = "archive.tar.gz"
IMAGE_CONFIG = "image/config.json"
POLICY = "policy.toml"


@frozen(kw_only=True)
class ReplayKit:
    """kit.json; what it repeats of the archive is compared with it.

    archive_identity  digest of the archive's manifest.json
    image             the image's name where it was measured, for people
    image_id          digest of image/config.json
    layers            diff IDs, lowest first; each is the digest of its file
    inputs            file below /workspace -> digest; its bytes are the file of that digest
    folders           folders below /workspace that nothing is in
    programs          the inputs that can be executed; left out if there are none
    links             symbolic link below /workspace -> what it says; left out if there are none
    expected          compared member of the archive (design §6) -> digest
    files             every file of the kit but this one and its signature
    """

    schema: str = constant(SCHEMA)
    run_id: RunId
    archive_identity: Digest
    image: str
    image_id: Digest
    layers: tuple[Digest, ...]
    inputs: dict[str, Digest]
    folders: tuple[str, ...]
    programs: OrderedSet | None = omittable()
    links: dict[str, str] | None = omittable()
    expected: dict[str, Digest]
    files: Mapping[str, ArchiveFile]


@frozen(kw_only=True)
class ReplayDifference:
    """Where a compared member differs first: an RFC 6901 pointer, or `byte <offset>`."""

    member: str
    place: str
    expected: str
    replayed: str


@frozen(kw_only=True)
class ReplayResult:
    """What `replay --json` prints; `equal` when `differences` is empty.

    signed_by  the public key, as it was given, that the kit's signature fits; null when it was trusted
    identity   of the new archive; `archive` is where it was kept, null if it was not
    """

    schema: str = constant(RESULT_SCHEMA)
    run_id: RunId
    kit: str
    signed_by: str | None = nullable()
    image_id: Digest
    expected_identity: Digest
    identity: Digest
    archive: str | None = nullable()
    equal: bool
    compared: tuple[str, ...]
    differences: tuple[ReplayDifference, ...]
    elapsed_ms: Natural


def stays_inside(name: str, target: str) -> bool:
    """Whether the link `name`, a relative path, leads to a place below the folder that it starts from.

    Each ".." must stand at the beginning: behind the name of another link it could climb higher.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    relative = bool(target) and not target.startswith("/") and "\0" not in target
    return relative and ".." not in parts[climbs:] and climbs <= name.count("/")


def layer_file(digest: str) -> str:
    return f"image/{digest.removeprefix('sha256:')}.tar"


def input_file(digest: str) -> str:
    return f"inputs/{digest.removeprefix('sha256:')}"


def file_names(layers: Iterable[str], inputs: Iterable[str], *, policy: bool) -> tuple[str, ...]:
    """Names of all files of such a kit, in their order."""
    names = {ARCHIVE, IMAGE_CONFIG, *map(layer_file, layers), *map(input_file, inputs)}
    return tuple(sorted(names | {POLICY} if policy else names, key=str.encode))
