"""Key pairs made for one test, in the files that people have them in."""

from pathlib import Path

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from harness.bundle.signing import Key, Signer, load_public_key, load_signer


@frozen
class Pair:
    private: Path
    public: Path

    @property
    def signer(self) -> Signer:
        return load_signer(str(self.private))

    @property
    def key(self) -> Key:
        return load_public_key(str(self.public))


def new_pair(folder: Path, name: str) -> Pair:
    private = Ed25519PrivateKey.generate()
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.pub")
    pair.private.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    pair.public.write_bytes(public)
    return pair
