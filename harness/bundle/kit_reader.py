"""Reads replay kits of strangers. All of a kit is checked before any of it is used for anything.

In this order: the manifest and its signature, before another byte is read; the sizes, before anything is
copied; every file's header and digest, while it is copied to a folder of ours under a name of ours; then
what the files say. What is used afterwards is the copy, so the kit may change meanwhile.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from harness.bundle.layout import BLOCK, END, MAX_SIZE, header, padding
from harness.contracts.bounds import MIB
from harness.contracts.canonical import JsonError, load_json, to_bytes
from harness.contracts.converter import ContractError, parse, unstructure
from harness.contracts.manifest import ArchiveFile
from harness.contracts.replay_kit import (
    ARCHIVE,
    IMAGE_CONFIG,
    KIT,
    POLICY,
    SIGNATURE,
    ReplayKit,
    file_names,
    input_file,
    stays_inside,
)
from harness.contracts.rules import is_sorted_unique
from harness.errors import InputError, VerificationError

MAX_MANIFEST = 32 * MIB
MAX_SIGNATURE = MIB
MAX_LAYERS = 127  # what engines unpack
MAX_INPUTS = 1024 * MIB  # together
# By the beginning of the name, first match wins.
_LIMITS = {
    ARCHIVE: 100 * MIB,
    POLICY: MIB,
    IMAGE_CONFIG: 4 * MIB,
    "inputs/": MAX_INPUTS,
    "image/": MAX_SIZE,
}
_CHUNK = MIB
_HINT = "the kit is damaged or was changed: get it again from where it was made"


@frozen
class SealedKit:
    """A kit of which only the beginning was read: `manifest` are the exact bytes of kit.json."""

    place: str
    stream: BinaryIO
    kit: ReplayKit
    manifest: bytes
    signature: bytes | None

    def unpack(self, folder: Path) -> dict[str, Path]:
        """Copy all files into the empty `folder`, each checked; gives where each is, by its name.

        VerificationError for the first one that is not what kit.json says.
        """
        found = {}
        for number, (name, file) in enumerate(self.kit.files.items()):
            found[name] = folder / f"{number:04}"
            with found[name].open("xb") as target:
                self._copy(name, file, target)
        if self.stream.read() != END:
            raise failure("IntegrityTar", "does not end with exactly two zero blocks", self.place)
        return found

    def _copy(self, name: str, file: ArchiveFile, target: BinaryIO) -> None:
        place = f"{self.place}: {name}"
        if self.stream.read(BLOCK) != header(name, file.bytes):
            raise failure("IntegrityTar", "its header is not as fixed, or another file stands here", place)
        whole, left = hashlib.sha256(), file.bytes
        while left:
            chunk = self.stream.read(min(left, _CHUNK))
            if not chunk:
                raise failure("IntegrityTar", "is cut short", place)
            whole.update(chunk)
            target.write(chunk)
            left -= len(chunk)
        if self.stream.read(padding(file.bytes)) != bytes(padding(file.bytes)):
            raise failure("IntegrityTar", "is badly padded", place)
        if f"sha256:{whole.hexdigest()}" != file.sha256:
            raise failure(
                "IntegrityManifestHash", f"is sha256:{whole.hexdigest()}, kit.json says {file.sha256}", place
            )


@contextmanager
def sealed_kit(path: Path) -> Iterator[SealedKit]:
    """Open a kit, read kit.json and the signature, and hold all names and sizes against the file's size.

    InputError when there is nothing to read; VerificationError when it is no kit of ours.
    """
    place = str(path)
    try:
        # Not blocking: a fifo must not hang the reader before it is seen to be none of ours.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputError("no such kit", place=place, hint="check the path") from None
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", place=place, hint="ask for read permission"
        ) from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise InputError("is no regular file", place=place, hint="name a kit")
    with os.fdopen(descriptor, "rb") as stream:
        yield _opened(stream, facts.st_size, place)


def failure(code: str, message: str, place: str) -> VerificationError:
    """An error of a kit, with the remedy."""
    return VerificationError(code, message, place=place, hint=_HINT)


def _opened(stream: BinaryIO, size: int, place: str) -> SealedKit:
    name, manifest = _head(stream, {KIT: MAX_MANIFEST}, place)
    kit = _parsed(manifest, f"{place}: {name}")
    _check_files(kit, f"{place}: {name}")
    at = stream.tell()
    signature = None
    if stream.read(BLOCK)[: len(SIGNATURE)] == SIGNATURE.encode():
        stream.seek(at)
        _, signature = _head(stream, {SIGNATURE: MAX_SIGNATURE}, place)
        at = stream.tell()
    stream.seek(at)
    wanted = at + sum(BLOCK + file.bytes + padding(file.bytes) for file in kit.files.values()) + len(END)
    if size != wanted:
        what = "is cut short" if size < wanted else "has something after its end"
        raise failure("IntegrityTar", f"{what}: {size} bytes, kit.json says {wanted}", place)
    return SealedKit(place, stream, kit, manifest, signature)


def _head(stream: BinaryIO, known: Mapping[str, int], place: str) -> tuple[str, bytes]:
    block = stream.read(BLOCK)
    name, limit = next(iter(known.items()))
    digits = block[124:135]
    if block[: len(name) + 1] != name.encode() + b"\0" or not all(byte in b"01234567" for byte in digits):
        raise failure("ContractMissingManifest", f"is no replay kit: it does not begin with {name}", place)
    size = int(digits or b"0", 8)
    if size > limit:
        raise failure("LimitFileSize", f"{name} has {size} bytes, more than {limit}", place)
    data, pad = stream.read(size), stream.read(padding(size))
    if block != header(name, size) or len(data) < size or pad != bytes(padding(size)):
        raise failure("IntegrityTar", f"{name} is cut short, or its header is not as fixed", place)
    return name, data


def _parsed(data: bytes, place: str) -> ReplayKit:
    try:
        kit = parse(ReplayKit, load_json(data, "document"))
    except JsonError as error:
        raise failure(error.code, error.message, place) from None
    except ContractError as error:
        code = "ContractSchemaVersion" if error.pointer == "/schema" else "ContractInvalidJson"
        raise failure(code, error.message, f"{place} at {error.pointer or '/'}") from None
    if to_bytes(unstructure(kit)) != data:
        raise failure("ContractInvalidJson", "its bytes are not canonical", place)
    return kit


def _check_files(kit: ReplayKit, place: str) -> None:
    """The names follow from the contents, so none of them can lead anywhere; the sizes are bounded."""
    wanted = file_names(kit.layers, kit.inputs.values(), policy=POLICY in kit.files)
    if tuple(kit.files) != wanted:
        odd = sorted(set(kit.files) ^ set(wanted)) or ["their order"]
        raise failure("ContractUnexpectedFile", f"not the files of this kit: {odd[0]}", f"{place} at /files")
    if not 0 < len(kit.layers) <= MAX_LAYERS:
        raise failure("LimitFileSize", f"between 1 and {MAX_LAYERS} layers", f"{place} at /layers")
    for name, file in kit.files.items():
        limit = next(most for prefix, most in _LIMITS.items() if name.startswith(prefix))
        at = f"{place} at /files/{name.replace('/', '~1')}"
        if file.bytes > limit:
            raise failure("LimitFileSize", f"has {file.bytes} bytes, more than {limit}", at)
        if file.path != name:
            raise failure("ContractInvalidJson", f"path is {file.path!r}, not the key", at)
        if "/" in name and name != IMAGE_CONFIG and file.sha256[7:] not in name:
            raise failure("IntegrityManifestHash", "is named by another digest than its own", at)
    total = sum(kit.files[input_file(digest)].bytes for digest in kit.inputs.values())
    if total > MAX_INPUTS:
        raise failure("LimitFileSize", f"inputs of {total} bytes", f"{place} at /inputs")
    _check_paths(kit, place)


def _check_paths(kit: ReplayKit, place: str) -> None:
    """Inputs, empty folders and links can all stand below one folder, each at a place of its own."""
    links = kit.links or {}
    names = [*kit.inputs, *kit.folders, *links]
    taken = set(names)
    for name in names:
        parts = name.split("/")
        code = "SecurityAbsolutePath" if name.startswith("/") else "SecurityPathTraversal"
        odd = any(part in ("", ".", "..") or len(os.fsencode(part)) > 255 for part in parts)
        if odd or "\0" in name or len(os.fsencode(name)) > 3000:
            raise failure(code, f"the input {name!r} has no plain relative path", f"{place} at /inputs")
        above = ("/".join(parts[:end]) for end in range(1, len(parts)))
        if any(folder in taken for folder in above):
            raise failure(
                "ContractDuplicateFile", f"the input {name!r} stands below another", f"{place} at /inputs"
            )
    if len(taken) < len(names) or not is_sorted_unique(kit.folders):
        raise failure(
            "ContractDuplicateFile", "a folder is an input, or is there twice", f"{place} at /folders"
        )
    for name, target in links.items():
        if not stays_inside(name, target) or len(os.fsencode(target)) > 3000:
            raise failure(
                "SecurityPathTraversal", f"the link {name!r} leads to {target!r}", f"{place} at /links"
            )
    if not set(kit.programs or ()) <= set(kit.inputs):
        raise failure("ContractInvalidJson", "a program is no input", f"{place} at /programs")
