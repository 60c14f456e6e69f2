"""Keys as people hand them over, and the envelopes that are made with them."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from harness.bundle.signing import load_public_key, load_signer, sign, verify_envelope
from harness.contracts.attestation import MAX_BUNDLE, DigestSet, ResourceDescriptor, Statement
from harness.errors import InputError, VerificationError
from tests.unit.bundle.keys import Pair, new_pair

STATEMENT = Statement(
    subject=(ResourceDescriptor(name="a", digest=DigestSet(sha256="0f" * 32)),),
    predicateType="https://example.org/x/v1",
    predicate={"é": [1, None]},
)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return new_pair(tmp_path, "one")


def code(data: bytes, *pairs: Pair) -> str:
    with pytest.raises(VerificationError) as caught:
        verify_envelope(data, [pair.key for pair in pairs])
    assert caught.value.exit_code == 4
    assert caught.value.place
    assert caught.value.hint
    return caught.value.code


def changed(data: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(data) | fields).encode()


def test_what_was_signed_is_what_is_read(pair: Pair) -> None:
    line = sign(STATEMENT, pair.signer)
    assert line == sign(STATEMENT, pair.signer)
    assert line.count(b"\n") == 1
    assert verify_envelope(line, [pair.key]) == STATEMENT


def test_the_signature_is_ed25519_over_the_pre_authentication_encoding(pair: Pair) -> None:
    """DSSE v1.0 protocol.md, said a second time and checked without securesystemslib."""
    envelope = json.loads(sign(STATEMENT, pair.signer))
    payload = base64.b64decode(envelope["payload"])
    kind = b"application/vnd.in-toto+json"
    encoded = b"DSSEv1 28 " + kind + b" " + str(len(payload)).encode() + b" " + payload
    raw = bytes.fromhex(pair.key.keyval["public"])
    [signature] = envelope["signatures"]
    ed25519.Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(signature["sig"]), encoded)
    assert json.loads(payload)["_type"] == "https://in-toto.io/Statement/v1"


def test_keys_come_from_the_environment_too(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K", pair.private.read_text())
    monkeypatch.setenv("P", pair.public.read_text())
    assert verify_envelope(sign(STATEMENT, load_signer("env:K")), [load_public_key("env:P")]) == STATEMENT


def test_a_second_signature_and_a_second_key_do_no_harm(pair: Pair, tmp_path: Path) -> None:
    other = new_pair(tmp_path, "two")
    one, two = (json.loads(sign(STATEMENT, it.signer)) for it in (pair, other))
    both = changed(json.dumps(one).encode(), signatures=[*two["signatures"], *one["signatures"]])
    assert verify_envelope(both, [pair.key]) == STATEMENT
    assert verify_envelope(both, [other.key, pair.key]) == STATEMENT


def test_swapped_keys_are_told_apart(pair: Pair, tmp_path: Path) -> None:
    other = new_pair(tmp_path, "two")
    line = sign(STATEMENT, pair.signer)
    assert code(line, other) == "AttestationUnknownKey"
    assert code(line) == "AttestationUnknownKey"
    [signature] = json.loads(line)["signatures"]
    renamed = changed(line, signatures=[signature | {"keyid": other.key.keyid}])
    assert code(renamed, other) == "AttestationSignature"
    assert code(renamed, pair) == "AttestationUnknownKey"
    assert code(renamed, pair, other) == "AttestationSignature"


def test_a_payload_under_the_signature_of_another_is_refused(pair: Pair) -> None:
    other = Statement(subject=(), predicateType="x", predicate={})
    payload = json.loads(sign(other, pair.signer))["payload"]
    assert code(changed(sign(STATEMENT, pair.signer), payload=payload), pair) == "AttestationSignature"


def test_another_payload_type_is_refused_though_well_signed(pair: Pair) -> None:
    line = sign(STATEMENT, pair.signer)
    assert code(changed(line, payloadType="text/plain"), pair) == "AttestationPayloadType"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.rstrip("="),
        lambda text: text + "\n",
        lambda text: text[:4] + " " + text[4:],
        lambda text: text.replace("+", "-").replace("/", "_") + ("" if set(text) & set("+/") else "-"),
        lambda text: text + "====",
        lambda text: "é" + text[1:],
    ],
)
def test_base64_has_one_spelling(pair: Pair, spoil: Callable[[str], str]) -> None:
    line = sign(STATEMENT, pair.signer)
    envelope = json.loads(line)
    [signature] = envelope["signatures"]
    spoilt = [signature | {"sig": spoil(signature["sig"])}]
    assert code(changed(line, signatures=spoilt), pair) == "AttestationEnvelope"


def test_bits_that_decoding_ignores_are_refused(pair: Pair) -> None:
    """64 bytes of signature leave four bits of the last character unused: all but one spelling is wrong."""
    line = sign(STATEMENT, pair.signer)
    [signature] = json.loads(line)["signatures"]
    text = signature["sig"]
    assert text.endswith("==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spare = alphabet[alphabet.index(text[-3]) + 1]
    assert base64.b64decode(f"{text[:-3]}{spare}==") == base64.b64decode(text)
    again = changed(line, signatures=[signature | {"sig": f"{text[:-3]}{spare}=="}])
    assert code(again, pair) == "AttestationEnvelope"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'\xef\xbb\xbf{"payload":"","payloadType":"","signatures":[]}',
        b'{"payload":"","payload":"","payloadType":"x","signatures":[]}',
        b'{"payload":1,"payloadType":"x","signatures":[]}',
        b'{"payload":"","payloadType":"x","signatures":{}}',
        b'{"payload":"","payloadType":"x","signatures":[{"keyid":"a"}]}',
        b'{"payload":"","payloadType":"x","signatures":[],"more":1}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_envelope(pair: Pair, data: bytes) -> None:
    assert code(data, pair) == "AttestationEnvelope"


def test_nobody_and_twice_the_same_signed(pair: Pair) -> None:
    line = sign(STATEMENT, pair.signer)
    assert code(changed(line, signatures=[]), pair) == "AttestationUnknownKey"
    twice = json.loads(line)["signatures"] * 2
    assert code(changed(line, signatures=twice), pair) == "AttestationEnvelope"


def test_a_huge_envelope_is_not_read(pair: Pair) -> None:
    assert code(b" " * (MAX_BUNDLE + 1), pair) == "LimitAttestationBytes"
    huge = Statement(subject=(), predicateType="x", predicate={"x": "y" * MAX_BUNDLE})
    with pytest.raises(InputError, match="no more than"):
        sign(huge, pair.signer)


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b'{"_type":"a","_type":"b"}', b'{"_type":"https://in-toto.io/Statement/v0.1"}']
)
def test_a_payload_that_is_no_statement_though_well_signed(pair: Pair, payload: bytes) -> None:
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, "application/vnd.in-toto+json", {})
    envelope.sign(pair.signer)
    assert code(json.dumps(envelope.to_dict()).encode(), pair) == "AttestationStatement"


def test_keys_that_will_not_do(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    p256 = ec.generate_private_key(ec.SECP256R1())
    locked = ed25519.Ed25519PrivateKey.generate()
    files = {
        "p256.pem": p256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "p256.pub": p256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "locked.pem": locked.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
        "text": b"hello",
        "large": b"x" * 20_000,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.setenv("EMPTY", "")
    common = {
        "text": "in PEM",
        "large": "too large",
        "none": "cannot be read: No such file",
        "": "cannot be read",
        "env:EMPTY": "no key in this environment variable",
        "env:NOT_SET_AT_ALL": "no key in this environment variable",
    }
    private = common | {
        "p256.pem": "not an Ed25519 key",
        "locked.pem": "encrypted",
        "one.pub": "a public key",
    }
    public = common | {"p256.pub": "not an Ed25519 key", "one.pem": "is a private key"}
    for told, load in ((private, load_signer), (public, load_public_key)):
        for name, message in told.items():
            spec = name if name.startswith("env:") else str(tmp_path / name)
            with pytest.raises(InputError, match=message) as caught:
                load(spec)
            assert caught.value.place == spec
            assert "openssl" in caught.value.hint or "export" in caught.value.hint
            assert "hello" not in str(caught.value)
