"""The committed schemas are the models': same files, same documents accepted, same refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from harness import schemas
from harness.bundle.reader import read_archive
from harness.compare.capability import capability_diff, to_json
from harness.compare.claims import claims
from harness.compare.cross_runtime import cross_runtime_diff, runtime_side
from harness.compare.drift import drift, load_arm
from harness.compare.drift_coverage import annotate
from harness.compare.drift_options import DriftOptions, declare
from harness.compare.side import load_side
from harness.contracts.canonical import load_json, load_ndjson, ndjson, to_bytes
from harness.contracts.converter import ContractError, parse, unstructure
from harness.contracts.fidelity import PARITY
from harness.contracts.policy_file import PATH_GLOB
from harness.contracts.rules import RuleError
from harness.contracts.schema import SchemaFile
from tests.contracts.drawn import GLOBS, documents_of, harmed

ROOT = Path(__file__).parents[2]
DIFFS = ROOT / "tests" / "golden" / "diff"
FILES = {file.id: file for file in schemas.FILES}
# Read from TOML by loaders that ask for more than the models: see test_declared_schemas.py.
TOML = ("fixture", "image", "base_image", "deb_lock", "policy")
DECLARED = {id_ for id_ in FILES if id_.split(".")[2] in TOML}
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
# Formats of others, which name their schema elsewhere than at /schema.
FOREIGN = {"assay.runner.runtime_trace_statement.v1"}
# What a schema cannot say: docs/contracts/schemas.md.
INEXPRESSIBLE = ("must be sorted by UTF-8 bytes", "DerivedKeyMismatch", "RuntimesNotDistinct")


def validator(id_: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / "schemas" / f"{id_}.schema.json").read_bytes()))


def fault(file: SchemaFile, document: Any) -> str | None:
    """Why no model of the file takes the document."""
    told = ""
    for model in file.models:
        try:
            made: Any = parse(model, document)
            validate: Callable[[], None] | None = getattr(made, "validate", None)
            if validate:
                validate()
            if getattr(made, "schema", file.id) != file.id:
                return "of another schema"
        except (ContractError, RuleError) as error:
            told = told or str(error)
            continue
        return None
    return told


def test_the_committed_files_are_what_the_models_say() -> None:
    assert schemas.stale() == []


def test_a_file_that_was_changed_added_or_removed_is_found_and_written_again(tmp_path: Path) -> None:
    schemas.write(tmp_path)
    assert schemas.stale(tmp_path) == []
    names = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / names[0]).write_text("{}")
    (tmp_path / names[1]).unlink()
    (tmp_path / "no.model.schema.json").write_text("{}")
    assert schemas.stale(tmp_path) == sorted([*names[:2], "no.model.schema.json"])
    schemas.write(tmp_path)
    assert schemas.stale(tmp_path) == []


@pytest.mark.parametrize("id_", sorted(FILES))
def test_each_is_a_schema_that_knows_its_name_and_no_other_key(id_: str) -> None:
    schema = json.loads((ROOT / "schemas" / f"{id_}.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    assert schema["title"] == id_
    for definition in schema["$defs"].values():
        assert definition["additionalProperties"] is False


@pytest.mark.parametrize("id_", sorted(FILES))
def test_a_newer_document_is_refused_by_the_name_of_its_schema(id_: str) -> None:
    newer = f"{id_.rpartition('.v')[0]}.v99"
    document = {"schema": newer, "something": "new"}
    assert not validator(id_).is_valid(document)
    if id_ not in DECLARED | FOREIGN:
        assert newer in (fault(FILES[id_], document) or "")


@pytest.mark.parametrize("archive", ["s5", "hidden-write", "gemini"])
def test_every_member_of_a_real_archive_is_valid(archive: str) -> None:
    seen = set()
    for name, data in read_archive(DIFFS / f"{archive}.tar.gz").members.items():
        documents = load_ndjson(data, name) if name.endswith(".ndjson") else [load_json(data, name)]
        for document in documents:
            validator(document["schema"]).validate(document)
            seen.add(document["schema"])
    assert len(seen) == 17  # eight v0 schemas, the companion's manifest, and its eight


@pytest.mark.parametrize("archive", ["s5", "hidden-write", "gemini"])
def test_every_member_of_a_real_archive_is_written_again_byte_for_byte(archive: str) -> None:
    for name, data in read_archive(DIFFS / f"{archive}.tar.gz").members.items():
        for part in data.splitlines() if name.endswith(".ndjson") else [data]:
            document = load_json(part, name)
            models = FILES[document["schema"]].models
            (model,) = (model for model in models if not _refused(model, document))
            assert to_bytes(unstructure(parse(model, document))) == part


def _refused(model: type, document: Any) -> bool:
    try:
        parse(model, document)
    except ContractError:
        return True
    return False


def test_every_golden_diff_is_written_again_byte_for_byte() -> None:
    found = sorted(DIFFS.glob("*.json"))
    assert found
    for path in found:
        document = load_json(path.read_bytes(), path.name)
        (model,) = FILES[document["schema"]].models
        assert to_json(parse(model, document)) == path.read_bytes()


def test_every_comparison_of_real_archives_is_valid() -> None:
    s5, hidden = DIFFS / "s5.tar.gz", DIFFS / "hidden-write.tar.gz"
    one, other = load_arm(s5), load_arm(hidden)
    options = declare(DriftOptions(), path_aliases=["/workspace/policy-input.txt=in"])
    report = claims(s5)
    for made in (
        capability_diff(load_side(s5), load_side(hidden)),
        cross_runtime_diff(runtime_side(s5), runtime_side(DIFFS / "gemini.tar.gz")),
        drift(one, other),
        drift(one, other, options),
        annotate(one, other),
        report,
        report.fidelity,
        *report.coverage,
        PARITY,
    ):
        document = json.loads(to_json(made))
        validator(document["schema"]).validate(document)


@pytest.mark.parametrize("id_", sorted(FILES.keys() - DECLARED))
@settings(PATIENT, max_examples=15)
@given(data=st.data())
def test_a_schema_refuses_exactly_what_the_models_refuse(id_: str, data: st.DataObject) -> None:
    file = FILES[id_]
    drawn = st.one_of(*(documents_of(model) for model in file.models))
    document = data.draw(drawn | harmed(drawn) | harmed(drawn))
    told = fault(file, document)
    accepted = validator(id_).is_valid(document)
    if told is None:
        assert accepted
    elif accepted:
        assert any(rule in told for rule in INEXPRESSIBLE), told


@pytest.mark.parametrize("id_", sorted(FILES.keys() - DECLARED))
@settings(PATIENT, max_examples=5)
@given(data=st.data())
def test_what_is_read_is_written_again_byte_for_byte(id_: str, data: st.DataObject) -> None:
    for model in FILES[id_].models:
        document = data.draw(documents_of(model))
        once = unstructure(parse(model, document))
        line = to_bytes(once)
        again: Any = parse(model, load_json(line, id_))
        assert to_bytes(unstructure(again)) == line
        assert load_ndjson(ndjson([once]), id_) == [once]


def test_a_glob_pattern_takes_the_globs_of_the_examples() -> None:
    glob = Draft202012Validator({"pattern": PATH_GLOB})
    assert all(glob.is_valid(one) for one in GLOBS)
    wrong = ("", "a", "/a/", "//", "/a//b", "/a/../b", "/.", "*", "/a/..")
    assert not any(glob.is_valid(one) for one in wrong)
