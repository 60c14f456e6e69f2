"""Rules that several contracts share: run ids, digests, ordered sets (contracts §1.3, §1.4, §2)."""

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import lt
from typing import Annotated

from harness.contracts.converter import ContractError, Rule

_RUN_ID = re.compile(r"[A-Za-z0-9_-]+")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class RuleError(ContractError):
    """A model breaks a rule that has a name of its own: `identity`, as the contract calls it."""

    def __init__(self, identity: str, pointer: str, message: str) -> None:
        super().__init__(pointer, f"{identity}: {message}")
        self.identity = identity


def is_run_id(text: str) -> bool:
    return _RUN_ID.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def sorted_unique(values: Iterable[str]) -> tuple[str, ...]:
    """A set-like array: each value once, sorted by its UTF-8 bytes.

    Code points order as their UTF-8 bytes do (RFC 3629 §1), so no value needs to be encoded.
    """
    return tuple(sorted(dict.fromkeys(values)))  # unlike a set it keeps what is already in order


def is_sorted_unique(values: Sequence[str]) -> bool:
    return all(map(lt, values, islice(values, 1, None)))


RunId = Annotated[str, Rule("must be ASCII letters, digits, '_' and '-'", is_run_id)]
Digest = Annotated[str, Rule("must be sha256: and 64 lowercase hex digits", is_digest)]
OrderedSet = Annotated[
    tuple[str, ...],
    Rule("must be sorted by UTF-8 bytes, each value once", is_sorted_unique),
]
