"""What is no archive, or not the one its manifest promises, is refused with place and remedy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.compare.capability import capability_diff
from harness.compare.cross_runtime import runtime_side
from harness.compare.drift import load_arm
from harness.compare.side import load_side
from harness.contracts.capability_diff import DiffStatus
from harness.errors import AssayError, InputError, VerificationError
from tests.unit.compare.conftest import S5, Extract

SURFACE = "capability-surface.json"
HEALTH = "observation-health.json"
Members = dict[str, bytes]


def _replace(member: str, old: bytes, new: bytes) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        assert old in members[member]
        members[member] = members[member].replace(old, new)

    return change


def _set(member: str, data: bytes) -> Callable[[Members], None]:
    return lambda members: members.update({member: data})


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [
        (_set(SURFACE, b'{"schema":"assay.runner.capab'), "ContractInvalidJson", SURFACE),
        (_set(SURFACE, b"\xff{}"), "ContractInvalidJson", SURFACE),
        (_set(SURFACE, b"[" * 100_000), "LimitJsonDepth", SURFACE),
        (_set(SURFACE, b'{"a":' * 70 + b"1" + b"}" * 70), "LimitJsonDepth", SURFACE),
        (_set(SURFACE, b"[]"), "ContractInvalidJson", SURFACE),
        (_set(SURFACE, b'{"schema":"x","schema":"x"}'), "ContractInvalidJson", SURFACE),
        (_replace(SURFACE, b"surface.v0", b"surface.v7"), "ContractSchemaVersion", f"{SURFACE} at /schema"),
        (_replace(SURFACE, b'"run_id"', b'"run"'), "ContractInvalidJson", f"{SURFACE} at /run_id"),
        (
            _replace(SURFACE, b'["read_file"]', b'"read_file"'),
            "ContractInvalidJson",
            f"{SURFACE} at /mcp_tools",
        ),
        (
            _replace(SURFACE, b'["read_file"]', b'["z","a"]'),
            "ContractInvalidJson",
            f"{SURFACE} at /mcp_tools",
        ),
        (
            _replace(SURFACE, b'"mcp_tools"', b'"new":1,"mcp_tools"'),
            "ContractInvalidJson",
            f"{SURFACE} at /new",
        ),
        (
            _replace(HEALTH, b'"run_id":"run_', b'"run_id":"other_'),
            "ContractRunIdMismatch",
            f"{HEALTH} at /run_id",
        ),
        (lambda members: members.pop(HEALTH), "ContractMissingFile", ""),
        (lambda members: members.pop("manifest.json"), "ContractMissingManifest", ""),
    ],
)
def test_a_bad_member_is_exit_4_with_its_place(
    change: Callable[[Members], None], code: str, where: str, extract: Extract
) -> None:
    folder = extract(S5, change, forge=code != "ContractMissingManifest")
    with pytest.raises(VerificationError) as caught:
        load_side(folder)
    assert caught.value.code == code
    assert caught.value.place.startswith(str(folder))
    assert where in caught.value.place
    assert caught.value.hint
    assert caught.value.exit_code == 4


def test_a_newer_schema_is_refused_by_its_name(extract: Extract) -> None:
    with pytest.raises(VerificationError, match=r"assay\.runner\.capability_surface\.v7"):
        load_side(extract(S5, _replace(SURFACE, b"surface.v0", b"surface.v7")))


def test_a_member_that_its_manifest_does_not_bind_is_refused(extract: Extract) -> None:
    folder = extract(S5, _replace(SURFACE, b"policy-input", b"police-input"), forge=False)
    with pytest.raises(VerificationError) as caught:
        load_side(folder)
    assert caught.value.code == "IntegrityManifestHash"
    assert SURFACE in caught.value.place


def test_a_bad_line_of_a_layer_is_named_by_its_number(extract: Extract) -> None:
    folder = extract(S5, _replace("layers/sdk.ndjson", b'"seq":1,', b'"seq":-1,'))
    with pytest.raises(VerificationError) as caught:
        load_arm(folder)
    assert caught.value.place == f"{folder}: layers/sdk.ndjson line 2 at /seq"
    cut = extract(S5, lambda members: members.update({"layers/sdk.ndjson": b"{}"}))
    with pytest.raises(VerificationError, match="does not end with a newline"):
        load_arm(cut)


def test_a_companion_of_another_archive_is_refused(extract: Extract) -> None:
    def change(members: Members) -> None:
        members["manifest.json"] += b" "

    with pytest.raises(VerificationError) as caught:
        runtime_side(extract(S5, change, forge=False))
    assert caught.value.code == "IntegrityManifestHash"
    assert "companion/manifest.json" in caught.value.place


def test_nothing_there_is_exit_2(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_side(tmp_path / "no.tar.gz")
    assert caught.value.exit_code == 2


def test_no_cut_of_an_archive_is_read_as_something_else(tmp_path: Path) -> None:
    data = S5.read_bytes()
    for end in range(0, len(data), 97):
        path = tmp_path / "cut.tar.gz"
        path.write_bytes(data[:end])
        with pytest.raises(AssayError) as caught:
            load_side(path)
        assert caught.value.exit_code == 4


def test_health_that_breaks_its_own_rules_is_read_and_fails_the_diff(extract: Extract) -> None:
    failed = _replace(HEALTH, b'"cgroup_correlation":"clean"', b'"cgroup_correlation":"failed"')
    side = load_side(extract(S5, failed))
    assert capability_diff(load_side(S5), side).status is DiffStatus.FAILED
