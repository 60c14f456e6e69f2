"""Kits of strangers: what holds is opened, and everything that does not is refused before it is used."""

import os
import random
import subprocess
from functools import partial
from pathlib import Path

import pytest
from attrs import evolve

from harness.bundle.kit_reader import SealedKit, sealed_kit
from harness.bundle.kit_signature import signature_of
from harness.bundle.kit_writer import write_kit
from harness.bundle.layout import BLOCK
from harness.bundle.signing import Signer, load_signer
from harness.contracts import companion
from harness.contracts.canonical import load_json, sha256_of, to_bytes
from harness.contracts.manifest import HEALTH, SDK, ArchiveFile
from harness.contracts.replay_kit import ReplayKit, input_file
from harness.engine.layers import Entry, ImageConfig, config_bytes, write_layer
from harness.errors import AssayError, EvidenceError, InputError, VerificationError
from harness.replay import ReadyKit, open_kit
from harness.replay_commands import admission
from harness.work_folder import survey
from tests.unit.bundle.conftest import accounting, derive, document
from tests.unit.kit.conftest import INPUTS, POLICY_FILE, TREE, Maker, anyone, emptied


def refusal(kit: Path, scratch: Path) -> AssayError:
    with pytest.raises(AssayError) as caught:
        open_kit(kit, scratch, anyone)
    assert str(scratch) not in str(caught.value), "a path of ours says nothing to a person"
    return caught.value


def code(error: AssayError) -> str:
    assert isinstance(error, VerificationError), repr(error)
    return error.code


def new_key(place: Path) -> tuple[Path, Path]:
    """A private key for this test, and its public half."""
    private, public = place.with_suffix(".pem"), place.with_suffix(".pub")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return private, public


def _signed(signer: Signer, kit: ReplayKit, manifest: bytes) -> bytes:
    return signature_of(kit, manifest, signer)


def signature(path: Path) -> bytes:
    with sealed_kit(path) as sealed:
        assert sealed.signature is not None
        return sealed.signature


def test_a_kit_that_holds_gives_the_plan_that_was_measured(maker: Maker, scratch: Path) -> None:
    ready: ReadyKit = open_kit(maker.write(), scratch, anyone)
    assert ready.plan.inputs is not None
    assert evolve(ready.plan, inputs=maker.inputs, policy=POLICY_FILE) == maker.plan
    laid = {
        path.relative_to(ready.plan.inputs).as_posix(): path.read_bytes() if path.is_file() else None
        for path in ready.plan.inputs.rglob("*")
    }
    assert laid == {**INPUTS, "deep": None, "deep/er": None, "deep/link": INPUTS["a.txt"], "empty": None}
    assert survey(ready.plan.inputs) == survey(maker.inputs)
    assert ready.image.id == ready.kit.image_id == maker.plan.image.id
    assert [digest for digest, _ in ready.image.layers] == [maker.layer.digest]
    assert ready.image.files[maker.layer.digest].read_bytes() == maker.layer.path.read_bytes()


def test_the_same_parts_give_the_same_bytes(maker: Maker) -> None:
    first = maker.write().read_bytes()
    assert maker.write().read_bytes() == first


def test_a_flipped_byte_anywhere_is_found(maker: Maker, scratch: Path) -> None:
    path, chosen = maker.write(), random.Random(2026)
    whole = path.read_bytes()
    for block in range(0, len(whole), BLOCK):
        at = block + chosen.randrange(BLOCK)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chosen.randrange(8)]) + whole[at + 1 :])
        code(refusal(path, emptied(scratch)))
    path.write_bytes(whole)
    open_kit(path, emptied(scratch), anyone)


def test_a_kit_cut_short_anywhere_or_followed_by_something_is_found(maker: Maker, scratch: Path) -> None:
    path = maker.write()
    whole = path.read_bytes()
    for end in (*range(0, len(whole), BLOCK), len(whole) - 1):
        path.write_bytes(whole[:end])
        code(refusal(path, scratch))
    path.write_bytes(whole + b"\0")
    assert code(refusal(path, scratch)) == "IntegrityTar"
    assert not list(scratch.iterdir()), "the size is looked at before anything is copied"


def test_an_image_that_was_swapped_is_found(maker: Maker, scratch: Path) -> None:
    """With all digests of the kit made to fit: the archive knows which image was measured."""
    layer = write_layer(TREE | {"usr/bin/agent": Entry(source=b"#!evil\n")}, maker.folder / "other.tar")
    maker.layers = [(layer.digest, layer.path)]
    maker.config = config_bytes(ImageConfig({"PATH": "/usr/bin"}, {}), [layer])
    maker.kit = maker.booked()
    error = refusal(maker.write(), scratch)
    assert code(error) == "IntegrityManifestHash"
    assert error.place.endswith("kit.json at /image_id")


def test_a_layer_under_the_name_of_another_is_found(maker: Maker, scratch: Path) -> None:
    other = write_layer(TREE | {"usr/bin/agent": Entry(source=b"#!evil\n")}, maker.folder / "other.tar")
    (name,) = (name for name in maker.parts if name.endswith(".tar"))
    maker.parts[name] = other.path
    files = dict(maker.kit.files)
    files[name] = evolve(files[name], sha256=other.digest, bytes=other.size)
    assert code(refusal(maker.write(files=files), scratch)) == "IntegrityManifestHash"


def test_a_config_that_is_not_the_image_is_found(maker: Maker, scratch: Path) -> None:
    config = config_bytes(ImageConfig({"PATH": "/evil"}, {}), [maker.layer])
    error = refusal(maker.write_parts(image_config_json=config), scratch)
    assert "its digest is not the image's ID" in error.message


def test_layers_that_the_config_does_not_name_are_found(maker: Maker, scratch: Path) -> None:
    other = write_layer({"x": Entry(source=b"y")}, maker.folder / "other.tar")
    maker.layers.append((other.digest, other.path))
    maker.kit = maker.booked()
    error = refusal(maker.write(), scratch)
    assert error.place.endswith("image/config.json at /rootfs/diff_ids")


def test_a_changed_input_is_found_although_its_digest_was_changed_too(maker: Maker, scratch: Path) -> None:
    (maker.inputs / "a.txt").write_bytes(b"other\n")
    maker.kit = maker.booked()
    error = refusal(maker.write(), scratch)
    assert code(error) == "IntegrityManifestHash"
    assert error.place.endswith("kit.json at /inputs")


def test_a_changed_policy_is_found(maker: Maker, scratch: Path) -> None:
    error = refusal(maker.write_parts(policy_toml=POLICY_FILE.read_bytes() + b"\n"), scratch)
    assert error.place.endswith("kit.json at /files/policy.toml")


def test_another_expectation_than_the_archive_is_found(maker: Maker, scratch: Path) -> None:
    expected = maker.kit.expected | {HEALTH: sha256_of(b"")}
    assert refusal(maker.write(expected=expected), scratch).place.endswith("kit.json at /expected")
    other = maker.write(archive_identity=sha256_of(b""))
    assert refusal(other, emptied(scratch)).place.endswith("kit.json at /archive_identity")


@pytest.mark.parametrize(
    "name",
    ["../out", "/etc/passwd", "a/../../out", "a//b", "./a", "a/", "", "x\0y", "n" * 300, "d/" * 1600 + "f"],
)
def test_an_input_that_leads_elsewhere_is_refused(maker: Maker, scratch: Path, name: str) -> None:
    inputs = maker.kit.inputs | {name: maker.kit.inputs["a.txt"]}
    assert code(refusal(maker.write(inputs=inputs), scratch)).startswith("Security")
    folders = tuple(sorted((*maker.kit.folders, name)))
    assert code(refusal(maker.write(folders=folders), scratch)).startswith("Security")
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("target", ["/etc/passwd", "../../out", "er/../../../out", "", "x\0y", "n" * 4000])
def test_a_link_that_leads_elsewhere_is_refused(maker: Maker, scratch: Path, target: str) -> None:
    links = {"deep/link": target}
    assert code(refusal(maker.write(links=links), scratch)) == "SecurityPathTraversal"
    assert not list(scratch.iterdir())


def test_what_was_given_otherwise_is_refused(maker: Maker, scratch: Path) -> None:
    """The archive says which inputs are programs, and what links say."""
    for changes in ({"programs": None}, {"links": None}, {"links": {"deep/link": "same.txt"}}):
        assert code(refusal(maker.write(**changes), emptied(scratch))) == "IntegrityManifestHash"
    assert code(refusal(maker.write(programs=("empty",)), emptied(scratch))) == "ContractInvalidJson"


def test_inputs_that_stand_in_each_others_way_are_refused(maker: Maker, scratch: Path) -> None:
    one = maker.kit.inputs["a.txt"]
    for changes in (
        {"inputs": maker.kit.inputs | {"a.txt/b": one}},
        {"folders": ("a.txt", "empty")},
        {"folders": ("empty", "empty")},
        {"folders": ("empty", "a.txt/c")},
        {"links": {"a.txt": "b"}},
        {"links": {"deep": "empty"}},
    ):
        assert code(refusal(maker.write(**changes), scratch)) == "ContractDuplicateFile"


def test_files_that_no_kit_has_are_refused(maker: Maker, scratch: Path) -> None:
    files = dict(maker.kit.files)
    for name in ("../evil", "zzz", input_file(sha256_of(b"unused"))):
        maker.parts[name] = b""
        more = files | {name: ArchiveFile(path=name, sha256=sha256_of(b""), bytes=0)}
        assert code(refusal(maker.write(files=more), scratch)) == "ContractUnexpectedFile"
    fewer = {name: file for name, file in files.items() if not name.startswith("inputs/")}
    assert code(refusal(maker.write(files=fewer), scratch)) == "ContractUnexpectedFile"
    assert code(refusal(maker.write(layers=()), scratch)) == "ContractUnexpectedFile"


def test_signed_kits_go_with_their_key_and_their_bytes(maker: Maker, scratch: Path, tmp_path: Path) -> None:
    keys = [new_key(tmp_path / name) for name in ("maker", "stranger")]
    path = tmp_path / "signed.kit"
    write_kit(path, maker.kit, maker.parts, partial(_signed, load_signer(str(keys[0][0]))))
    known, stranger = (admission([str(public)], trust=False) for _, public in keys)
    assert open_kit(path, scratch, known).signed_by == str(keys[0][1])
    both = admission([str(keys[1][1]), str(keys[0][1])], trust=True)
    assert open_kit(path, emptied(scratch), both).signed_by == str(keys[0][1])
    assert open_kit(path, emptied(scratch), admission([], trust=True)).signed_by is None
    for kit, admit, wanted in (
        (path, stranger, "AttestationUnknownKey"),
        (maker.write(), known, "KitUnsigned"),
    ):
        with pytest.raises(VerificationError) as caught:
            open_kit(kit, emptied(scratch), admit)
        assert caught.value.code == wanted
        assert not list(scratch.iterdir())
    # the signature of one kit before another
    write_kit(path, evolve(maker.kit, folders=()), maker.parts, lambda _, __: signature(path))
    with pytest.raises(VerificationError, match="not about this kit"):
        open_kit(path, scratch, known)


def test_a_kit_that_nobody_answers_for_is_not_even_opened() -> None:
    with pytest.raises(InputError, match="say whose you run") as caught:
        admission([], trust=False)
    assert "--trust" in caught.value.hint


@pytest.mark.parametrize("size", [(1 << 33) + 1, 1 << 60, 10**30])
def test_sizes_are_bounded_before_anything_is_copied(maker: Maker, scratch: Path, size: int) -> None:
    files = dict(maker.kit.files)
    (name,) = (name for name in files if name.endswith(".tar"))
    files[name] = evolve(files[name], bytes=size)
    assert code(refusal(maker.write(files=files), scratch)) == "LimitFileSize"
    assert not list(scratch.iterdir())


def test_a_size_that_is_not_there_is_refused_before_anything_is_copied(maker: Maker, scratch: Path) -> None:
    files = dict(maker.kit.files)
    (name,) = (name for name in files if name.endswith(".tar"))
    files[name] = evolve(files[name], bytes=1 << 32)
    error = refusal(maker.write(files=files), scratch)
    assert code(error) == "IntegrityTar"
    assert "cut short" in error.message
    assert not list(scratch.iterdir())


def test_an_archive_that_does_not_hold_or_is_not_clean_is_refused(maker: Maker, scratch: Path) -> None:
    maker.members[companion.ACCOUNTING] = document(
        accounting(clean=False, unclean=("walk_fault",), volatile=dict.fromkeys(maker.plan.volatile, 0))
    )
    derive(maker.members)
    maker.kit = maker.booked()
    error = refusal(maker.write(), scratch)
    assert isinstance(error, EvidenceError)
    assert "walk_fault" in error.message
    maker.members[SDK] = b""
    maker.kit = maker.booked()
    error = refusal(maker.write(), emptied(scratch))
    assert error.exit_code == 4
    assert error.place.startswith(f"{maker.folder / 'made.kit'}: archive.tar.gz: ")


def test_a_run_that_would_be_done_otherwise_is_refused(maker: Maker, scratch: Path) -> None:
    spec = load_json(maker.members[companion.RUNSPEC], "runspec")
    del spec["tools_env"]
    maker.members[companion.RUNSPEC] = to_bytes(spec)
    maker.kit = maker.booked()
    error = refusal(maker.write(), scratch)
    assert isinstance(error, InputError)
    assert error.place.endswith("companion/runspec.json at /tools_env")


@pytest.mark.parametrize(
    "changes",
    [
        {"deadline_s": -1.0},
        {"network": "host"},
        {"workspace": "/"},
        {"volatile": ["/*"]},
        {"witnesses": ["gossip"]},
        {"plumbing": {"subject": [["evil"]], "tools": []}},
    ],
)
def test_a_run_that_its_own_archive_contradicts_is_refused(
    maker: Maker, scratch: Path, changes: dict[str, object]
) -> None:
    spec = load_json(maker.members[companion.RUNSPEC], "runspec") | changes
    maker.members[companion.RUNSPEC] = to_bytes(spec)
    maker.kit = maker.booked()
    assert refusal(maker.write(), scratch).exit_code == 4


def test_an_image_with_other_files_than_the_archive_says_is_refused(maker: Maker, scratch: Path) -> None:
    spec = load_json(maker.members[companion.RUNSPEC], "runspec")
    maker.members[companion.RUNSPEC] = to_bytes(spec | {"image_files_sha256": sha256_of(b"")})
    maker.kit = maker.booked()
    assert code(refusal(maker.write(), scratch)) == "FileListDigestMismatch"


def test_admission_comes_first(maker: Maker, scratch: Path) -> None:
    """Who is not let in is not looked at any further: its files may be anything."""
    path = maker.write()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))

    def nobody(_: SealedKit) -> None:
        raise InputError("not you")

    with pytest.raises(InputError, match="not you"):
        open_kit(path, scratch, nobody)
    assert not list(scratch.iterdir())


def test_what_is_no_kit_is_told_so(tmp_path: Path, scratch: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path / "none", tmp_path, fifo):
        assert isinstance(refusal(path, scratch), InputError)
    text = tmp_path / "text"
    text.write_bytes(b"hello\n" * 1000)
    assert code(refusal(text, scratch)) == "ContractMissingManifest"


def test_a_kit_is_an_ordinary_tar(maker: Maker) -> None:
    listed = subprocess.run(["tar", "tf", maker.write()], capture_output=True, text=True, check=True).stdout
    assert listed.split() == ["kit.json", *maker.kit.files]
