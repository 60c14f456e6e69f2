"""What the files of a kit say, held against each other: no engine, nothing run."""

from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from harness.bundle.kit_reader import failure
from harness.bundle.layer_tar import check_layer_tar
from harness.bundle.reader import Archive
from harness.bundle.verify import check
from harness.contracts.canonical import JsonError, load_json, sha256_of
from harness.contracts.companion import ACCOUNTING, RUNSPEC, AccountingV1, RunSpecDocV1
from harness.contracts.compared import compared
from harness.contracts.converter import parse
from harness.contracts.replay_kit import ARCHIVE, IMAGE_CONFIG, KIT, POLICY, ReplayKit, layer_file
from harness.errors import EvidenceError, InputError

_AGAIN = "measure it again with `assay-runner run`"


@frozen
class KitContents:
    """A kit that holds: its archive, and what that archive says was declared before the run."""

    archive: Archive
    runspec: RunSpecDocV1


def replayable(path: Path) -> KitContents:
    """An archive that a run can be held against: it verifies, is clean, and says all that a replay needs.

    VerificationError, EvidenceError or InputError otherwise.
    """
    archive = check(path)
    missing = [
        member
        for member in (*compared(archive.members), RUNSPEC, ACCOUNTING)
        if member not in archive.members
    ]
    if missing:
        raise InputError(f"has no {missing[0]}: nothing can be replayed", place=str(path), hint=_AGAIN)
    accounting = parse(AccountingV1, load_json(archive.members[ACCOUNTING], ACCOUNTING))
    if not accounting.clean:
        raise EvidenceError(
            f"its evidence is not clean ({', '.join(accounting.unclean)}): equal bytes would prove nothing",
            place=str(path),
            hint=_AGAIN,
        )
    runspec = parse(RunSpecDocV1, load_json(archive.members[RUNSPEC], RUNSPEC))
    if not runspec.image_id or accounting.capture is None:
        raise InputError("ran in no container: it cannot be done again", place=str(path), hint=_AGAIN)
    if runspec.tools_server is not None and (runspec.tools_env is None or runspec.tools_legacy is None):
        raise InputError(
            "does not say how its tools were started", place=f"{path}: {RUNSPEC} at /tools_env", hint=_AGAIN
        )
    return KitContents(archive, runspec)


def expected_digests(archive: Archive) -> dict[str, str]:
    """Of the compared members."""
    return {member: sha256_of(archive.members[member]) for member in compared(archive.members)}


def check_contents(kit: ReplayKit, files: Mapping[str, Path], place: str) -> KitContents:
    """Raise VerificationError at the first thing that kit.json, archive and image do not say alike.

    `files` are those of SealedKit.unpack: their digests are known to be right.
    """
    found = replayable(files[ARCHIVE])
    runspec = found.runspec
    said = {
        "/archive_identity": (kit.archive_identity, found.archive.identity),
        "/run_id": (kit.run_id, found.archive.run_id),
        "/expected": (kit.expected, expected_digests(found.archive)),
        "/image": (kit.image, runspec.image),
        "/image_id": (kit.image_id, runspec.image_id),
        "/inputs": (kit.inputs, runspec.inputs),
        "/folders": (kit.folders, runspec.input_folders or ()),
        "/programs": (kit.programs, runspec.input_programs),
        "/links": (kit.links, runspec.input_links),
        "/files/policy.toml": (
            kit.files[POLICY].sha256 if POLICY in kit.files else None,
            runspec.policy_sha256,
        ),
    }
    for pointer, (ours, theirs) in said.items():
        if ours != theirs:
            raise failure(
                "IntegrityManifestHash", f"says {ours}, the archive {theirs}", f"{place}: {KIT} at {pointer}"
            )
    if kit.files[IMAGE_CONFIG].sha256 != kit.image_id:
        raise failure("IntegrityManifestHash", "its digest is not the image's ID", f"{place}: {IMAGE_CONFIG}")
    where = f"{place}: {IMAGE_CONFIG} at /rootfs/diff_ids"
    if diff_ids(files[IMAGE_CONFIG].read_bytes(), where) != kit.layers:
        raise failure("IntegrityManifestHash", "the image has other layers than kit.json says", where)
    for digest in dict.fromkeys(kit.layers):
        check_layer_tar(files[layer_file(digest)], f"{place}: {layer_file(digest)}")
    return found


def diff_ids(config: bytes, place: str) -> tuple[str, ...]:
    """The layers that an image's config names (OCI image spec, "rootfs")."""
    try:
        found = load_json(config, "the image's config")["rootfs"]["diff_ids"]
    except (JsonError, LookupError, TypeError):
        raise failure("ContractInvalidJson", "is no config of an image", place) from None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise failure("ContractInvalidJson", "is no list of digests", place)
    return tuple(found)
