"""Proof packs: made the same each time, and every way of harming one is seen, digests redone or not."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.bundle.layout import gzip_bytes, tar_bytes
from harness.bundle.problem import Problem
from harness.bundle.proof_files import tar_of
from harness.bundle.proof_pack import PackVerification, verify_pack
from harness.bundle.reader import read_archive
from harness.contracts import companion
from harness.contracts.canonical import load_json
from harness.contracts.converter import parse
from harness.contracts.proof_pack import (
    CHECKSUMS,
    GATES,
    MANIFEST,
    GateStatus,
    PathTree,
    ProofPack,
    pack_bytes,
)
from harness.errors import InputError
from harness.gates.proof_pack import pack_gates, write_pack
from tests.unit.bundle.gate_sessions import (
    FIXTURE,
    HIDDEN,
    OTHER_TREE,
    SAFE,
    TREE,
    TREES,
    Files,
    log,
    redo,
    run_archive,
    session,
    source,
    with_manifest,
    write_summary,
)

Change = Callable[[Files], object]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return pack_gates(session(tmp_path_factory.mktemp("gates")))


def path_of(gate: str, number: int, name: str = "") -> str:
    return f"{GATES}{gate}/run-{number}/{name or f'runner-{gate}.tar.gz'}"


def verified(files: Files, place: Path, trees: dict[str, str] | None = None) -> PackVerification:
    place = place / "pack.tar"
    place.write_bytes(tar_of(files))
    return verify_pack(place, trees)


def claims(files: Files) -> Any:
    return load_json(files[MANIFEST], MANIFEST)


def gate(files: Files, name: str = SAFE) -> Any:
    return next(one for one in claims(files)["gates"] if one["gate"] == name)


def test_a_pack_proves_three_runs_of_each_gate(pack: Files, tmp_path: Path) -> None:
    found = verified(pack, tmp_path, TREES)
    assert found.problems == ()
    assert found.gates == ((SAFE, GateStatus.PASSED), (HIDDEN, GateStatus.PASSED))
    told = gate(pack)
    assert (told["runs"], len(told["archives"]), len(told["selected_json"])) == (3, 3, 12)
    assert told["pass_lines"] == log(SAFE).splitlines()
    assert len(told["normalized_evidence"]) == 10
    assert "notes" not in told
    assert claims(pack)["inputs"] == {"build_ebpf": True, "gates": f"{SAFE},{HIDDEN}"}
    assert claims(pack)["pack_size_bytes"] == sum(map(len, pack.values()))


def test_the_manifest_is_spelt_as_the_contract_has_it(pack: Files) -> None:
    assert pack[MANIFEST] == pack_bytes(parse(ProofPack, claims(pack)))
    assert pack[MANIFEST].startswith(b'{\n  "build_provenance": {\n')
    assert pack[CHECKSUMS].splitlines()[0].endswith(b"  manifest.json")


def test_the_same_gates_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (pack_gates(session(tmp_path / name)) for name in ("a", "b"))
    assert tar_of(first) == tar_of(second)


def test_folder_and_file_are_the_same_pack(pack: Files, tmp_path: Path) -> None:
    write_pack(pack, tmp_path / "folder")
    write_pack(pack, tmp_path / "file.tar")
    assert verify_pack(tmp_path / "folder").ok
    assert verify_pack(tmp_path / "file.tar").ok
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file.tar"}
    for name in ("folder", "file.tar", "none/there"):
        with pytest.raises(InputError):
            write_pack(pack, tmp_path / name)


def drop_run(files: Files) -> None:
    for path in [path for path in files if path.startswith(f"{GATES}{SAFE}/run-3/")]:
        del files[path]


def swap_gates(files: Files) -> None:
    for name in ("", *(path.rpartition("/")[2] for path in files if f"{SAFE}/run-1/" in path)):
        if not name.startswith("runner-"):
            one, other = path_of(SAFE, 1, name), path_of(HIDDEN, 1, name)
            files[one], files[other] = files[other], files[one]


def swap_runs(files: Files) -> None:
    one, other = path_of(SAFE, 1), path_of(SAFE, 2)
    files[one], files[other] = files[other], files[one]


def repeat_run(files: Files) -> None:
    for name in ("", "manifest.json"):
        files[path_of(SAFE, 2, name)] = files[path_of(SAFE, 1, name)]


def edit_log(files: Files) -> None:
    files[f"{GATES}{SAFE}/gate.log"] = log(SAFE).replace("PASS", "FAIL", 1).encode()


def cut_log(files: Files) -> None:
    files[f"{GATES}{SAFE}/gate.log"] = log(SAFE).partition("\n")[2].encode()


def harm_archive(files: Files) -> None:
    data = bytearray(files[path_of(SAFE, 2)])
    data[len(data) // 2] ^= 1
    files[path_of(SAFE, 2)] = bytes(data)


def edit_selected(files: Files) -> None:
    files[path_of(SAFE, 1, "capability-surface.json")] += b" "


def add_file(files: Files) -> None:
    files["payload/gates/another-gate/gate.log"] = b""


def drop_log(files: Files) -> None:
    del files[f"{GATES}{SAFE}/gate.log"]


def fail_summary(files: Files) -> None:
    summary = f"{GATES}summary.json"
    files[summary] = files[summary].replace(b'"failures":[]', b'"failures":["no"]', 1)


def other_source(files: Files) -> None:
    place = f"{GATES}{SAFE}/source.json"
    files[place] = files[place].replace(TREE.encode(), OTHER_TREE.encode())


def edit_ebpf(files: Files) -> None:
    files["payload/build/assay-ebpf.provenance.json"] += b" "


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (drop_run, "ProofRunMissing"),
        (swap_gates, "ProofWrongRun"),
        (swap_runs, "ProofSelectedJson"),
        (repeat_run, "ProofRunRepeated"),
        (edit_log, "ProofPassLine"),
        (cut_log, "ProofPassLine"),
        (harm_archive, "IntegrityGzip"),
        (edit_selected, "ProofSelectedJson"),
        (add_file, "ContractUnexpectedFile"),
        (drop_log, "ContractMissingFile"),
        (fail_summary, "ProofRunFailed"),
        (other_source, "ProofSourceMixed"),
        (edit_ebpf, "ProofManifestMismatch"),
    ],
)
def test_no_harm_goes_unseen(pack: Files, tmp_path: Path, change: Change, code: str) -> None:
    files = dict(pack)
    change(files)
    naive = {problem.code for problem in verified(files, tmp_path).problems}
    assert "ProofChecksumMismatch" in naive
    assert naive & {"IntegrityManifestHash", "ContractMissingFile", "ContractUnexpectedFile"}
    thorough = verified(redo(files), tmp_path).problems
    assert "ProofChecksumMismatch" not in {problem.code for problem in thorough}
    assert code in {problem.code for problem in thorough}, thorough
    assert all(problem.member and problem.actual for problem in thorough)


def edit_pass_line(claimed: Any) -> None:
    claimed["gates"][0]["pass_lines"][0] += " (twice)"


def edit_evidence(claimed: Any) -> None:
    claimed["gates"][0]["normalized_evidence"]["layers/policy.ndjson"] = "sha256:" + "0" * 64


def edit_size(claimed: Any) -> None:
    claimed["proof_pack"]["subjects"][3]["bytes"] += 1


def edit_digest(claimed: Any) -> None:
    claimed["proof_pack"]["subjects"][3]["sha256"] = "sha256:" + "0" * 64


def edit_role(claimed: Any) -> None:
    claimed["gates"][0]["archives"][0]["identity"] = "sha256:" + "0" * 64


def edit_tree(claimed: Any) -> None:
    claimed["content_provenance"]["path_trees"]["bpf/capture.c"]["oid"] = OTHER_TREE


def edit_time(claimed: Any) -> None:
    claimed["created_at"] = "2030-01-01T00:00:00Z"


def drop_gate(claimed: Any) -> None:
    del claimed["gates"][1]


def claim_all(claimed: Any) -> None:
    claimed["inputs"]["gates"] = "all"
    del claimed["gates"][1]


@pytest.mark.parametrize(
    ("change", "code", "place"),
    [
        (edit_pass_line, "ProofManifestMismatch", "/gates/0/pass_lines/0"),
        (edit_evidence, "ProofManifestMismatch", "/gates/0/normalized_evidence/layers~1policy.ndjson"),
        (edit_size, "IntegrityFileSizeMismatch", "/proof_pack/subjects/3/bytes"),
        (edit_digest, "IntegrityManifestHash", "/proof_pack/subjects/3/sha256"),
        (edit_role, "ProofManifestMismatch", "/gates/0/archives/0/identity"),
        (edit_tree, "ProofManifestMismatch", "/content_provenance/path_trees/bpf~1capture.c/oid"),
        (edit_time, "ProofManifestMismatch", "/created_at"),
        (drop_gate, "ProofGateMissing", "/gates"),
        (claim_all, "ProofGateMissing", "/gates"),
    ],
)
def test_no_claim_goes_unchecked(
    pack: Files, tmp_path: Path, change: Callable[[Any], None], code: str, place: str
) -> None:
    claimed = claims(pack)
    change(claimed)
    payload = {path: data for path, data in pack.items() if path.startswith("payload/")}
    found = verified(with_manifest(payload, claimed), tmp_path)
    problem = next(one for one in found.problems if (one.code, one.place) == (code, place))
    assert problem.expected != problem.actual


def test_sizes_and_checksums_are_looked_at(pack: Files, tmp_path: Path) -> None:
    files = dict(pack)
    files[CHECKSUMS] = files[CHECKSUMS].replace(b"a", b"b", 1)
    (problem,) = verified(files, tmp_path).problems
    assert (problem.code, problem.member) == ("ProofChecksumMismatch", CHECKSUMS)
    claimed = claims(pack)
    claimed["pack_size_bytes"] += 1
    files = {**pack, MANIFEST: pack_bytes(parse(ProofPack, claimed))}
    assert "/pack_size_bytes" in {problem.place for problem in verified(files, tmp_path).problems}
    for name in (CHECKSUMS, MANIFEST):
        files = {path: data for path, data in pack.items() if path != name}
        assert [one.code for one in verified(files, tmp_path).problems] in (
            ["ContractMissingFile"],
            ["ContractMissingManifest"],
        )


def test_trees_of_another_commit_are_not_those_that_ran(pack: Files, tmp_path: Path) -> None:
    other = {**TREES, "bpf/capture.c": "d" * 40}
    (problem,) = verified(pack, tmp_path, other).problems
    assert problem == Problem(
        "ProofTreeMismatch", MANIFEST, "/content_provenance/path_trees/bpf~1capture.c", "d" * 40, TREE
    )
    more = {**TREES, "harness/new.py": TREE}
    assert [one.actual for one in verified(pack, tmp_path, more).problems] == ["none"]
    assert not verified(pack, tmp_path, {"enter": TREE}).ok


@pytest.mark.parametrize("runs", [1, 2])
def test_fewer_than_three_runs_are_incomplete(tmp_path: Path, runs: int) -> None:
    files = pack_gates(session(tmp_path / "gates", (SAFE,), runs))
    assert gate(files)["status"] == "incomplete"
    assert any(note.startswith("ProofRunMissing ") for note in gate(files)["notes"])
    found = verified(files, tmp_path)
    assert found.ok
    assert not found.passed
    forged = claims(files)
    forged["gates"][0] |= {"status": "passed", "runs": 3}
    del forged["gates"][0]["notes"]
    payload = {path: data for path, data in files.items() if path.startswith("payload/")}
    assert "ProofRunMissing" in {
        one.code for one in verified(with_manifest(payload, forged), tmp_path).problems
    }


def test_what_was_asked_for_and_is_not_there_is_missing(tmp_path: Path) -> None:
    files = pack_gates(session(tmp_path / "gates", (SAFE,)), (SAFE, HIDDEN))
    assert gate(files, HIDDEN)["status"] == "missing"
    found = verified(files, tmp_path)
    assert found.ok
    assert not found.passed


def test_a_skip_or_a_failure_is_no_pass(tmp_path: Path) -> None:
    folder = session(tmp_path / "gates", (SAFE,))
    (folder / SAFE / "gate.log").write_text("SKIP: no kernel\n" + log(SAFE))
    assert gate(pack_gates(folder))["status"] == "skipped"
    (folder / SAFE / "gate.log").write_text("FAIL: runner-spike\n" + log(SAFE))
    assert gate(pack_gates(folder))["status"] == "failed"
    session(folder, (SAFE,))
    write_summary(folder, (SAFE,), divergences=("run 1 and run 2 differ",))
    assert gate(pack_gates(folder))["status"] == "failed"


def test_runs_that_differ_in_a_compared_member_are_no_pass(tmp_path: Path) -> None:
    folder = session(tmp_path / "gates", (SAFE,))
    archive = folder / SAFE / "run-2" / f"runner-{SAFE}.tar.gz"
    run_archive(archive, SAFE, 2, less=b"/proc/meminfo")
    told = gate(pack_gates(folder))
    assert told["status"] == "failed"
    assert [note for note in told["notes"] if note.startswith("ProofRunDiffers ")]
    assert companion.SURFACE not in told["normalized_evidence"]


def test_a_broken_archive_is_packed_and_told_of_in_the_same_bytes(tmp_path: Path) -> None:
    folder = session(tmp_path / "gates", (SAFE,))
    archive = folder / SAFE / "run-1" / f"runner-{SAFE}.tar.gz"
    members = {**read_archive(archive).members, "manifest.json": b'{"schema":"another"}'}
    archive.write_bytes(gzip_bytes(tar_bytes(members.items())))
    files = pack_gates(folder)
    assert tar_of(files) == tar_of(pack_gates(folder))
    told = gate(files)
    assert told["status"] == "failed"
    assert told["archives"][0]["identity"] is None
    assert any(
        note.startswith(f"ContractSchemaVersion {path_of(SAFE, 1)}: manifest.json") for note in told["notes"]
    )
    found = verified(files, tmp_path)
    assert found.ok
    assert not found.passed


def test_an_archive_of_another_fixture_is_no_run_of_this_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = session(tmp_path / "gates", (SAFE,))
    monkeypatch.setitem(FIXTURE, SAFE, "another")
    run_archive(folder / SAFE / "run-3" / f"runner-{SAFE}.tar.gz", SAFE, 3)
    told = gate(pack_gates(folder))
    assert told["status"] == "failed"
    assert any("/fixture: expected 'openai-agents', found 'another'" in note for note in told["notes"])


def test_gates_of_two_states_make_no_pack(tmp_path: Path) -> None:
    folder = session(tmp_path / "gates")
    changed = source(path_trees={"bpf/capture.c": PathTree(error="uncommitted changes")})
    (folder / HIDDEN / "source.json").write_bytes(pack_bytes(changed))
    with pytest.raises(InputError, match="ran from another state"):
        pack_gates(folder)


def test_what_is_no_session_makes_no_pack(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"summary\.json is missing"):
        pack_gates(tmp_path)
    (tmp_path / "summary.json").write_bytes(b"[]")
    with pytest.raises(InputError, match="is no gate summary"):
        pack_gates(tmp_path)
    folder = session(tmp_path / "gates")
    for name in ("../gates", "a,b", ".."):
        with pytest.raises(InputError, match="no gate's name"):
            pack_gates(folder, (name,))


def tarred(*entries: tuple[str, bytes]) -> bytes:
    return b"".join(tar_of({name: data})[:-1024] for name, data in entries) + bytes(1024)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (tarred(("/etc/passwd", b"")), "SecurityAbsolutePath"),
        (tarred(("payload/../../x", b"")), "SecurityPathTraversal"),
        (tarred(("payload//x", b"")), "ContractUnexpectedFile"),
        (tarred(("payload/.hidden", b"")), "ContractUnexpectedFile"),
        (tarred(("attestation", b"")), "ContractUnexpectedFile"),
        (tarred(("payload/" + "a/" * 8 + "b", b"")), "ContractUnexpectedFile"),
        (tarred(("payload/a", b""), ("payload/a", b"")), "ContractDuplicateFile"),
        (tarred(("payload/b", b""), ("payload/a", b"")), "ContractFileOrder"),
        (tarred(("payload/a", b"x"))[:-1], "IntegrityTar"),
        (tarred(("payload/a", b"x")) + b"\0", "IntegrityTar"),
        (tarred(("payload/a", b"x"))[:700], "IntegrityTar"),
        (tarred(("payload/a", b"x")).replace(b"0000644", b"0000755", 1), "IntegrityTar"),
        (tarred(("payload/a", b"x")).replace(b"x\0", b"xy", 1), "IntegrityTar"),
        (tarred(("payload/a", b"")), "ContractMissingManifest"),
        (tarred(("manifest.json", b"{}")), "ContractSchemaVersion"),
        (tarred(("manifest.json", b"[")), "ContractInvalidJson"),
        (b"", "IntegrityTar"),
        (b"PK\3\4" * 400, "IntegrityTar"),
    ],
)
def test_a_stranger_s_tar_is_bounded_and_named(tmp_path: Path, data: bytes, code: str) -> None:
    place = tmp_path / "pack.tar"
    place.write_bytes(data)
    assert [problem.code for problem in verify_pack(place).problems] == [code]


def link(place: Path) -> None:
    (place / "payload" / "x").symlink_to("/etc/passwd")


def link_folder(place: Path) -> None:
    (place / "payload" / "x").symlink_to("/etc")


def fifo(place: Path) -> None:
    os.mkfifo(place / "payload" / "x")


def hidden(place: Path) -> None:
    (place / ".x").write_bytes(b"")


def empty_folder_outside(place: Path) -> None:
    (place / "more").mkdir()


@pytest.mark.parametrize("change", [link, link_folder, fifo, hidden, empty_folder_outside])
def test_a_stranger_s_folder_holds_only_files_of_a_pack(
    pack: Files, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    place = tmp_path / "pack"
    write_pack(pack, place)
    change(place)
    assert [problem.code for problem in verify_pack(place).problems] == ["ContractUnexpectedFile"]


def test_no_pack_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such proof pack"):
        verify_pack(tmp_path / "none.tar")
