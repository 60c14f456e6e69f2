"""Keys, and statements signed with them: DSSE v1 envelopes, Ed25519, by securesystemslib.

Nothing of an envelope's payload is parsed before a given key has verified it.
"""

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib import dsse
from securesystemslib.exceptions import VerificationError as UnacceptedError
from securesystemslib.signer import CryptoSigner, Key, Signature, Signer, SSlibKey

from harness.contracts.attestation import MAX_BUNDLE, PAYLOAD_TYPE, Envelope, Statement
from harness.contracts.canonical import JsonError, load_json, to_bytes
from harness.contracts.converter import ContractError, parse, unstructure
from harness.errors import InputError, VerificationError

__all__ = ["Key", "Signer", "load_public_key", "load_signer", "sign", "verify_envelope"]

T = TypeVar("T")
_MAX_KEY = 16 << 10
_ENVIRONMENT = "env:"
_NEW_KEY = "make one: openssl genpkey -algorithm ed25519 -out key.pem"
_PUBLIC_KEY = "its public half: openssl pkey -in key.pem -pubout -out key.pub"
_HINT = "do not rely on this attestation: get it, and the signer's public key, again from the signer"


def load_signer(spec: str) -> Signer:
    """The private key at a path, or in the variable NAME for `env:NAME`: PKCS8 PEM, Ed25519, not encrypted.

    InputError for anything else.
    """
    place, data = _key_bytes(spec)
    if b"PUBLIC KEY-----" in data:
        raise InputError("is a public key: signing needs the private one", place=place, hint=_NEW_KEY)
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        hint = "give it decrypted, for instance by env:NAME: openssl pkey -in key.pem"
        raise InputError("is an encrypted key", place=place, hint=hint) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("is no private key in PEM (PKCS8)", place=place, hint=_NEW_KEY) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError("is not an Ed25519 key", place=place, hint=_NEW_KEY)
    return CryptoSigner(key)


def load_public_key(spec: str) -> Key:
    """The public key at a path, or in the variable NAME for `env:NAME`: PEM, Ed25519.

    InputError for anything else.
    """
    place, data = _key_bytes(spec)
    if b"PRIVATE KEY-----" in data:
        message = "is a private key: verifying takes the public one, and the private one stays secret"
        raise InputError(message, place=place, hint=_PUBLIC_KEY)
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("is no public key in PEM", place=place, hint=_PUBLIC_KEY) from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError("is not an Ed25519 key", place=place, hint=_NEW_KEY)
    return SSlibKey.from_crypto(key)


def sign(statement: object, signer: Signer) -> bytes:
    """The envelope of a Statement (or a model with its keys) as one JSON line, the same for the same key."""
    envelope = dsse.Envelope(to_bytes(unstructure(statement)), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    line = to_bytes(envelope.to_dict()) + b"\n"
    if len(line) > MAX_BUNDLE:
        raise InputError(
            f"the attestation would have {len(line)} bytes; no more than {MAX_BUNDLE} can be verified",
            hint="declare names that change in each run as volatile, so that there are fewer paths",
        )
    return line


def verify_envelope(data: bytes, keys: Sequence[Key], place: str = "attestation") -> Statement:
    """The statement in an envelope that one of `keys` signed; `place` names it in errors.

    VerificationError: LimitAttestationBytes, AttestationEnvelope, AttestationPayloadType,
    AttestationUnknownKey, AttestationSignature, AttestationStatement.
    """
    if len(data) > MAX_BUNDLE:
        raise _failure("LimitAttestationBytes", f"more than {MAX_BUNDLE} bytes", place)
    envelope = _parse(Envelope, data, "AttestationEnvelope", place)
    if envelope.payloadType != PAYLOAD_TYPE:
        message = f"the payload is of type {envelope.payloadType!r:.80}, not {PAYLOAD_TYPE}"
        raise _failure("AttestationPayloadType", message, f"{place} at /payloadType")
    payload = _decoded(envelope.payload, f"{place} at /payload")
    signatures: dict[str, Signature] = {}
    for number, found in enumerate(envelope.signatures):
        where = f"{place} at /signatures/{number}"
        if found.keyid in signatures:
            raise _failure("AttestationEnvelope", "a second signature by the same key", where)
        signatures[found.keyid] = Signature(found.keyid, _decoded(found.sig, f"{where}/sig").hex())
    if not signatures.keys() & {key.keyid for key in keys}:
        by = ", ".join(f"{keyid!r:.80}" for keyid in list(signatures)[:4]) or "nobody"
        raise _failure("AttestationUnknownKey", f"signed by {by}, and by none of the given keys", place)
    try:
        dsse.Envelope(payload, PAYLOAD_TYPE, signatures).verify(list(keys), threshold=1)
    except UnacceptedError:
        raise _failure(
            "AttestationSignature", "signature and payload do not belong together", place
        ) from None
    return _parse(Statement, payload, "AttestationStatement", f"{place} payload")


def _parse(cls: type[T], data: bytes, code: str, place: str) -> T:
    try:
        return parse(cls, load_json(data, cls.__name__))
    except JsonError as error:
        raise _failure(code, error.message, place) from None
    except ContractError as error:
        raise _failure(code, error.message, f"{place} at {error.pointer or '/'}") from None


def _decoded(text: str, place: str) -> bytes:
    """Base64 in its one standard spelling (RFC 4648 §3.5), so that a text has no second form."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise _failure("AttestationEnvelope", "is not standard base64", place) from None
    if base64.b64encode(data).decode() != text:
        raise _failure("AttestationEnvelope", "is not base64 in its canonical form", place)
    return data


def _key_bytes(spec: str) -> tuple[str, bytes]:
    if spec.startswith(_ENVIRONMENT):
        name = spec.removeprefix(_ENVIRONMENT)
        text = os.environ.get(name, "")
        if not text:
            raise InputError("no key in this environment variable", place=spec, hint=f"export {name} first")
        return spec, text.encode()
    path = Path(spec)
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_KEY + 1)
    except OSError as error:
        hint = f"name a key file, or env:NAME; {_NEW_KEY}"
        raise InputError(f"cannot be read: {error.strerror}", place=spec, hint=hint) from None
    if len(data) > _MAX_KEY:
        raise InputError("is too large to be a key", place=spec, hint=_NEW_KEY)
    return spec, data


def _failure(code: str, message: str, place: str) -> VerificationError:
    return VerificationError(code, message, place=place, hint=_HINT)
