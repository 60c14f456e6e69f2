"""A1 + B3 + C1: what is normalised, what is left out, what must not leak (contracts §6.2)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from harness.compare.capability import to_json
from harness.compare.cross_runtime import (
    LITERAL_WORK,
    WORK,
    RuntimeSide,
    canonical_path,
    cross_runtime_diff,
    runtime_name,
    runtime_side,
)
from harness.compare.side import Side
from harness.contracts.canonical import load_json
from harness.contracts.capability_diff import DiffStatus
from harness.contracts.companion import RunSpecDocV1
from harness.contracts.converter import parse
from harness.contracts.cross_runtime_diff import (
    FAILED_NOTE,
    GEMINI,
    NON_CLAIMS,
    NOTES,
    S5,
    CrossRuntimeDiff,
    SdkVersion,
)
from harness.contracts.health import Correlation
from harness.contracts.surface import DIMENSIONS
from harness.errors import InputError, VerificationError
from tests.unit.compare.conftest import HIDDEN, SIDES, Extract, make_side
from tests.unit.compare.conftest import S5 as S5_ARCHIVE

OPENAI = SdkVersion(sdk_name="@openai/agents", sdk_version="0.11.4")
GENAI = SdkVersion(sdk_name="google-genai", sdk_version="2.6.0")


def of(side: Side, runtime: str = S5, prefix: str = "/tmp/a/work/", sdk: SdkVersion = OPENAI) -> RuntimeSide:
    return RuntimeSide(side=side, runtime=runtime, prefix=prefix, sdk=sdk)


def gemini(side: Side, prefix: str = "/tmp/b/work/") -> RuntimeSide:
    return of(side, GEMINI, prefix, GENAI)


def test_paths_meet_below_the_declared_work_folders_and_nothing_else_is_touched() -> None:
    base = make_side(
        "b", paths=("/tmp/a/work/in.txt", "/tmp/a/workers", "/tmp/a/work", "/etc/x"), execs=("/tmp/a/work/x",)
    )
    head = make_side("h", paths=("/tmp/b/work/in.txt", "/tmp/b/work/out.txt"), execs=("/tmp/b/work/x",))
    diff = cross_runtime_diff(of(base), gemini(head))
    assert diff.surface.filesystem_paths.unchanged == ("<work>/in.txt",)
    assert diff.surface.filesystem_paths.added == ("<work>/out.txt",)
    assert diff.surface.filesystem_paths.removed == ("/etc/x", "/tmp/a/work", "/tmp/a/workers")
    assert (diff.surface.process_execs.added, diff.surface.process_execs.removed) == (
        ("/tmp/b/work/x",),
        ("/tmp/a/work/x",),
    )
    assert diff.status is DiffStatus.CLEAN


def test_the_document_has_the_contracts_keys_and_fixed_texts() -> None:
    diff = cross_runtime_diff(
        of(make_side("b", calls={"x": "allow"})), gemini(make_side("h", calls={"y": "deny"}))
    )
    document = json.loads(to_json(diff))
    assert list(document) == [
        "schema", "base_run_id", "head_run_id", "base_runtime", "head_runtime", "status", "preconditions",
        "scope", "canonicalization", "surface", "binding_ids", "policy_outcomes", "sdk_metadata", "unbound",
        "non_claims", "ambiguities", "notes",
    ]  # fmt: skip
    assert document["schema"] == "assay.runner.cross_runtime_diff.v0"
    assert document["preconditions"]["runtimes_distinct"] is True
    assert document["scope"]["cross_runtime"] is True
    assert list(document["canonicalization"]) == list(DIMENSIONS)
    assert list(document["canonicalization"].values()) == [
        "work_dir_prefix_only",
        "none",
        "none",
        "none",
        "none",
    ]
    assert (
        document["binding_ids"]
        == document["policy_outcomes"]
        == {"comparison": "out_of_scope_cross_runtime_v0"}
    )
    assert document["sdk_metadata"] == {
        "comparison": "side_band_provenance",
        "base": {"sdk_name": "@openai/agents", "sdk_version": "0.11.4"},
        "head": {"sdk_name": "google-genai", "sdk_version": "2.6.0"},
    }
    assert tuple(document["non_claims"]) == NON_CLAIMS
    assert list(NON_CLAIMS) == sorted(NON_CLAIMS)
    assert [note.partition(":")[0] for note in document["notes"]] == [
        "cross_runtime_diff_binding_ids_out_of_scope",
        "cross_runtime_diff_sdk_metadata_side_band",
        "cross_runtime_diff_work_dir_prefix_canonicalized",
    ]
    assert "/tmp/a/work/" not in to_json(diff).decode()


def test_runtimes_beyond_the_two_get_v1_of_the_same_shape() -> None:
    one = of(make_side("b"), "my_runtime")
    v1 = json.loads(to_json(cross_runtime_diff(one, gemini(make_side("h")))))
    v0 = json.loads(to_json(cross_runtime_diff(of(make_side("b")), gemini(make_side("h")))))
    assert v1["schema"] == "assay.runner.cross_runtime_diff.v1"
    assert v1 | {"schema": v0["schema"], "base_runtime": S5} == v0


def test_one_runtime_is_not_compared_with_itself() -> None:
    with pytest.raises(InputError, match="both sides are runs of s5_openai_agents"):
        cross_runtime_diff(of(make_side("b")), of(make_side("h")))


@pytest.mark.parametrize("prefix", ["", "work/", "/work", "./"])
def test_a_prefix_is_absolute_and_ends_with_its_boundary(prefix: str) -> None:
    with pytest.raises(InputError) as caught:
        cross_runtime_diff(of(make_side("b"), prefix=prefix), gemini(make_side("h")))
    assert caught.value.hint


@pytest.mark.parametrize("told", ["@openai/agents", "0.11.4", "google-genai", "2.6.0"])
@pytest.mark.parametrize("category", ["paths", "endpoints", "execs", "tools", "decisions"])
def test_an_sdks_own_word_inside_a_value_is_a_leak(told: str, category: str) -> None:
    leaky = make_side("b", **{category: (f"/x/{told}/y",)})  # type: ignore[arg-type]
    with pytest.raises(VerificationError) as caught:
        cross_runtime_diff(of(leaky), gemini(make_side("h")))
    assert caught.value.code == "SdkMetadataLeak"


def test_a_path_that_already_reads_like_the_work_folder_fails_the_diff() -> None:
    """An agent that opens the relative name <work>/x could hide among the real ones."""
    diff = cross_runtime_diff(of(make_side("b")), gemini(make_side("h", paths=("<work>/x",))))
    assert diff.status is DiffStatus.FAILED
    assert diff.notes == (*NOTES, f"{FAILED_NOTE}: head {LITERAL_WORK}")


def test_partial_evidence_stays_partial() -> None:
    partial = make_side("h", status=Correlation.PARTIAL, ambiguities=("x",))
    diff = cross_runtime_diff(of(make_side("b")), gemini(partial))
    assert (diff.status, diff.ambiguities) == (DiffStatus.PARTIAL_CORRELATION, ("head:x",))


PREFIXES = st.sampled_from(["/", "/w/", "/workspace/", "/é/"])
PATHS = st.one_of(
    st.text(st.characters(codec="utf-8")),
    PREFIXES.flatmap(lambda p: st.text(max_size=3).map(lambda t: p + t)),
)


@given(PATHS, PREFIXES)
def test_canonicalisation_is_idempotent_and_leaves_no_prefix(path: str, prefix: str) -> None:
    once = canonical_path(path, prefix)
    assert canonical_path(once, prefix) == once
    assert not once.startswith(prefix)
    assert (once == path) or (once.startswith(WORK) and path == prefix + once.removeprefix(WORK))


@given(SIDES, SIDES)
def test_the_swapped_sides_give_the_mirror_and_its_bytes_read_back(base: Side, head: Side) -> None:
    there = cross_runtime_diff(of(base, prefix="/b/"), gemini(head, "/b/"))
    back = cross_runtime_diff(gemini(head, "/b/"), of(base, prefix="/b/"))
    assert there.status is back.status
    for name in DIMENSIONS:
        one, other = getattr(there.surface, name), getattr(back.surface, name)
        assert (one.added, one.removed, one.unchanged) == (other.removed, other.added, other.unchanged)
    read = parse(CrossRuntimeDiff, load_json(to_json(there), "diff"))
    read.validate()
    assert read == there


# --- what an archive says about itself ---------------------------------------------------------------


def as_gemini(members: dict[str, bytes]) -> None:
    spec = members["companion/runspec.json"]
    members["companion/runspec.json"] = spec.replace(
        b'"agent_shim":"openai-agents"', b'"agent_shim":"gemini-google-genai"'
    )
    sdk = members["layers/sdk.ndjson"].replace(b"@openai/agents", b"google-genai")
    members["layers/sdk.ndjson"] = sdk.replace(b"0.20.0", b"2.6.0")


def test_runtime_and_work_folder_come_from_the_runs_own_spec(extract: Extract) -> None:
    base, head = runtime_side(S5_ARCHIVE), runtime_side(extract(HIDDEN, as_gemini))
    assert (base.runtime, base.prefix, base.sdk.sdk_name) == (S5, "/workspace/", "@openai/agents")
    diff = cross_runtime_diff(base, head)
    assert diff.schema == "assay.runner.cross_runtime_diff.v0"
    assert diff.surface.filesystem_paths.added == ("<work>/hidden-write-output.txt",)
    assert diff.surface.filesystem_paths.unchanged == (
        "<work>/openai-agents-input.txt",
        "<work>/policy-input.txt",
    )
    declared = runtime_side(S5_ARCHIVE, runtime="x", prefix="/work/")
    assert (declared.runtime, declared.prefix) == ("x", "/work/")


def test_a_fixture_without_a_shim_is_its_own_runtime() -> None:
    spec = RunSpecDocV1(
        run_id="r", agent_shim="none", command=("x",), env={}, fixture="my-own-agent", image="i",
        image_id="i", runtime_roots=(), deadline_s=1.0, witnesses=(), workspace="none",
        plumbing={}, inputs={},
    )  # fmt: skip
    assert runtime_name(spec) == "my_own_agent"
    assert runtime_name(evolve(spec, agent_shim="gemini-google-genai")) == GEMINI


def test_an_archive_that_does_not_say_needs_to_be_told(extract: Extract) -> None:
    def bare(members: dict[str, bytes]) -> None:
        for name in [name for name in members if name.startswith("companion/")]:
            del members[name]

    folder = extract(S5_ARCHIVE, bare, forge=False)
    with pytest.raises(InputError, match="--base-runtime"):
        runtime_side(folder)
    with pytest.raises(InputError, match="work folder"):
        runtime_side(folder, runtime=S5)
    assert runtime_side(folder, runtime=S5, prefix="/workspace/").runtime == S5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.replace(b'"sdk_version":"0.20.0"', b'"sdk_version":null'), "none"),
        (
            lambda data: data.replace(b'"0.20.0"', b'"0.20.1"', 1),
            "@openai/agents 0.20.0, @openai/agents 0.20.1",
        ),
        (lambda _: b"", "none"),
        (lambda data: data.replace(b"sdk_event.v0", b"sdk_event.v1"), "none"),
        (lambda data: data[:-9], "does not end with a newline"),
    ],
)
def test_the_sdk_layer_names_exactly_one_sdk(
    change: Callable[[bytes], bytes], message: str, extract: Extract
) -> None:
    def apply(members: dict[str, bytes]) -> None:
        members["layers/sdk.ndjson"] = change(members["layers/sdk.ndjson"])

    with pytest.raises(VerificationError, match=message) as caught:
        runtime_side(extract(S5_ARCHIVE, apply))
    assert "layers/sdk.ndjson" in caught.value.place


def test_lines_of_other_schemas_and_without_a_pair_are_skipped(extract: Extract) -> None:
    def apply(members: dict[str, bytes]) -> None:
        first, rest = members["layers/sdk.ndjson"].split(b"\n", 1)
        other = first.replace(b"sdk_event.v0", b"sdk_event.v9").replace(b"0.20.0", b"9")
        nameless = first.replace(b'"sdk_name":"@openai/agents"', b'"sdk_name":null')
        members["layers/sdk.ndjson"] = b"\n".join([other, nameless, b"[]", first, rest])

    assert runtime_side(extract(S5_ARCHIVE, apply)).sdk.sdk_version == "0.20.0"


def test_a_bad_prefix_is_told_before_anything_is_compared(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such archive"):
        runtime_side(tmp_path / "x", prefix="w")
    with pytest.raises(InputError, match="no work folder"):
        runtime_side(S5_ARCHIVE, prefix="w")
