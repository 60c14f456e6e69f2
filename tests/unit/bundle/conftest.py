"""A real S5 run, whole, and what a forger makes of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from harness.bundle.layout import MEMBER_ORDER, gzip_bytes, tar_bytes
from harness.bundle.reader import read_archive
from harness.contracts import companion, manifest
from harness.contracts.canonical import load_json
from harness.contracts.companion import AccountingV1
from harness.contracts.converter import parse
from tests.unit.bundle.derive import Members, derive, document, remake_manifests, tell_policy

__all__ = ["Forge", "Members", "derive", "document", "remake_manifests"]

DIFFS = Path(__file__).parents[2] / "golden" / "diff"
S5 = DIFFS / "s5.tar.gz"  # of before the proxy's events were kept
RUN_ID = "run_openai_agents_kernel_policy_determinism"

Forge = Callable[[Members], Path]


def v0_members() -> Members:
    found = read_archive(S5).members
    return {name: found[name] for name in manifest.V0_MEMBERS[1:]}


def whole_members() -> Members:
    """The same run with all that a writer of now gives."""
    found = dict(read_archive(S5).members)
    tell_policy(found)
    made = remake_manifests(found)
    return {name: made[name] for name in MEMBER_ORDER}


def companion_members() -> Members:
    found = whole_members()
    return {name: found[name] for name in companion.COMPANION_SCHEMAS}


def accounting(**changes: object) -> AccountingV1:
    books = parse(AccountingV1, load_json(whole_members()[companion.ACCOUNTING], "books"))
    return evolve(books, **changes)  # type: ignore[arg-type]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "run.tar.gz"
    path.write_bytes(gzip_bytes(tar_bytes(whole_members().items())))
    return path


@pytest.fixture
def members(archive: Path) -> Members:
    return dict(read_archive(archive).members)


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    """Write members, in the order given, with whatever they hold, as a well-formed tar.gz."""

    def write(members: Members) -> Path:
        path = tmp_path / "forged.tar.gz"
        path.write_bytes(gzip_bytes(tar_bytes(members.items())))
        return path

    return write
