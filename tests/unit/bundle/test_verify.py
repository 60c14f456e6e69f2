"""A changed archive is caught, also when its manifests were made to fit."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, fields
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bundle.layout import gzip_bytes
from harness.bundle.meaning import RULES
from harness.bundle.reader import read_archive
from harness.bundle.verify import CHECKS, Verification, check, verify
from harness.bundle.writer import write_archive
from harness.contracts import companion, manifest
from harness.contracts.canonical import load_json, load_ndjson, ndjson, sha256_of, to_bytes
from harness.contracts.converter import parse
from harness.contracts.correlation import SEVERAL_POLICY_EVENTS
from harness.contracts.health import EndpointScope, NetworkCoverage, ObservationHealth
from harness.errors import InputError, VerificationError
from tests.unit.bundle.conftest import (
    RUN_ID,
    S5,
    Forge,
    Members,
    accounting,
    companion_members,
    derive,
    document,
    remake_manifests,
    v0_members,
)

PER_TEST = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def codes(result: Verification) -> set[str]:
    return {problem.code for problem in result.problems}


def test_a_good_archive_holds(archive: Path) -> None:
    result = verify(archive)
    assert result.problems == ()
    assert result.ok
    assert result.checks == CHECKS
    assert (result.not_reached, result.unchecked, result.more) == ((), (), False)
    assert result.run_id == RUN_ID
    assert result.identity == sha256_of(read_archive(archive).members[manifest.MANIFEST])
    assert check(archive).run_id == RUN_ID


def test_an_archive_of_eight_members_holds(tmp_path: Path) -> None:
    path = tmp_path / "run.tar.gz"
    write_archive(path, v0_members(), {}, RUN_ID)
    result = verify(path)
    assert result.problems == ()
    assert {rule.rule for rule in result.unchecked} == {
        rule.name for rule in RULES if rule.missing is not RULES[0].missing
    } - {"network_coverage", "redaction"}
    assert all(rule.text and rule.why for rule in result.unchecked)


def test_nothing_to_verify_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        verify(tmp_path / "none")


def caught_or_same(path: Path, members: Members) -> None:
    result = verify(path)
    assert not result.ok or read_archive(path).members == members


def test_every_flipped_byte_of_the_file_is_caught(archive: Path, members: Members, tmp_path: Path) -> None:
    data = archive.read_bytes()
    path = tmp_path / "flipped.tar.gz"
    for offset in range(len(data)):
        changed = bytearray(data)
        changed[offset] ^= 1 << (offset % 8)
        path.write_bytes(changed)
        caught_or_same(path, members)


@PER_TEST
@given(st.data())
def test_flipped_bytes_inside_the_tar_are_caught(
    archive: Path, members: Members, tmp_path: Path, data: st.DataObject
) -> None:
    payload = bytearray(zlib.decompress(archive.read_bytes(), wbits=31))
    offset = data.draw(st.integers(0, len(payload) - 1))
    payload[offset] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "flipped.tar.gz"
    path.write_bytes(gzip_bytes(bytes(payload)))
    assert not verify(path).ok


@PER_TEST
@given(st.data())
def test_a_member_changed_under_its_manifest_is_caught(
    members: Members, forge: Forge, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([name for name in members if name != manifest.MANIFEST]))
    content = data.draw(st.binary(max_size=50) | st.just(members[name] + b"\n") | st.just(members[name][:-1]))
    if content != members[name]:
        found = verify(forge(members | {name: content}))
        caught = {"IntegrityManifestHash", "IntegrityFileSizeMismatch"}
        if name == manifest.COMPANION_MANIFEST:
            caught |= {"ContractInvalidJson", "ContractSchemaVersion"}
        assert codes(found) & caught


@pytest.mark.breaks(
    "verify:ContractUnexpectedFile",
    "verify:ContractFileOrder",
    "verify:IntegrityFileSizeMismatch",
    "verify:IntegrityManifestHash",
)
def test_the_manifest_is_complete_and_right(members: Members, forge: Forge) -> None:
    def with_manifest(change: Callable[[dict[str, Any]], object]) -> set[str]:
        head = load_json(members[manifest.MANIFEST], "x")
        change(head)
        return codes(verify(forge(members | {manifest.MANIFEST: to_bytes(head)}))) - {"ContractInvalidJson"}

    entry = {"path": "x", "sha256": sha256_of(b""), "bytes": 0}
    assert with_manifest(lambda head: head["files"].clear()) == {"ContractUnexpectedFile"}
    assert with_manifest(lambda head: head["files"].pop(manifest.SDK)) == {"ContractUnexpectedFile"}
    assert with_manifest(lambda head: head["files"].update(x=entry)) == {"ContractMissingFile"}
    assert with_manifest(lambda head: head["files"][manifest.SDK].update(bytes=1)) == {
        "IntegrityFileSizeMismatch"
    }
    assert with_manifest(lambda head: head["files"][manifest.SDK].update(sha256=sha256_of(b""))) == {
        "IntegrityManifestHash"
    }
    # The companion is bound to the manifest, and each member says its run.
    assert with_manifest(lambda head: head.update(run_id="other")) == {"IntegrityManifestHash"}
    assert with_manifest(lambda head: head.update(files=dict(reversed(head["files"].items())))) == {
        "ContractFileOrder"
    }
    for old, new in ((b":", b": "), (b'"path":"events.ndjson"', b'"path":"events.ndjsox"')):
        data = members[manifest.MANIFEST].replace(old, new, 1)
        assert codes(verify(forge(members | {manifest.MANIFEST: data}))) == {"ContractInvalidJson"}
    v0 = {name: members[name] for name in manifest.V0_MEMBERS}
    head = load_json(members[manifest.MANIFEST], "x") | {"run_id": "other"}
    assert codes(verify(forge(v0 | {manifest.MANIFEST: to_bytes(head)}))) == {"ContractRunIdMismatch"}


def test_the_companion_is_complete_and_bound(members: Members, forge: Forge) -> None:
    for name in companion.COMPANION_SCHEMAS:
        rest = {key: data for key, data in members.items() if key != name}
        assert codes(verify(forge(rest))) == {"ContractMissingFile"}
    without = {key: data for key, data in members.items() if key != companion.POLICY}
    assert codes(verify(forge(remake_manifests(without)))) == {"ContractPolicyMismatch"}
    rest = {key: data for key, data in members.items() if key != manifest.COMPANION_MANIFEST}
    assert codes(verify(forge(rest))) == {"ContractMissingManifest"}
    only = {key: data for key, data in members.items() if key in manifest.V0_MEMBERS}
    assert codes(verify(forge(only | {companion.ACCOUNTING: members[companion.ACCOUNTING]}))) == {
        "ContractMissingManifest"
    }


def test_an_archive_of_before_the_proxys_events_were_kept_holds() -> None:
    result = verify(S5)
    assert result.problems == ()
    assert "policy_events" in [rule.rule for rule in result.unchecked]


POLICY_FORGERIES: list[Callable[[list[dict[str, Any]]], object]] = [
    lambda lines: lines.pop(),
    lambda lines: lines[0].update(decision="deny"),
    lambda lines: lines[0].update(name=lines[0]["name"] + " "),
    lambda lines: lines[0].update(tool_call_id=" " + lines[0]["tool_call_id"]),
    lambda lines: lines[0].pop("tool_call_id"),
    lambda lines: lines[0].update(paths=["/elsewhere"]),
    lambda lines: lines[0].update(paths=[]),
    lambda lines: lines[0].update(event="refused"),
    lambda lines: lines[0].update(event="forgiven"),
    lambda lines: lines[0].pop("rule"),
    lambda lines: lines.append(refused(1, count=5)),
    lambda lines: lines.extend(refused(1) for _ in range(101)),
    lambda lines: lines.extend([*(refused(1) for _ in range(100)), refused(1, count=1), refused(1, count=1)]),
    lambda lines: lines.extend([refused(2), refused(1)]),
    lambda lines: lines.append(refused(0) | {"event": "limited", "reason": "too_many_refusals"}),
    lambda lines: lines.append(refused(1) | {"event": "killed", "request_id": 1}),
]


def refused(connection: int, **more: object) -> dict[str, Any]:
    return {
        "schema": "assay.runner.policy_event.v1", "run_id": RUN_ID, "seq": 0, "connection": connection,
        "event": "refused", "method": "resources/read", "reason": "method_not_permitted", **more,
    }  # fmt: skip


def with_policy_lines(members: Members, lines: list[dict[str, Any]]) -> Members:
    keys = [field.name for field in fields(companion.PolicyEventV1)]
    made = [
        {key: (line | {"seq": seq})[key] for key in keys if key in line} for seq, line in enumerate(lines)
    ]
    books = load_json(members[companion.ACCOUNTING], "books") | {"policy_events": len(made)}
    return remake_manifests(members | {companion.POLICY: ndjson(made), companion.ACCOUNTING: to_bytes(books)})


@pytest.mark.breaks("rule:policy_events")
@pytest.mark.parametrize("forgery", POLICY_FORGERIES)
def test_proxy_events_that_the_rest_denies_are_caught(
    members: Members, forge: Forge, forgery: Callable[[list[dict[str, Any]]], object]
) -> None:
    lines = load_ndjson(members[companion.POLICY], "policy")
    forgery(lines)
    assert codes(verify(forge(with_policy_lines(members, lines)))) == {"ContractPolicyMismatch"}


def test_refusals_are_told_one_by_one_and_then_counted(members: Members, forge: Forge) -> None:
    lines = load_ndjson(members[companion.POLICY], "policy")
    lines += [*(refused(1, request_id=number) for number in range(100)), refused(1, count=10**6), refused(2)]
    lines.append(refused(2) | {"event": "killed", "method": None, "reason": "response_too_long"})
    assert verify(forge(with_policy_lines(members, lines))).problems == ()


def test_a_companion_of_another_run_is_caught(members: Members, forge: Forge) -> None:
    later = members[manifest.EVENTS].replace(b'_ms":2276', b'_ms":2277')
    assert later != members[manifest.EVENTS]
    other = remake_manifests(members | {manifest.EVENTS: later})
    swapped = members | {name: other[name] for name in manifest.V0_MEMBERS}
    assert codes(verify(forge(other))) == set()
    assert codes(verify(forge(swapped))) == {"IntegrityManifestHash"}


def forged(forge: Forge, members: Members, member: str, data: bytes) -> Verification:
    return verify(forge(remake_manifests(members | {member: data})))


def edited(members: Members, member: str, **values: object) -> bytes:
    return to_bytes(load_json(members[member], member) | values)


FORGED_DOCUMENTS: tuple[tuple[str, dict[str, object], str], ...] = (
    (manifest.SURFACE, {"filesystem_paths": []}, "ContractSurfaceMismatch"),
    (manifest.SURFACE, {"network_endpoints": ["1.2.3.4:5"]}, "ContractSurfaceMismatch"),
    (manifest.SURFACE, {"policy_decisions": ["deny:read_file"]}, "ContractSurfaceMismatch"),
    (manifest.SURFACE, {"process_execs": ["b", "a"]}, "ContractInvalidJson"),
    (manifest.SURFACE, {"schema": "x"}, "ContractSchemaVersion"),
    (manifest.SURFACE, {"run_id": "other"}, "ContractRunIdMismatch"),
    (manifest.SURFACE, {"more": 1}, "ContractInvalidJson"),
    (manifest.CORRELATION, {"bindings": []}, "ContractCorrelationMismatch"),
    (manifest.CORRELATION, {"status": "partial"}, "ContractCorrelationMismatch"),
    (manifest.CORRELATION, {"ambiguities": ["x"]}, "ContractCorrelationMismatch"),
    (manifest.CORRELATION, {"run_id": "other"}, "ContractRunIdMismatch"),
    (manifest.HEALTH, {"run_id": "other"}, "ContractRunIdMismatch"),
    (manifest.HEALTH, {"ringbuf_drops": 1}, "ContractInvalidEvent"),
    (manifest.HEALTH, {"cgroup_correlation": "failed"}, "ContractInvalidEvent"),
    (manifest.HEALTH, {"platform": "macos"}, "ContractInvalidEvent"),
    (manifest.HEALTH, {"kernel_layer": "absent"}, "ContractHealthMismatch"),
    (manifest.HEALTH, {"cgroup_correlation": "partial"}, "ContractHealthMismatch"),
    (manifest.HEALTH, {"policy_layer": "absent"}, "ContractHealthMismatch"),
    (manifest.HEALTH, {"sdk_layer": "absent"}, "ContractHealthMismatch"),
    (manifest.HEALTH, {"sdk_layer": "present"}, "ContractHealthMismatch"),
    (manifest.HEALTH, {"notes": []}, "ContractHealthMismatch"),
    (companion.HOST, {"schema": "x"}, "ContractSchemaVersion"),
    (companion.HOST, {"run_id": "other"}, "ContractRunIdMismatch"),
    (companion.HOST, {"facts": {"kernel": 6}}, "ContractInvalidJson"),
    (companion.ACCOUNTING, {"idless_calls": 1}, "ContractCorrelationMismatch"),
    (companion.ACCOUNTING, {"clean": False}, "ContractAccountingMismatch"),
    (companion.ACCOUNTING, {"unclean": ["x"]}, "ContractAccountingMismatch"),
    (companion.ACCOUNTING, {"records": {"classes": {"a": 1}, "total": 2}}, "ContractAccountingMismatch"),
    (companion.ACCOUNTING, {"capture": None}, "ContractAccountingMismatch"),
)


@pytest.mark.parametrize(("member", "values", "code"), FORGED_DOCUMENTS)
def test_a_forged_document_with_fitting_manifests_is_caught(
    members: Members, forge: Forge, member: str, values: dict[str, object], code: str
) -> None:
    result = forged(forge, members, member, edited(members, member, **values))
    assert code in codes(result)
    place = next(problem for problem in result.problems if problem.code == code)
    assert place.where
    assert place.text


def test_each_note_must_fit_its_layer(members: Members, forge: Forge) -> None:
    notes = load_json(members[manifest.HEALTH], "x")["notes"]
    for old, new in (
        ("monitor_events=2", "monitor_events=3"),
        ("ringbuf_drops=0", "ringbuf_drops=4"),
        ("decision_events=1", "policy_events=1"),
        ("sdk_events=3", "sdk_events=2"),
        ("sdk_tool_calls=1", "sdk_tool_calls=2"),
    ):
        changed = [note.replace(old, new) for note in notes]
        assert changed != notes
        result = forged(forge, members, manifest.HEALTH, edited(members, manifest.HEALTH, notes=changed))
        assert codes(result) == {"ContractHealthMismatch"}
    contract_only = "contract_only_mode: kernel and cgroup capture not wired in this revision"
    ours = ("runner_accounting: unclean=x", "runner_accounting: other_losses=1")
    for added in (notes[0], contract_only, *ours):
        data = edited(members, manifest.HEALTH, notes=[*notes, added])
        assert "ContractHealthMismatch" in codes(forged(forge, members, manifest.HEALTH, data))


FORGED_LINES: tuple[tuple[str, Callable[[list[Any]], object], str], ...] = (
    (manifest.KERNEL, lambda lines: lines.pop(), "ContractSurfaceMismatch"),
    (manifest.KERNEL, lambda lines: lines.pop(), "ContractHealthMismatch"),
    (manifest.KERNEL, lambda lines: lines.pop(0), "ContractSequenceStart"),
    (manifest.KERNEL, lambda lines: lines[1].update(seq=5), "ContractSequenceGap"),
    (manifest.KERNEL, lambda lines: lines[1].update(value="/etc/shadow"), "ContractSurfaceMismatch"),
    (manifest.KERNEL, lambda lines: lines[0].update(kind="exec"), "ContractInvalidEvent"),
    (manifest.KERNEL, lambda lines: lines[0].update(status="error"), "ContractInvalidEvent"),
    (manifest.KERNEL, lambda lines: lines[0].update(run_id="other"), "ContractRunIdMismatch"),
    (manifest.KERNEL, lambda lines: lines[0].update(schema="x"), "ContractSchemaVersion"),
    (manifest.KERNEL, lambda lines: lines[0].update(more=1), "ContractInvalidJson"),
    (manifest.POLICY, lambda lines: lines.clear(), "ContractCorrelationMismatch"),
    (manifest.POLICY, lambda lines: lines[0].update(decision="deny"), "ContractSurfaceMismatch"),
    (manifest.POLICY, lambda lines: lines[0].update(tool_call_id="tc_2"), "ContractCorrelationMismatch"),
    (manifest.SDK, lambda lines: lines[0].update(tool_call_id="tc_2"), "ContractCorrelationMismatch"),
    (manifest.SDK, lambda lines: lines[0].update(tool=None), "ContractInvalidEvent"),
    (manifest.SDK, lambda lines: lines.reverse(), "ContractSequenceStart"),
    (manifest.EVENTS, lambda lines: lines.pop(), "ContractInvalidEvent"),
    (manifest.EVENTS, lambda lines: lines.reverse(), "ContractInvalidJson"),
    (manifest.EVENTS, lambda lines: lines[1].update(run_id="other"), "ContractRunIdMismatch"),
    (companion.KERNEL, lambda lines: lines[0].update(seq=1), "ContractSequenceStart"),
    (companion.KERNEL, lambda lines: lines[0].pop("path"), "ContractInvalidJson"),
)


@pytest.mark.parametrize(("member", "change", "code"), FORGED_LINES)
def test_forged_lines_with_fitting_manifests_are_caught(
    members: Members, forge: Forge, member: str, change: Callable[[list[Any]], object], code: str
) -> None:
    lines = load_ndjson(members[member], member)
    change(lines)
    assert code in codes(forged(forge, members, member, ndjson(lines)))


@pytest.mark.parametrize("member", [manifest.SURFACE, manifest.SDK, companion.ACCOUNTING, companion.KERNEL])
def test_only_canonical_bytes_are_accepted(members: Members, forge: Forge, member: str) -> None:
    spaced = members[member].replace(b":", b": ", 1)
    assert codes(forged(forge, members, member, spaced)) == {"ContractInvalidJson"}


def test_health_claims_no_more_than_the_books_bear(members: Members, forge: Forge) -> None:
    books = accounting()
    assert books.capture is not None
    lost = books.capture.kinds | {"open": evolve(books.capture.kinds["open"], dropped=1)}
    broken = tuple(
        evolve(one, right=one.right - 1, holds=False) if one.name == "received" else one
        for one in books.identities
    )
    lied = tuple(
        evolve(one, holds=not one.holds) if one.name == "received" else one for one in books.identities
    )
    for changed in (
        evolve(books, capture=evolve(books.capture, kinds=lost)),
        evolve(books, capture=evolve(books.capture, decode_errors=1)),
        evolve(books, identities=broken, clean=False, unclean=("identity_broken:received",)),
        evolve(books, identities=lied),
    ):
        result = forged(forge, members, companion.ACCOUNTING, document(changed))
        assert "ContractAccountingMismatch" in codes(result)
    honest = evolve(books, clean=False, unclean=("walk_fault",))
    result = forged(forge, members, companion.ACCOUNTING, document(honest))
    assert codes(result) == {"ContractHealthMismatch"}
    members[companion.ACCOUNTING] = document(honest)
    derive(members)
    assert verify(forge(remake_manifests(members))).problems == ()


@pytest.mark.breaks("rule:network_claims")
@pytest.mark.parametrize("scope", list(EndpointScope))
def test_a_claim_about_the_network_stands_in_the_note_too(
    members: Members, forge: Forge, scope: EndpointScope
) -> None:
    health = parse(ObservationHealth, load_json(members[manifest.HEALTH], "health"))
    claimed = evolve(
        health, network_protocol_coverage=NetworkCoverage.CONNECT_ONLY, network_endpoint_claim_scope=scope
    )
    assert codes(forged(forge, members, manifest.HEALTH, document(claimed))) == {"ContractHealthMismatch"}


@pytest.mark.breaks("verify:LimitJsonNodes")
def test_a_document_of_too_many_values_is_not_parsed(members: Members, forge: Forge) -> None:
    many = b"[" + b"0," * 2_000_000 + b"0]"
    data = members[companion.HOST].replace(b'"facts":{', b'"facts":{"x":' + many + b",", 1)
    assert data != members[companion.HOST]
    assert codes(forged(forge, members, companion.HOST, data)) == {"LimitJsonNodes"}


def test_check_raises_the_first_problem(members: Members, forge: Forge) -> None:
    data = edited(members, manifest.SURFACE, filesystem_paths=[])
    path = forge(remake_manifests(members | {manifest.SURFACE: data}))
    with pytest.raises(VerificationError) as caught:
        check(path)
    first = verify(path).problems[0]
    assert caught.value.code == first.code == "ContractSurfaceMismatch"
    assert caught.value.place == f"{path}: {manifest.SURFACE} /filesystem_paths"
    assert "'/workspace/" in caught.value.message


def test_a_damaged_archive_is_one_problem(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.tar.gz"
    path.write_bytes(archive.read_bytes()[:-3])
    result = verify(path)
    assert [problem.code for problem in result.problems] == ["IntegrityGzip"]
    assert result.checks == ("bounds",)
    assert result.not_reached == CHECKS[1:]
    assert not result.ok


def test_an_extracted_folder_with_a_newline_added_is_caught(members: Members, tmp_path: Path) -> None:
    folder = tmp_path / "x"
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    assert verify(folder).ok
    with (folder / manifest.HEALTH).open("ab") as stream:
        stream.write(b"\n")
    result = verify(folder)
    assert codes(result) == {"IntegrityFileSizeMismatch"}
    assert result.not_reached == CHECKS[3:]


def two_decisions(status: str, ambiguities: list[str], cgroup: int | None = None) -> Members:
    """The golden run with a second decision, as another generation of writers would put it."""
    members = v0_members()
    line = load_ndjson(members[manifest.POLICY], "x")[0]
    members[manifest.POLICY] = ndjson([line, line | {"seq": 1, "tool_call_id": "tc_2"}])
    report = load_json(members[manifest.CORRELATION], "x")
    binding = report["bindings"][0]
    if cgroup is not None:
        head = {key: binding[key] for key in ("tool_call_id", "policy_decision")}
        binding = head | {"cgroup_id": cgroup} | {k: v for k, v in binding.items() if k not in head}
    bindings = [binding, binding | {"tool_call_id": "tc_2"}]
    members[manifest.CORRELATION] = to_bytes(
        report | {"status": status, "bindings": bindings, "ambiguities": ambiguities}
    )
    health = members[manifest.HEALTH].replace(b"decision_events=1", b"decision_events=2")
    return members | {manifest.HEALTH: health}


def test_both_generations_of_the_reference_are_accepted_without_companion(tmp_path: Path) -> None:
    path = tmp_path / "run.tar.gz"
    for members in (
        two_decisions("partial", [SEVERAL_POLICY_EVENTS]),
        two_decisions("clean", []),
        two_decisions("clean", [], cgroup=77),
    ):
        write_archive(path, members, {}, RUN_ID)
        assert verify(path).problems == ()
    write_archive(path, two_decisions("clean", []), companion_members(), RUN_ID)
    assert "ContractCorrelationMismatch" in codes(verify(path))
    write_archive(path, two_decisions("partial", []), {}, RUN_ID)
    assert codes(verify(path)) == {"ContractCorrelationMismatch"}
