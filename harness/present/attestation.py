"""What `verify --key` found of an attestation, for people and for programs."""

from pathlib import Path
from typing import Any

from harness.errors import VerificationError


def as_text(path: Path, error: VerificationError | None) -> str:
    """One line, below the archive's own."""
    line = f"  {f'FAILED {error.place}: {error.message}' if error else f'attested by a given key: {path}'}"
    return "".join(c if c.isprintable() else "\ufffd" for c in line)


def as_json(path: Path, error: VerificationError | None) -> dict[str, Any]:
    """`code`, `place` and `message` are null when the attestation holds."""
    return {
        "file": str(path),
        "ok": error is None,
        "code": error.code if error else None,
        "place": error.place if error else None,
        "message": error.message if error else None,
    }
