"""Drift rows, their classification in the contract's order, projections and provenance (contracts §6.3)."""

import json

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from harness import __version__
from harness.bundle.reader import read_archive
from harness.compare.capability import to_json
from harness.compare.drift import Arm, drift, load_arm
from harness.compare.drift_coverage import annotate, is_blocked
from harness.compare.drift_options import PROVIDER_HOSTS, DriftOptions, declare, read_assertion
from harness.contracts.canonical import load_json
from harness.contracts.converter import parse
from harness.contracts.fidelity import ClaimKind, Decision
from harness.contracts.health import EndpointScope, KernelLayer
from harness.contracts.kernel_event import open_event, other_event
from harness.contracts.projection import PathClass
from harness.contracts.runtime_drift import Classification, DriftDimension, DriftReport, DriftRow
from harness.contracts.sdk_event import SdkEvent, SdkEventType
from harness.errors import InputError
from tests.unit.compare.conftest import HIDDEN, S5, VALUES, Extract, make_side

ARCHIVE = read_archive(S5)
NETWORK = DriftDimension.NETWORK
PATHS = DriftDimension.FILESYSTEM_PATHS


def arm(
    *,
    paths: tuple[str, ...] = (),
    endpoints: tuple[str, ...] = (),
    tools: tuple[str, ...] = (),
    scope: EndpointScope | None = None,
) -> Arm:
    """An arm by hand on a real archive; `tools` are the tool calls in their order."""
    side = make_side(paths=paths, endpoints=endpoints)
    sdk = tuple(
        SdkEvent(
            run_id="run_1",
            seq=seq,
            event_type=SdkEventType.TOOL_CALL_STARTED,
            source="s",
            tool_call_id=f"tc_{seq}",
            tool=tool,
        )
        for seq, tool in enumerate(tools)
    )
    health = evolve(side.health, network_endpoint_claim_scope=scope)
    return Arm(archive=ARCHIVE, path="x", health=health, surface=side.surface, kernel=(), sdk=sdk)


def row(dimension: DriftDimension, a: Arm, b: Arm, options: DriftOptions | None = None) -> DriftRow:
    return next(one for one in drift(a, b, options).rows if one.dimension is dimension)


def verdict(
    dimension: DriftDimension, a: Arm, b: Arm, options: DriftOptions | None = None
) -> tuple[str, str]:
    found = row(dimension, a, b, options)
    return found.classification.value, found.detail


def test_the_first_condition_that_holds_classifies() -> None:
    empty, x, y = arm(), arm(paths=("/x",)), arm(paths=("/y",))
    assert verdict(PATHS, empty, empty) == ("inconclusive", "dimension empty in both arms")
    for a, b, name in ((empty, x, "arm-a"), (x, empty, "arm-b")):
        detail = f"dimension absent in {name}; cannot tell if not emitted or not measured"
        assert verdict(PATHS, a, b) == ("inconclusive", detail)
    assert verdict(PATHS, x, x) == ("task-induced", "full overlap")
    assert verdict(PATHS, x, y) == ("runtime-induced", "2 non-shared item(s); 0 fixture, 2 unclassified")
    some = DriftOptions(fixture_paths=("/x",))
    assert verdict(PATHS, x, y, some) == (
        "runtime-induced",
        "2 non-shared item(s); 1 fixture, 1 unclassified",
    )
    both = DriftOptions(fixture_paths=("/x", "/y"))
    assert verdict(PATHS, x, y, both) == (
        "task-induced",
        "all 2 non-shared item(s) match known fixture paths",
    )


def test_hosts_of_the_provider_are_told_apart_in_the_network_row_alone() -> None:
    a, b = arm(endpoints=("api.openai.com:443", "1.1.1.1:53")), arm(endpoints=("1.1.1.1:53",))
    assert verdict(NETWORK, a, b) == (
        "provider-induced",
        "all 1 non-shared item(s) match provider host whitelist",
    )
    mixed = arm(endpoints=("10.0.0.1:1", "[::1]:2"))
    found = verdict(NETWORK, a, mixed)
    assert found == ("runtime-induced", "4 non-shared item(s); 1 provider, 0 fixture, 3 unclassified")
    known = DriftOptions(provider_hosts=(*PROVIDER_HOSTS, "::1", "10.0.0.1", "1.1.1.1"))
    assert verdict(NETWORK, a, mixed, known)[0] == "provider-induced"
    as_paths = verdict(PATHS, arm(paths=("api.openai.com:443",)), arm(paths=("x",)))
    assert as_paths == ("runtime-induced", "2 non-shared item(s); 0 fixture, 2 unclassified")


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_diagnostic_scope_makes_differing_endpoints_inconclusive(side: str) -> None:
    diagnostic = EndpointScope.DIAGNOSTIC_ONLY
    a = arm(endpoints=("1.1.1.1:1",), scope=diagnostic if side == "a" else None)
    b = arm(endpoints=("api.openai.com:1",), scope=diagnostic if side == "b" else None)
    told = ("diagnostic_only", "unspecified") if side == "a" else ("unspecified", "diagnostic_only")
    detail = f"network_endpoints claim scope is diagnostic-only (arm-a={told[0]}, arm-b={told[1]})"
    assert verdict(NETWORK, a, b) == ("inconclusive", detail)
    assert verdict(NETWORK, a, a)[0] == "task-induced"
    nothing = arm(scope=diagnostic)
    assert "dimension absent" in verdict(NETWORK, a, nothing)[1]


def test_tool_order_is_compared_as_a_sequence_without_ids() -> None:
    ab, ba, none = arm(tools=("read", "write")), arm(tools=("write", "read")), arm()
    order = DriftDimension.ORDER
    assert verdict(order, ab, ab) == ("task-induced", "identical sequence: read -> write")
    assert verdict(order, ab, ba) == ("runtime-induced", "a: read -> write | b: write -> read")
    assert row(order, ab, ba).in_both == ("read", "write")
    assert verdict(order, none, none) == ("inconclusive", "no tool_call_started events in either arm")
    assert verdict(order, ab, none) == ("inconclusive", "invocation order absent in one arm")
    assert verdict(DriftDimension.SDK_EVENTS, ab, ba) == ("task-induced", "full overlap")


def test_file_operations_are_those_of_opens_that_succeeded() -> None:
    created = open_event(
        run_id="r", seq=0, pid=1, value="/x", flags=0o1101, mode=0, resolve=0, return_value=3
    )
    failed = open_event(run_id="r", seq=1, pid=1, value="/y", flags=0, mode=0, resolve=0, return_value=-2)
    early = other_event(run_id="r", seq=2, pid=1, event_type=1, value="/first-generation")
    one = evolve(arm(), kernel=(created, failed, early))
    operations = DriftDimension.FILE_OPERATIONS
    assert row(operations, one, one).in_both == ("create:/x", "truncate:/x", "write:/x")
    other = evolve(arm(), kernel=(evolve(created, value="/z"),))
    declared = DriftOptions(fixture_paths=("/x", "/z"))
    assert verdict(operations, one, other, declared)[0] == "task-induced"


def test_rows_come_in_their_order_and_are_summed_up() -> None:
    report = drift(load_arm(S5), load_arm(HIDDEN))
    assert [one.dimension for one in report.rows] == list(DriftDimension)
    counts = report.summary
    assert counts.dimensions_checked == 7
    assert counts.task_induced + counts.provider_induced + counts.runtime_induced + counts.inconclusive == 7
    by_name = {one.dimension: one for one in report.rows}
    assert by_name[DriftDimension.FILE_OPERATIONS].only_in_b == (
        "create:/workspace/hidden-write-output.txt",
        "truncate:/workspace/hidden-write-output.txt",
        "write:/workspace/hidden-write-output.txt",
    )
    assert by_name[DriftDimension.SDK_EVENTS].in_both == (
        "tool_call_completed:read_file",
        "tool_call_started:read_file",
    )


def test_the_report_has_the_contracts_keys_in_their_order() -> None:
    document = json.loads(to_json(drift(load_arm(S5), load_arm(HIDDEN))))
    assert list(document) == ["schema", "archive_a", "archive_b", "taxonomy", "provenance", "rows", "summary"]
    assert list(document["archive_a"]) == [
        "path",
        "run_id",
        "runtime_label",
        "manifest_digest",
        "sdk_event_count",
    ]
    assert document["archive_a"]["runtime_label"] == "openai-agents-fixture"
    assert document["taxonomy"]["categories"] == list(PathClass)
    assert list(document["provenance"]) == [
        "schema", "assay_version", "assay_commit", "render_metadata", "runner_schema_versions", "kernel",
        "ebpf_object_digest", "workflow", "input_archives", "non_claims",
    ]  # fmt: skip
    assert list(document["provenance"]["render_metadata"]) == [
        "kind", "rendered_at", "comparator_commit", "source_run_url", "raw_captures_unchanged",
    ]  # fmt: skip
    assert list(document["rows"][0]) == [
        "dimension", "source", "only_in_a", "only_in_b", "in_both", "classification", "detail", "projection",
    ]  # fmt: skip
    assert list(document["summary"]) == [
        "dimensions_checked", "task_induced", "provider_induced", "runtime_induced", "inconclusive",
    ]  # fmt: skip


def test_provenance_says_what_was_declared_and_found_and_nothing_else(extract: Extract) -> None:
    a = load_arm(S5)
    said = drift(a, load_arm(HIDDEN), DriftOptions(assay_commit="c", workflow_url="u")).provenance
    assert (said.assay_version, said.assay_commit, said.workflow.url) == (__version__, "c", "u")
    assert said.render_metadata.kind == "unspecified"
    assert said.render_metadata.raw_captures_unchanged is None
    assert (said.kernel.os, said.kernel.arch) == ("linux", "x86_64")
    assert said.ebpf_object_digest
    assert said.ebpf_object_digest.startswith("sha256:")
    assert [one.manifest_digest for one in said.input_archives] == [
        a.archive.identity,
        read_archive(HIDDEN).identity,
    ]

    def elsewhere(members: dict[str, bytes]) -> None:
        members["companion/host.json"] = members["companion/host.json"].replace(b'"x86_64"', b'"aarch64"')

    other = drift(a, load_arm(extract(S5, elsewhere))).provenance
    assert other.kernel.arch is None  # the two do not agree: not known for both

    def bare(members: dict[str, bytes]) -> None:
        for name in [name for name in members if name.startswith("companion/")]:
            del members[name]

    reference = drift(a, load_arm(extract(S5, bare, forge=False))).provenance
    assert (reference.kernel.os, reference.kernel.release, reference.ebpf_object_digest) == (None, None, None)


# --- projections -------------------------------------------------------------------------------------


def test_names_stand_beside_the_raw_values_and_change_no_verdict() -> None:
    a, b = arm(paths=("/w1/in", "/w1/x", "/s")), arm(paths=("/w2/in", "/s"))
    plain = row(PATHS, a, b)
    options = declare(DriftOptions(), path_aliases=["/w1/in=workdir/in", "/w2/in=workdir/in@cache"])
    named = row(PATHS, a, b, options)
    assert evolve(named, projection=plain.projection) == plain
    shown = named.projection
    assert (shown.only_in_a, shown.only_in_b, shown.in_both) == (("/w1/x",), (), ("/s", "workdir/in"))
    assert shown.claim_level == "projected_equivalent"
    assert shown.rules == ("declared_path_alias",)
    assert shown.mappings
    assert [(m.side, m.raw_value, m.projected_value, m.path_class, m.relation) for m in shown.mappings] == [
        ("a", "/w1/in", "workdir/in", "workload_fixture", "declared_path"),
        ("b", "/w2/in", "workdir/in", "cache", "declared_path"),
    ]
    assert shown.unmatched_summary
    assert (shown.unmatched_summary.a.count, shown.unmatched_summary.a.samples) == (2, ("/s", "/w1/x"))
    assert (shown.unmatched_summary.b.count, shown.unmatched_summary.b.samples) == (1, ("/s",))


def test_an_operation_stays_before_the_projected_path() -> None:
    event = open_event(run_id="r", seq=0, pid=1, value="/x", flags=0o101, mode=0, resolve=0, return_value=3)
    one = evolve(arm(), kernel=(event,))
    options = declare(DriftOptions(), path_aliases=["/x=in"])
    assert row(DriftDimension.FILE_OPERATIONS, one, one, options).projection.in_both == (
        "create:in",
        "write:in",
    )


def test_no_declaration_no_projection_and_samples_are_few() -> None:
    none = row(PATHS, arm(paths=("/x",)), arm(paths=("/x",))).projection
    assert (none.schema, none.status, none.mappings) == (
        "assay.runner.projection_not_applied.v0",
        "not_applied",
        None,
    )
    options = declare(DriftOptions(), path_aliases=["/nowhere=x"])
    many = arm(paths=tuple(f"/{n}" for n in range(9)))
    shown = row(PATHS, many, many, options).projection
    assert (shown.status, shown.claim_level, shown.mappings, shown.rules) == (
        "applied",
        "inconclusive",
        (),
        (),
    )
    assert shown.unmatched_summary
    assert shown.unmatched_summary.a.count == 9
    assert len(shown.unmatched_summary.a.samples) == shown.unmatched_summary.a.sample_limit == 3
    assert row(DriftDimension.EXECS, many, many, options).projection.status == "not_applied"


def test_endpoints_are_named_exactly_first_and_then_by_the_narrowest_block() -> None:
    options = declare(
        DriftOptions(),
        network_aliases=["10.0.0.1:443=gateway@dns"],
        network_cidrs=["10.0.0.0/8=inside", "10.0.0.0/24=office", "fd00::/8=six"],
    )
    one = arm(
        endpoints=("10.0.0.1:443", "10.0.0.1:80", "10.9.0.1:80", "[fd00::1]:1", "8.8.8.8:53", "named:1")
    )
    shown = row(NETWORK, one, one, options).projection
    assert shown.in_both == ("8.8.8.8:53", "gateway", "inside", "named:1", "office", "six")
    assert shown.rules == ("declared_network_alias", "declared_network_cidr_alias")
    assert shown.schema == "assay.runner.network_projection.v0"


@pytest.mark.parametrize(
    "declared",
    [
        {"path_aliases": ["x"]},
        {"path_aliases": ["=x"]},
        {"path_aliases": ["/x="]},
        {"path_aliases": ["/x=@cache"]},
        {"path_aliases": ["/x=a", "/x=b"]},
        {"network_cidrs": ["10.0.0.1/8=x"]},
        {"network_cidrs": ["office=x"]},
    ],
)
def test_a_declaration_that_says_nothing_is_exit_2(declared: dict[str, list[str]]) -> None:
    with pytest.raises(InputError) as caught:
        declare(DriftOptions(), **declared)
    assert caught.value.place
    assert caught.value.hint


def test_the_last_equals_sign_and_a_known_class_divide() -> None:
    (one,) = declare(DriftOptions(), path_aliases=["/a=b=c@d@loader"]).paths.aliases
    assert (one.raw, one.name, one.path_class) == ("/a=b", "c@d", PathClass.LOADER)
    (other,) = declare(DriftOptions(), path_aliases=["/a=me@home"]).paths.aliases
    assert (other.name, other.path_class) == ("me@home", PathClass.WORKLOAD_FIXTURE)


@given(VALUES, VALUES, st.booleans())
def test_swapped_archives_give_the_mirror_and_the_bytes_read_back(
    left: set[str], right: set[str], named: bool
) -> None:
    options = declare(DriftOptions(), path_aliases=["/a=in"] if named else [])
    a, b = arm(paths=tuple(left)), arm(paths=tuple(right))
    there, back = drift(a, b, options), drift(b, a, options)
    for one, other in zip(there.rows, back.rows, strict=True):
        assert (one.only_in_a, one.only_in_b, one.in_both) == (
            other.only_in_b,
            other.only_in_a,
            other.in_both,
        )
        assert one.classification is other.classification
    read = parse(DriftReport, load_json(to_json(there), "report"))
    read.validate()
    assert read == there


@given(VALUES)
def test_an_archive_against_itself_has_no_drift(values: set[str]) -> None:
    one = arm(paths=tuple(values))
    for found in drift(one, one).rows:
        assert (found.only_in_a, found.only_in_b) == ((), ())
        assert found.classification in (Classification.TASK, Classification.INCONCLUSIVE)


# --- what the evidence bears -------------------------------------------------------------------------


def test_the_worse_archive_decides_what_may_be_claimed(extract: Extract) -> None:
    def lossy(members: dict[str, bytes]) -> None:
        health = members["observation-health.json"]
        members["observation-health.json"] = health.replace(
            b'"kernel_layer":"complete"', b'"kernel_layer":"partial_ringbuf_drops"'
        )

    good, bad = load_arm(S5), load_arm(extract(HIDDEN, lossy))
    assert bad.health.kernel_layer is KernelLayer.PARTIAL

    def decisions(a: Arm, b: Arm) -> dict[tuple[DriftDimension, ClaimKind], Decision]:
        return {(one.dimension, one.kind): one.decision for one in annotate(a, b).annotations}

    clean, worse = decisions(good, good), decisions(good, bad)
    assert worse == decisions(bad, good)
    assert clean[PATHS, ClaimKind.POSITIVE] is Decision.ALLOWED
    assert worse[PATHS, ClaimKind.POSITIVE] is Decision.DEGRADED
    assert clean[PATHS, ClaimKind.NEGATIVE] is Decision.BLOCKED  # there are blind spots
    assert (
        clean[DriftDimension.SDK_EVENTS, ClaimKind.POSITIVE] is Decision.BLOCKED
    )  # self-report, not measured
    assert len(clean) == 21


@pytest.mark.parametrize(
    ("text", "blocked"),
    [
        ("positive:filesystem_paths_touched", False),
        ("exhaustive:process_execs", False),
        ("bounded_negative:network_endpoints", True),
        ("positive:sdk_tool_events", True),
    ],
)
def test_an_assertion_is_blocked_or_not(text: str, blocked: bool) -> None:
    one = load_arm(S5)
    assert is_blocked(annotate(one, one), *read_assertion(text)) is blocked


@pytest.mark.parametrize("text", ["", "positive", "positive:", "maybe:process_execs", "positive:execs"])
def test_an_unknown_assertion_is_exit_2_and_lists_the_known_ones(text: str) -> None:
    with pytest.raises(InputError, match="bounded_negative"):
        read_assertion(text)


def test_reports_of_the_reference_need_no_companion(extract: Extract) -> None:
    def bare(members: dict[str, bytes]) -> None:
        for name in [name for name in members if name.startswith("companion/")]:
            del members[name]

    one = load_arm(extract(S5, bare, forge=False))
    found = {(a.dimension, a.kind): a.decision for a in annotate(one, one).annotations}
    assert found[PATHS, ClaimKind.POSITIVE] is Decision.ALLOWED
    assert found[NETWORK, ClaimKind.POSITIVE] is Decision.BLOCKED  # its health does not say what was covered
