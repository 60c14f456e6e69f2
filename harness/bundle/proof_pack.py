"""A proof pack's manifest follows from its payload; so to verify one is to make it again and compare.

What that cannot show offline, that the trees named are those of a commit, the caller brings: `trees`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import evolve, frozen

from harness.bundle.problem import Problem
from harness.bundle.proof_files import read_pack
from harness.bundle.proof_gates import Judged, judge, source_of, summary_of
from harness.contracts.canonical import load_json, sha256_of, to_bytes
from harness.contracts.converter import ContractError, parse, unstructure
from harness.contracts.proof_pack import (
    ALL_GATES,
    CHECKSUMS,
    EBPF,
    GATE_LOG,
    GATE_SOURCE,
    GATES,
    MANIFEST,
    PAYLOAD,
    SELECTED,
    SUMMARY,
    BuildProvenance,
    ContentProvenance,
    EbpfProvenance,
    EvidenceBoundary,
    ExpectedSize,
    GateSource,
    GateStatus,
    Inputs,
    ProofPack,
    Role,
    Subject,
    Subjects,
    VerificationModes,
    pack_bytes,
)
from harness.errors import VerificationError

_SHOWN = 200  # characters of a shown value


class NoSourceError(Exception):
    """No gate in the payload says what it ran from, or two of them say different things."""


@frozen
class PackVerification:
    """The pack holds when `problems` is empty; whether its gates passed is told by `gates`."""

    place: str
    gates: tuple[tuple[str, GateStatus], ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def passed(self) -> bool:
        return bool(self.gates) and all(status is GateStatus.PASSED for _, status in self.gates)


def make_pack(payload: Mapping[str, bytes], names: tuple[str, ...], *, everything: bool) -> dict[str, bytes]:
    """Every file of the pack by its path. NoSourceError; ValueError for an impossible payload path."""
    with_build = {**payload, EBPF: pack_bytes(_ebpf(_common_source(names, payload)))}
    files = {path: with_build[path] for path in sorted(with_build)}
    asked = ALL_GATES if everything else ",".join(names)
    manifest = pack_bytes(_manifest(files, asked, [judge(name, files) for name in names]))
    return {MANIFEST: manifest, CHECKSUMS: _checksums(manifest, files), **files}


def verify_pack(path: Path, trees: Mapping[str, str] | None = None) -> PackVerification:
    """All problems of the pack at `path`; InputError only when there is nothing to read.

    trees  path -> git object id that each gated path has to be of; None: not asked
    """
    try:
        files = read_pack(path)
    except VerificationError as error:
        problem = Problem(error.code, "", error.place, "", error.message.partition(": ")[2])
        return PackVerification(str(path), (), (problem,))
    claimed, problems = _parsed(files[MANIFEST])
    if claimed is None:
        return PackVerification(str(path), (), tuple(problems))
    payload = {name: data for name, data in files.items() if name.startswith(PAYLOAD)}
    problems += _checksum_problems(files, payload)
    problems += _subject_problems(claimed, payload)
    problems += _gate_problems(claimed, payload)
    problems += _tree_problems(claimed, trees or {})
    gates = tuple((gate.gate, gate.status) for gate in claimed.gates)
    return PackVerification(str(path), gates, tuple(problems))


def _manifest(payload: Mapping[str, bytes], asked: str, judged: list[Judged]) -> ProofPack:
    names = tuple(one.proof.gate for one in judged)
    source = _common_source(names, payload)
    finished = [one.finished_at for name in names if (one := source_of(name, payload))]
    subjects = tuple(
        Subject(path=path, bytes=len(data), sha256=sha256_of(data), role=_role(path))
        for path, data in payload.items()
    )
    draft = ProofPack(
        proof_pack=Subjects(subjects=subjects),
        created_at=max(finished),
        source=source.source,
        inputs=Inputs(gates=asked),
        content_provenance=ContentProvenance(path_trees=source.path_trees),
        workflow=source.workflow,
        verification_modes=VerificationModes(),
        expected_size_policy=ExpectedSize(),
        evidence_boundary=EvidenceBoundary(),
        build_provenance=BuildProvenance(ebpf=_ebpf(source)),
        gates=tuple(one.proof for one in judged),
        payload_files=tuple(payload),
        pack_size_bytes=0,
    )
    rest = sum(map(len, payload.values())) + len(_checksums(b"", payload))
    while (size := rest + len(pack_bytes(draft))) != draft.pack_size_bytes:
        draft = evolve(draft, pack_size_bytes=size)
    return draft


def _role(path: str) -> Role:
    name = path.rpartition("/")[2]
    if path == EBPF:
        return Role.EBPF_PROVENANCE
    if name == GATE_LOG:
        return Role.GATE_LOG
    if name.startswith("runner-") and name.endswith(".tar.gz"):
        return Role.ARCHIVE
    return Role.GATE_JSON if name in SELECTED else Role.PAYLOAD


def _common_source(names: tuple[str, ...], payload: Mapping[str, bytes]) -> GateSource:
    """The one state that all gates ran from; those without one have their reason elsewhere."""
    found = {name: source for name in names if (source := source_of(name, payload))}
    if not found:
        raise NoSourceError(f"no gate has a {GATE_SOURCE} that can be read")
    first = next(iter(found))
    for name, source in found.items():
        if evolve(source, finished_at="") != evolve(found[first], finished_at=""):
            raise NoSourceError(f"gate {name} ran from another state than gate {first}")
    return found[first]


def _ebpf(source: GateSource) -> EbpfProvenance:
    return EbpfProvenance(sources=source.ebpf)


def _checksums(manifest: bytes, payload: Mapping[str, bytes]) -> bytes:
    lines = [(MANIFEST, manifest), *payload.items()]
    return "".join(f"{sha256_of(data).removeprefix('sha256:')}  {path}\n" for path, data in lines).encode()


def _parsed(data: bytes) -> tuple[ProofPack | None, list[Problem]]:
    try:
        model = parse(ProofPack, load_json(data, MANIFEST))
    except ContractError as error:
        code = "ContractSchemaVersion" if error.pointer == "/schema" else "ContractInvalidJson"
        return None, [Problem(code, MANIFEST, error.pointer, "", error.message)]
    if pack_bytes(model) != data:
        return model, [Problem("ContractInvalidJson", MANIFEST, "", "the pack's one spelling", "other bytes")]
    return model, []


def _checksum_problems(files: Mapping[str, bytes], payload: Mapping[str, bytes]) -> Iterator[Problem]:
    if CHECKSUMS not in files:
        yield Problem("ContractMissingFile", CHECKSUMS, "", "this file", "none")
        return
    wanted = _checksums(files[MANIFEST], payload).decode().splitlines()
    actual = files[CHECKSUMS].decode("utf-8", "replace").splitlines()
    for number in range(max(len(wanted), len(actual))):
        want, have = (lines[number] if number < len(lines) else "no line" for lines in (wanted, actual))
        if want != have:
            yield Problem(
                "ProofChecksumMismatch", CHECKSUMS, f"line {number + 1}", _short(want), _short(have)
            )
            return  # one line more or less shifts all that follow


def _subject_problems(claimed: ProofPack, payload: Mapping[str, bytes]) -> Iterator[Problem]:
    subjects = {subject.path: subject for subject in claimed.proof_pack.subjects}
    for path in payload.keys() - subjects.keys():
        yield Problem("ContractUnexpectedFile", path, "", f"a subject in {MANIFEST}", "none")
    for number, subject in enumerate(claimed.proof_pack.subjects):
        place = f"/proof_pack/subjects/{number}"
        data = payload.get(subject.path)
        if data is None:
            yield Problem("ContractMissingFile", MANIFEST, place, subject.path, "no such file")
            continue
        if subject.bytes != len(data):
            code = "IntegrityFileSizeMismatch"
            yield Problem(code, subject.path, f"{place}/bytes", str(subject.bytes), str(len(data)))
        if subject.sha256 != sha256_of(data):
            code = "IntegrityManifestHash"
            yield Problem(code, subject.path, f"{place}/sha256", subject.sha256, sha256_of(data))


def _gate_problems(claimed: ProofPack, payload: Mapping[str, bytes]) -> Iterator[Problem]:
    names = tuple(gate.gate for gate in claimed.gates)
    yield from _name_problems(claimed, names, payload)
    judged = [judge(name, payload) for name in names]
    for gate, again in zip(claimed.gates, judged, strict=True):
        if gate.status is GateStatus.PASSED:
            yield from (reason.problem for reason in again.reasons)
    try:
        wanted = _manifest(payload, claimed.inputs.gates, judged)
    except NoSourceError as error:
        yield Problem("ProofSourceMixed", MANIFEST, "/source", "one source of all gates", str(error))
        return
    if EBPF in payload and payload[EBPF] != pack_bytes(wanted.build_provenance.ebpf):
        yield Problem("ProofManifestMismatch", EBPF, "", "what every gate's source says", "other bytes")
    yield from _differences(unstructure(wanted), unstructure(claimed), "")


def _name_problems(
    claimed: ProofPack, names: tuple[str, ...], payload: Mapping[str, bytes]
) -> Iterator[Problem]:
    """The gates that were asked for are those that are told of, once each, and no other has files."""
    summary = summary_of(payload)
    if claimed.inputs.gates != ALL_GATES:
        asked = tuple(claimed.inputs.gates.split(","))
    else:
        asked = tuple(gate.gate for gate in summary.gates) if summary else ()
    if sorted(asked) != sorted(names) or len(set(names)) != len(names):
        yield Problem("ProofGateMissing", MANIFEST, "/gates", ", ".join(asked), ", ".join(names))
    for path in payload:
        gate = path.removeprefix(GATES).partition("/")[0]
        known = path in (SUMMARY, EBPF) or (path.startswith(GATES) and gate in names)
        if not known:
            yield Problem("ContractUnexpectedFile", path, "", "a file of a gate that is told of", "none such")


def _tree_problems(claimed: ProofPack, trees: Mapping[str, str]) -> Iterator[Problem]:
    found = claimed.content_provenance.path_trees
    for path in sorted(trees.keys() | (found.keys() if trees else set())):
        tree = found.get(path)
        actual = (tree.oid or tree.error or "none") if tree else "none"
        if actual != trees.get(path):
            place = f"/content_provenance/path_trees/{_escaped(path)}"
            yield Problem("ProofTreeMismatch", MANIFEST, place, trees.get(path, "none"), actual)


def _differences(wanted: object, claimed: object, place: str) -> Iterator[Problem]:
    """Where the manifest is not the one that its payload gives; subjects have their own problems."""
    if wanted == claimed or place == "/proof_pack/subjects":
        return
    if isinstance(wanted, dict) and isinstance(claimed, dict):
        for key in [*wanted, *(key for key in claimed if key not in wanted)]:
            yield from _differences(wanted.get(key), claimed.get(key), f"{place}/{_escaped(key)}")
    elif isinstance(wanted, list) and isinstance(claimed, list) and len(wanted) == len(claimed):
        for number, (left, right) in enumerate(zip(wanted, claimed, strict=True)):
            yield from _differences(left, right, f"{place}/{number}")
    else:
        values = (_short(to_bytes(value).decode()) for value in (wanted, claimed))
        yield Problem("ProofManifestMismatch", MANIFEST, place, *values)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
