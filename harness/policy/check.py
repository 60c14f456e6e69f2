"""Check a policy file before a run, with the code that the proxy will use on it."""

from pathlib import Path

from harness.errors import InputError
from harness.policy.rules import PolicyError, load_policy


def check_policy(path: Path) -> None:
    """Raise InputError, with place and remedy, if the proxy would refuse the file."""
    try:
        load_policy(path)
    except PolicyError as error:
        place = f"{path}: {error.place}" if error.place else str(path)
        raise InputError(error.message, place=place, hint=error.hint) from None
    except OSError as error:
        hint = "see docs/guide/policy.md for an example"
        raise InputError(f"cannot read the policy: {error.strerror}", place=str(path), hint=hint) from None
