"""Signatures of replay kits: an in-toto statement about the exact bytes of kit.json, which binds the rest."""

from collections.abc import Sequence

from harness.bundle.signing import Key, Signer, sign, verify_envelope
from harness.contracts.attestation import DigestSet, ResourceDescriptor, Statement
from harness.contracts.canonical import sha256_of
from harness.contracts.replay_kit import KIT, PREDICATE, SIGNATURE, ReplayKit
from harness.errors import VerificationError


def signature_of(kit: ReplayKit, manifest: bytes, signer: Signer) -> bytes:
    """The signature's file; `manifest` are the bytes of kit.json."""
    return sign(_statement(kit, manifest), signer)


def check_signature(
    kit: ReplayKit, manifest: bytes, signature: bytes | None, keys: Sequence[Key], place: str
) -> None:
    """VerificationError unless one of `keys` has signed this very kit.json."""
    if signature is None:
        raise VerificationError(
            "KitUnsigned", "nobody has signed it", place=place, hint="ask its maker for `kit --key`"
        )
    where = f"{place}: {SIGNATURE}"
    if verify_envelope(signature, keys, where) != _statement(kit, manifest):
        raise VerificationError(
            "AttestationStatement", "is signed, but not about this kit", place=where, hint="do not replay it"
        )


def _statement(kit: ReplayKit, manifest: bytes) -> Statement:
    digest = DigestSet(sha256=sha256_of(manifest).removeprefix("sha256:"))
    return Statement(
        subject=(ResourceDescriptor(name=KIT, digest=digest),),
        predicateType=PREDICATE,
        predicate={"run_id": kit.run_id, "image_id": kit.image_id},
    )
