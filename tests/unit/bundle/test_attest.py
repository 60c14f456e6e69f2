"""An attestation says what the archive says, and nothing else passes for it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from harness.bundle.attest import MAX_ATTESTATIONS, check_attestation, read_bundle, statement_of
from harness.bundle.reader import Archive, read_archive
from harness.bundle.signing import Key, sign, verify_envelope
from harness.bundle.verify import check
from harness.bundle.writer import write_archive
from harness.cli import main
from harness.contracts import companion, manifest
from harness.contracts.attestation import MAX_BUNDLE, Statement
from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.converter import parse, unstructure
from harness.errors import VerificationError
from tests.unit.bundle.conftest import RUN_ID, accounting, companion_members, document, v0_members
from tests.unit.bundle.keys import Pair, new_pair

ROOT = Path(__file__).parents[3]
S5, HIDDEN = (ROOT / "tests" / "golden" / "diff" / f"{name}.tar.gz" for name in ("s5", "hidden-write"))
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return new_pair(tmp_path, "one")


@pytest.fixture
def s5() -> Archive:
    return check(S5)


def plain(archive: Archive) -> dict[str, Any]:
    statement: dict[str, Any] = load_json(to_bytes(unstructure(statement_of(archive))), "statement")
    return statement


def attest(archive: Archive, pair: Pair) -> bytes:
    return sign(statement_of(archive), pair.signer)


def code(archive: Archive, data: bytes, *keys: Key) -> str:
    with pytest.raises(VerificationError) as caught:
        check_attestation(archive, data, keys, "a.intoto.jsonl")
    assert caught.value.place.startswith("a.intoto.jsonl")
    return caught.value.code


# What is said


@pytest.mark.parametrize("name", ["s5", "hidden-write", "gemini"])
def test_a_real_archive_is_attested_and_verified(name: str, pair: Pair) -> None:
    archive = check(ROOT / "tests" / "golden" / "diff" / f"{name}.tar.gz")
    line = attest(archive, pair)
    assert line == attest(archive, pair)
    assert check_attestation(archive, line, [pair.key], "a") == parse(Statement, plain(archive))
    schema = ROOT / "schemas" / "assay.runner.runtime_trace_statement.v1.schema.json"
    Draft202012Validator(json.loads(schema.read_bytes())).validate(plain(archive))


def test_the_statement_names_both_manifests_and_what_was_seen() -> None:
    archive = check(HIDDEN)
    said = plain(archive)
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://in-toto.io/attestation/runtime-trace/v0.2"
    subjects = {it["name"]: f"sha256:{it['digest']['sha256']}" for it in said["subject"]}
    inner = load_json(archive.members[manifest.COMPANION_MANIFEST], "")
    assert subjects[manifest.MANIFEST] == archive.identity == inner["v0_manifest_sha256"]
    assert set(subjects) == {manifest.MANIFEST, manifest.COMPANION_MANIFEST}
    trace = said["predicate"]
    assert trace["monitoredProcess"]["event"] == archive.run_id
    assert trace["monitor"]["tracePolicy"] == {"witnesses": ["kernel", "policy", "sdk"], "network": "none"}
    files = {it["name"]: it for it in trace["monitorLog"]["fileAccess"]}
    written = files["/workspace/hidden-write-output.txt"]
    assert written["uri"] == "file:///workspace/hidden-write-output.txt"
    assert {"action": "write", "result": "done", "roles": ["subject"]} in written["annotations"]["actions"]
    assert "digest" not in written
    assert trace["monitorLog"]["process"][0]["process"] == "subject.0"
    health = trace["observationHealth"]
    assert to_bytes(health["document"]) == archive.members[manifest.HEALTH]
    assert (health["clean"], health["unclean"], health["missingWitnesses"]) == (True, [], [])
    assert health["records"]["lost"] == 0
    assert (
        health["records"]["seen"]
        == health["records"]["received"]
        == sum(health["records"]["classes"].values())
    )


def test_an_unclean_run_says_so(tmp_path: Path, pair: Pair) -> None:
    books = accounting(clean=False, unclean=("records_lost",), missing_witnesses=("sdk",))
    members = companion_members() | {companion.ACCOUNTING: document(books)}
    path = tmp_path / "run.tar.gz"
    write_archive(path, v0_members(), members, RUN_ID)
    archive = read_archive(path)
    health = plain(archive)["predicate"]["observationHealth"]
    assert (health["clean"], health["unclean"], health["missingWitnesses"]) == (
        False,
        ["records_lost"],
        ["sdk"],
    )
    check_attestation(archive, attest(archive, pair), [pair.key], "a")


def test_an_archive_of_eight_members_claims_no_more_than_it_holds(tmp_path: Path, pair: Pair) -> None:
    path = tmp_path / "run.tar.gz"
    write_archive(path, v0_members(), {}, RUN_ID)
    archive = check(path)
    said = plain(archive)
    assert [it["name"] for it in said["subject"]] == [manifest.MANIFEST]
    assert said["predicate"]["monitor"] == {"type": "urn:assay-runner:monitor:v1"}
    assert said["predicate"]["monitoredProcess"]["hostID"] == "urn:assay-runner:host-unknown"
    health = said["predicate"]["observationHealth"]
    assert health["clean"] is True
    assert (health["unclean"], health["missingWitnesses"], health["records"]) == (None, None, None)
    surface = load_json(archive.members[manifest.SURFACE], "")
    log = said["predicate"]["monitorLog"]
    assert [it["name"] for it in log["fileAccess"]] == surface["filesystem_paths"]
    assert [it["path"] for each in log["process"] for it in each["execs"]] == surface["process_execs"]
    check_attestation(archive, attest(archive, pair), [pair.key], "a")


# What does not pass


def test_every_flipped_byte_of_the_envelope_is_caught(s5: Archive, pair: Pair) -> None:
    """One bit of each byte: braces, names, payload, type, key id, signature and the newline."""
    line, key = attest(s5, pair), pair.key
    for offset in range(len(line)):
        changed = bytearray(line)
        changed[offset] ^= 1 << (offset % 7)
        with pytest.raises(VerificationError):
            verify_envelope(bytes(changed), [key])
    for size in range(0, len(line) - 1, 97):
        with pytest.raises(VerificationError):
            verify_envelope(line[:size], [key])
    for offset in range(0, len(line), 331):
        assert code(s5, line[:offset] + b"~" + line[offset + 1 :], key)


def test_the_attestation_of_another_archive_is_refused(s5: Archive, pair: Pair) -> None:
    assert code(s5, attest(check(HIDDEN), pair), pair.key) == "AttestationSubject"


def test_an_archive_whose_companion_was_replaced_is_no_longer_attested(
    archive: Path, tmp_path: Path, pair: Pair
) -> None:
    """The v0 manifest stays as it was: the second subject tells."""
    line = attest(check(archive), pair)
    members = companion_members()
    other = companion.HostV1(run_id=RUN_ID, facts={"kernel": "6.2"})
    members[companion.HOST] = document(other)
    path = tmp_path / "other.tar.gz"
    write_archive(path, v0_members(), members, RUN_ID)
    assert check(path).identity == check(archive).identity
    assert code(check(path), line, pair.key) == "AttestationSubject"


def _set(*steps: Any, to: Any) -> Change:
    def change(said: dict[str, Any]) -> None:
        place: Any = said
        for step in steps[:-1]:
            place = place[step]
        place[steps[-1]] = to

    return change


HEALTH = ("predicate", "observationHealth")
LIES: list[tuple[str, Change]] = [
    (
        "AttestationPredicateType",
        _set("predicateType", to="https://in-toto.io/attestation/runtime-trace/v0.1"),
    ),
    ("AttestationPredicateType", _set("predicateType", to="https://slsa.dev/provenance/v1")),
    ("AttestationStatement", _set("_type", to="https://in-toto.io/Statement/v0.1")),
    ("AttestationStatement", _set("more", to=1)),
    ("AttestationStatement", _set("subject", 0, "digest", to={"sha256": "0F" * 32})),
    ("AttestationStatement", _set("subject", 0, "digest", to={"sha1": "0f" * 20})),
    ("AttestationSubject", _set("subject", 0, "digest", "sha256", to="0f" * 32)),
    ("AttestationSubject", _set("subject", 1, "digest", "sha256", to="0f" * 32)),
    ("AttestationSubject", _set("subject", 0, "name", to="run.tar.gz")),
    ("AttestationSubject", _set("subject", to=[])),
    ("AttestationHealth", _set(*HEALTH, "clean", to=False)),
    ("AttestationHealth", _set(*HEALTH, "clean", to=1)),
    ("AttestationHealth", _set(*HEALTH, "records", "lost", to=7)),
    ("AttestationHealth", _set(*HEALTH, "unclean", to=["records_lost"])),
    ("AttestationHealth", _set(*HEALTH, "document", "kernel_layer", to="absent")),
    ("AttestationHealth", _set(*HEALTH, "more", to=None)),
    ("AttestationHealth", lambda said: said["predicate"].pop("observationHealth")),
    ("AttestationPredicate", lambda said: said["predicate"]["monitorLog"]["fileAccess"].pop()),
    ("AttestationPredicate", _set("predicate", "monitorLog", "network", to=[{"ip": "192.0.2.1"}])),
    ("AttestationPredicate", _set("predicate", "monitoredProcess", "event", to="run_other")),
    ("AttestationPredicate", _set("predicate", "monitor", "type", to="https://example.org/")),
    ("AttestationPredicate", _set("predicate", "more", to=1)),
    ("AttestationPredicate", _set("predicate", to={})),
]


@pytest.mark.parametrize(("wanted", "lie"), LIES)
def test_a_lie_is_refused_though_the_known_key_signed_it(
    wanted: str, lie: Change, s5: Archive, pair: Pair
) -> None:
    said = plain(s5)
    lie(said)
    assert code(s5, signed(said, pair), pair.key) == wanted


def signed(said: dict[str, Any], pair: Pair) -> bytes:
    """Anything at all, well signed."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(to_bytes(said), "application/vnd.in-toto+json", {})
    envelope.sign(pair.signer)
    return to_bytes(envelope.to_dict()) + b"\n"


# A file of several


def test_one_good_line_among_those_for_others_is_enough(s5: Archive, pair: Pair, tmp_path: Path) -> None:
    """in-toto's bundle: unknown lines, keys, subjects and types are passed over, in any order."""
    stranger = new_pair(tmp_path, "two")
    good = attest(s5, pair)
    lines = [b"# a note\n", attest(s5, stranger), attest(check(HIDDEN), pair), good]
    for bundle in (lines, lines[::-1]):
        assert check_attestation(s5, b"".join(bundle), [pair.key], "a").predicate
    assert code(s5, b"".join(lines[:-1]), pair.key) == "AttestationEnvelope"


def test_a_bundle_is_bounded(s5: Archive, pair: Pair, tmp_path: Path) -> None:
    assert code(s5, b"\n" * (MAX_ATTESTATIONS + 1), pair.key) == "LimitAttestations"
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(MAX_BUNDLE + 1)
    with pytest.raises(VerificationError) as caught:
        read_bundle(tmp_path / "huge")
    assert caught.value.code == "LimitAttestationBytes"


# The commands


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(S5, tmp_path / "run.tar.gz")
    return tmp_path / "run.tar.gz"


def test_attest_and_verify(run: Path, pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attest", "run.tar.gz", "--key", "one.pem"]) == 0
    assert "wrote run.tar.gz.intoto.jsonl" in capsys.readouterr().out
    assert main(["verify", "run.tar.gz", "--key", "one.pub"]) == 0
    assert "attested by a given key: run.tar.gz.intoto.jsonl" in capsys.readouterr().out
    assert main(["attest", "run.tar.gz", "--key", "one.pem", "-o", "other"]) == 0
    assert Path("other").read_bytes() == Path("run.tar.gz.intoto.jsonl").read_bytes()
    capsys.readouterr()
    assert main(["verify", "run.tar.gz", "--key", "one.pub", "--attestation", "other", "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert told["attestation"] == {"file": "other", "ok": True, "code": None, "place": None, "message": None}


def test_an_extracted_archive_is_verified_too(run: Path, pair: Pair) -> None:
    assert main(["attest", "run.tar.gz", "--key", "one.pem"]) == 0
    folder = run.with_name("run")
    folder.mkdir()
    subprocess.run(["tar", "xzf", run, "-C", folder], check=True)
    assert main(["verify", "run", "--key", "one.pub", "--attestation", "run.tar.gz.intoto.jsonl"]) == 0


def test_verify_with_a_key_fails_without_a_good_attestation(
    run: Path, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_pair(tmp_path, "two")
    assert main(["verify", "run.tar.gz", "--key", "one.pub"]) == 4
    assert "AttestationMissing" in capsys.readouterr().out
    assert main(["attest", "run.tar.gz", "--key", "two.pem"]) == 0
    assert main(["verify", "run.tar.gz", "--key", "one.pub"]) == 4
    assert "AttestationUnknownKey" in capsys.readouterr().out
    assert main(["verify", "run.tar.gz", "--key", "one.pub", "--key", "two.pub"]) == 0
    capsys.readouterr()
    Path("run.tar.gz.intoto.jsonl").write_bytes(b"\x1b[2J\n")
    assert main(["verify", "run.tar.gz", "--key", "one.pub", "--json"]) == 4
    [told] = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["attestation"]["ok"]) == (True, False)
    assert told["attestation"]["code"] == "AttestationEnvelope"
    assert told["attestation"]["place"].startswith("run.tar.gz.intoto.jsonl line 1")


def test_an_archive_that_does_not_hold_is_neither_attested_nor_asked_about(
    run: Path, pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attest", "run.tar.gz", "--key", "one.pem"]) == 0
    data = bytearray(run.read_bytes())
    data[len(data) // 2] ^= 1
    run.write_bytes(data)
    capsys.readouterr()
    assert main(["verify", "run.tar.gz", "--key", "one.pub", "--json"]) == 4
    [told] = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert "attestation" not in told
    Path("run.tar.gz.intoto.jsonl").unlink()
    assert main(["attest", "run.tar.gz", "--key", "one.pem"]) == 4
    assert not Path("run.tar.gz.intoto.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attest", "run.tar.gz", "--key", "none.pem"], "none.pem: cannot be read"),
        (["attest", "run.tar.gz", "--key", "one.pub"], "is a public key"),
        (["attest", "none.tar.gz", "--key", "one.pem"], "no such archive"),
        (["attest", "run.tar.gz", "--key", "one.pem", "-o", "no/such/x"], "could not be written"),
        (["verify", "run.tar.gz", "--key", "one.pem"], "is a private key"),
        (["verify", "run.tar.gz", "--key", "env:NO_SUCH_KEY"], "no key in this environment"),
        (["verify", "run.tar.gz", "--attestation", "x"], "needs --key"),
        (["verify", "run.tar.gz", "run.tar.gz", "--key", "one.pub", "--attestation", "x"], "single archive"),
    ],
)
def test_bad_usage_is_exit_2_with_a_remedy(
    run: Path, pair: Pair, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(run.parent.iterdir())
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "\n  hint: " in said
    assert sorted(run.parent.iterdir()) == before


def test_verify_without_a_key_loads_no_cryptography() -> None:
    script = (
        "import sys; from harness.cli import main; assert main(['verify', sys.argv[1]]) == 0; "
        "bad = {'cryptography', 'securesystemslib'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", script, S5], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
