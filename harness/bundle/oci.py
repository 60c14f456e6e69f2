"""Archives and their attestations in an OCI image layout (image-spec 1.1), for any OCI tool to carry.

The archive is an artifact manifest; each attestation is one that names it as its `subject`, so that
registries list it as a referrer. Whoever fetches believes digests alone, and no name in the layout.
"""

import os
import re
import stat
from pathlib import Path
from typing import Any

from attrs import frozen

from harness.bundle.reader import Limits
from harness.bundle.verify import check
from harness.bundle.whole_file import write_whole
from harness.contracts.attestation import BUNDLE_MEDIA_TYPE, BUNDLE_SUFFIX, MAX_BUNDLE
from harness.contracts.canonical import load_json, sha256_of, to_bytes
from harness.contracts.converter import ContractError
from harness.contracts.rules import is_digest
from harness.errors import InputError, VerificationError

ARCHIVE_TYPE = "application/vnd.assay.runner.archive.v0"
ARCHIVE_BLOB = "application/vnd.assay.runner.archive.v0.tar+gzip"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
TITLE = "org.opencontainers.image.title"

LAYOUT_FILE, INDEX_FILE = "oci-layout", "index.json"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
EMPTY = b"{}"
MAX_MANIFEST = 4 << 20  # what registries take at most (distribution-spec)
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")  # distribution-spec, with room for an attestation's
_HINT = "the layout is damaged or was changed: get it again from where it was made"

Json = dict[str, Any]


@frozen
class Descriptor:
    """What OCI calls a descriptor, as far as it is used here; `name` is the ref name, "" without one."""

    media_type: str
    digest: str
    size: int
    name: str = ""

    def to_json(self, **more: Any) -> Json:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **more}


def push(layout: Path, archive: Path, attestation: Path | None, tag: str | None = None) -> tuple[str, str]:
    """Add an archive that holds, and its attestation, to a layout; gives (tag, manifest digest).

    A new layout is made where there is none. The tag is the run id unless given; what had it before loses it.
    InputError for what cannot be; VerificationError when the archive does not hold.
    """
    if archive.is_dir():
        raise InputError("is a folder: push the archive itself", place=str(archive), hint="name a .tar.gz")
    run_id = check(archive).run_id
    tag = tag or run_id
    if not TAG.fullmatch(tag):
        hint = "give another with --tag: ASCII letters, digits, '_', '.', '-', at most 100"
        raise InputError("cannot be a tag", place=tag, hint=hint)
    if attestation is not None and not attestation.is_file():
        raise InputError("no such attestation", place=str(attestation), hint="assay-runner attest makes one")
    data = _read(archive, Limits().bundle)
    evidence = _read(attestation, MAX_BUNDLE) if attestation else None
    index = _index_for_push(layout)

    title = f"{tag}.tar.gz"
    main = _add(layout, _manifest(layout, ARCHIVE_TYPE, ARCHIVE_BLOB, title, data))
    entries = _without(index["manifests"], tag, main.digest)
    entries.append(main.to_json(artifactType=ARCHIVE_TYPE, annotations={REF_NAME: tag}))
    if evidence is not None:
        document = _manifest(layout, BUNDLE_MEDIA_TYPE, BUNDLE_MEDIA_TYPE, title + BUNDLE_SUFFIX, evidence)
        referrer = _add(layout, document | {"subject": main.to_json()})
        # A name of its own lets tools carry it that only know names; there may be several signers.
        name = {REF_NAME: f"{tag}.att-{referrer.digest[7:19]}"}
        entries = [it for it in entries if it.get("digest") != referrer.digest]
        entries.append(referrer.to_json(artifactType=BUNDLE_MEDIA_TYPE, annotations=name))
    write_whole(layout / INDEX_FILE, to_bytes(index | {"manifests": entries}), "layout's index")
    return tag, main.digest


def fetch(layout: Path, output: Path, tag: str | None = None) -> int:
    """Write a layout's archive to `output`, and its attestations beside it; gives how many there were.

    Every digest and size is checked, and the archive verified, before anything is written. InputError for a
    tag that is not there; VerificationError (LimitOci, ContractOci, IntegrityOci…) for a broken layout.
    """
    entries = _entries(layout)
    main = _chosen(layout, entries, tag)
    blob = _only_layer(layout, _read_manifest(layout, main), ARCHIVE_BLOB, main.digest)
    data = _blob(layout, blob, Limits().bundle)
    check(_path(layout, blob.digest))
    found: dict[str, bytes] = {}
    for entry in entries:
        if entry.media_type == MANIFEST_TYPE and entry.digest not in found:
            document = _read_manifest(layout, entry)
            subject = document.get("subject")
            about = isinstance(subject, dict) and subject.get("digest") == main.digest
            if about and document.get("artifactType") == BUNDLE_MEDIA_TYPE:
                layer = _only_layer(layout, document, BUNDLE_MEDIA_TYPE, entry.digest)
                found[entry.digest] = _blob(layout, layer, MAX_BUNDLE)
    write_whole(output, data, "archive")
    if found:
        lines = b"".join(found[digest].removesuffix(b"\n") + b"\n" for digest in sorted(found))
        write_whole(output.with_name(output.name + BUNDLE_SUFFIX), lines, "attestation")
    return len(found)


def _ref_name(entry: Json) -> str:
    annotations = entry.get("annotations")
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else ""


def _without(entries: list[Json], tag: str, digest: str) -> list[Json]:
    """The entries that stay when `tag` comes to name `digest`; attestations of what it named go."""
    moved = any(_ref_name(it) == tag and it["digest"] != digest for it in entries)
    gone = [it for it in entries if moved and _ref_name(it).startswith(f"{tag}.att-")]
    return [it for it in entries if it not in gone and _ref_name(it) != tag]


def _index_for_push(layout: Path) -> Json:
    if not layout.parent.is_dir():
        raise InputError("no such folder", place=str(layout.parent), hint="make it first")
    new = not layout.exists() or (layout.is_dir() and not any(layout.iterdir()))
    if not new and not (layout / LAYOUT_FILE).is_file():
        hint = "name a new folder, an empty one, or an OCI layout"
        raise InputError("is no OCI layout", place=str(layout), hint=hint)
    (layout / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    if not (layout / LAYOUT_FILE).exists():
        write_whole(layout / LAYOUT_FILE, LAYOUT, "layout")
    if not (layout / INDEX_FILE).exists():
        return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
    return _index(layout)


def _manifest(layout: Path, artifact_type: str, blob_type: str, title: str, data: bytes) -> Json:
    config = _write_blob(layout, EMPTY_TYPE, EMPTY)
    blob = _write_blob(layout, blob_type, data)
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": artifact_type,
        "config": config.to_json(),
        "layers": [blob.to_json(annotations={TITLE: title})],
    }


def _add(layout: Path, document: Json) -> Descriptor:
    return _write_blob(layout, MANIFEST_TYPE, to_bytes(document))


def _write_blob(layout: Path, media_type: str, data: bytes) -> Descriptor:
    digest = sha256_of(data)
    write_whole(_path(layout, digest), data, "blob")
    return Descriptor(media_type, digest, len(data))


def _path(layout: Path, digest: str) -> Path:
    """Of a digest that was found to be one: nothing else of a layout becomes part of a path."""
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _entries(layout: Path) -> list[Descriptor]:
    try:
        version = load_json(_read(layout / LAYOUT_FILE, MAX_MANIFEST), LAYOUT_FILE)
    except ContractError as error:
        raise _failure("ContractOci", error.message, layout / LAYOUT_FILE) from None
    if not isinstance(version, dict) or version.get("imageLayoutVersion") != "1.0.0":
        raise _failure("ContractOci", "is not of image layout version 1.0.0", layout / LAYOUT_FILE)
    place = layout / INDEX_FILE
    return [
        _descriptor(entry, f"{place} at /manifests/{number}")
        for number, entry in enumerate(_index(layout)["manifests"])
    ]


def _index(layout: Path) -> Json:
    place = layout / INDEX_FILE
    index = _parsed(_read(place, MAX_MANIFEST), str(place))
    if not isinstance(index.get("manifests"), list):
        raise _failure("ContractOci", "has no list of manifests", place)
    for number, entry in enumerate(index["manifests"]):
        _descriptor(entry, f"{place} at /manifests/{number}")
    return index


def _chosen(layout: Path, entries: list[Descriptor], tag: str | None) -> Descriptor:
    mains = [
        entry
        for entry in entries
        if entry.media_type == MANIFEST_TYPE
        and _read_manifest(layout, entry).get("artifactType") == ARCHIVE_TYPE
        and tag in (None, entry.name)
    ]
    if len({entry.digest for entry in mains}) != 1:
        known = ", ".join(sorted(f"{entry.name!r:.100}" for entry in mains or entries if entry.name)[:20])
        if tag is None:
            message = f"has {len(mains)} archives, so one must be named"
        else:
            message = f"has {len(mains)} archives of the tag {tag!r}"
        raise InputError(message, place=str(layout), hint=f"give --tag; there are: {known or 'none'}")
    return mains[0]


def _read_manifest(layout: Path, entry: Descriptor) -> Json:
    return _parsed(_blob(layout, entry, MAX_MANIFEST), entry.digest)


def _only_layer(layout: Path, document: Json, media_type: str, digest: str) -> Descriptor:
    place = f"{_path(layout, digest)} at /layers"
    layers = document.get("layers")
    if not isinstance(layers, list) or len(layers) != 1:
        raise _failure("ContractOci", "must have one layer", place)
    layer = _descriptor(layers[0], f"{place}/0")
    if layer.media_type != media_type:
        raise _failure("ContractOci", f"is of type {layer.media_type!r:.100}, not {media_type}", f"{place}/0")
    return layer


def _descriptor(entry: Any, place: str) -> Descriptor:
    if not isinstance(entry, dict):
        raise _failure("ContractOci", "is no descriptor", place)
    media_type, digest, size = entry.get("mediaType"), entry.get("digest"), entry.get("size")
    if not isinstance(media_type, str):
        raise _failure("ContractOci", "must be a string", f"{place}/mediaType")
    if not isinstance(digest, str) or not is_digest(digest):
        raise _failure("ContractOci", "must be sha256: and 64 lowercase hex digits", f"{place}/digest")
    if type(size) is not int or size < 0:
        raise _failure("ContractOci", "must be a number of bytes", f"{place}/size")
    return Descriptor(media_type, digest, size, _ref_name(entry))


def _blob(layout: Path, wanted: Descriptor, limit: int) -> bytes:
    path = _path(layout, wanted.digest)
    if wanted.size > limit:
        raise _failure("LimitOci", f"has {wanted.size} bytes, more than {limit}", path)
    data = _read(path, wanted.size)
    if len(data) != wanted.size:
        raise _failure("IntegrityOciSize", f"has {len(data)} bytes, not {wanted.size}", path)
    if sha256_of(data) != wanted.digest:
        raise _failure("IntegrityOciDigest", f"has the digest {sha256_of(data)}", path)
    return data


def _parsed(data: bytes, place: str) -> Json:
    try:
        document = load_json(data, "document")
    except ContractError as error:
        raise _failure("ContractOci", error.message, place) from None
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise _failure("ContractOci", "is no OCI document of schema version 2", place)
    return document


def _read(path: Path, limit: int) -> bytes:
    """A regular file of at most `limit` bytes; a link, a device or a fifo is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _failure("ContractOciMissing", f"cannot be read: {error.strerror}", path) from None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _failure("ContractOci", "is no regular file", path)
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise _failure("LimitOci", f"has more than {limit} bytes", path)
    return data


def _failure(code: str, message: str, place: Path | str) -> VerificationError:
    return VerificationError(code, message, place=str(place), hint=_HINT)
