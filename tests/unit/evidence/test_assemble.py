"""A whole run from observation to members."""

import json
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.contracts import manifest
from harness.contracts.canonical import load_json, load_ndjson, to_bytes
from harness.contracts.companion import COMPANION_MODELS, COMPANION_SCHEMAS, COMPARED_COMPANION
from harness.contracts.converter import parse, unstructure
from harness.evidence.assemble import Assembled, assemble
from harness.evidence.image import ImageFiles
from harness.evidence.model import Observation, RoleOutcome
from tests.unit.evidence.build import (
    IMAGE,
    RUN_ID,
    SDK_LINES,
    Run,
    context,
    decision,
    log,
    observe,
    sdk_event,
)

COMPARED_V0 = (manifest.HEALTH, manifest.SURFACE, manifest.CORRELATION, manifest.SDK, manifest.POLICY)
INPUT, POLICY_INPUT = "/workspace/openai-agents-input.txt", "/workspace/policy-input.txt"
HIDDEN = "/workspace/hidden-write-output.txt"


def archive(observation: Observation, **changes: Any) -> Assembled:
    return assemble(observation, context(**changes))


def document(assembled: Assembled, member: str) -> Any:
    return load_json({**assembled.v0, **assembled.companion}[member], member)


def test_s5_gives_exactly_the_two_inputs() -> None:
    clean = archive(Run(1).observation())
    assert (
        clean.v0[manifest.SURFACE]
        == (
            f'{{"schema":"assay.runner.capability_surface.v0","run_id":"{RUN_ID}","filesystem_paths":["{INPUT}",'
            f'"{POLICY_INPUT}"],"network_endpoints":[],"process_execs":[],"mcp_tools":["read_file"],'
            '"policy_decisions":["allow:read_file"]}'
        ).encode()
    )
    assert (
        clean.v0[manifest.CORRELATION]
        == (
            f'{{"schema":"assay.runner.correlation_report.v0","run_id":"{RUN_ID}","status":"clean","bindings":['
            '{"tool_call_id":"tc_1","policy_decision":"allow","kernel_event_count":2,"window":{"start":"run_started",'
            '"end":"run_finished"}}],"ambiguities":[]}'
        ).encode()
    )
    assert (
        clean.v0[manifest.HEALTH]
        == (
            f'{{"schema":"assay.runner.observation_health.v0","run_id":"{RUN_ID}","platform":"linux",'
            '"kernel_layer":"complete","ringbuf_drops":0,"policy_layer":"present","sdk_layer":"self_reported",'
            '"cgroup_correlation":"clean","notes":["s2_kernel_capture: monitor_events=2 ringbuf_drops=0",'
            '"s4_policy_capture: decision_events=1","s5_sdk_capture: sdk_events=3 sdk_tool_calls=1"]}'
        ).encode()
    )
    assert clean.clean


def test_s5_companion() -> None:
    clean = archive(Run(1).observation())
    (call,) = document(clean, "companion/attribution.json")["calls"]
    assert [(e["process"], e["path"], e["match"]) for e in call["evidence"]] == [
        ("tools.0.0", POLICY_INPUT, "exact")
    ]
    surface = document(clean, "companion/surface.json")
    assert [path["path"] for path in surface["paths"]] == [INPUT, POLICY_INPUT]
    assert surface["paths"][1]["actions"] == [{"action": "read", "result": "done", "roles": ["tools"]}]
    assert "/dev/null" in [path["path"] for path in surface["telemetry"]]
    tree = document(clean, "companion/processes.json")["processes"]
    assert [node["process"] for node in tree] == ["subject.0", "subject.0.0", "tools.0", "tools.0.0"]
    classes = document(clean, "companion/accounting.json")["records"]["classes"]
    assert classes["sentinel"] == 2
    assert classes["setup"] >= 2


def test_a_hidden_write_is_the_subjects() -> None:
    hidden = archive(Run(1, hidden_write=True).observation())
    plain = archive(Run(1).observation())
    assert hidden.v0[manifest.SDK] == plain.v0[manifest.SDK]
    assert hidden.v0[manifest.POLICY] == plain.v0[manifest.POLICY]
    assert hidden.surface.filesystem_paths == (HIDDEN, INPUT, POLICY_INPUT)
    assert hidden.correlation.bindings[0].kernel_event_count == 3
    events = load_ndjson(hidden.v0[manifest.KERNEL], "kernel")
    (write,) = [event for event in events if event["value"] == HIDDEN]
    assert (write["access_mode"], write["status"]) == ("write", "success")
    assert "create" in write["operation_flags"]
    (line,) = [
        e for e in load_ndjson(hidden.companion["companion/kernel.ndjson"], "k") if e["path"] == HIDDEN
    ]
    assert (line["operation"], line["process"], line["event_class"]) == ("create", "subject.0", "evidence")
    unattributed = document(hidden, "companion/attribution.json")["unattributed"]
    assert HIDDEN in [entry["path"] for entry in unattributed]


@pytest.mark.parametrize("hidden_write", [False, True])
@given(first=st.integers(0, 10**9), second=st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_nothing_that_varies_enters_the_compared_members(hidden_write: bool, first: int, second: int) -> None:
    """Pids, threads, descriptors, times, order between processes, repeated reads, setup, races at the end."""
    one = archive(Run(first, hidden_write=hidden_write).observation())
    two = archive(Run(second, hidden_write=hidden_write).observation())
    assert one.clean, one.unclean
    for member in COMPARED_V0:
        assert one.v0[member] == two.v0[member]
    for member in COMPARED_COMPANION:
        assert one.companion[member] == two.companion[member]


def test_the_test_above_can_fail() -> None:
    """The varied runs do differ where contracts allow it."""
    one, two = archive(Run(1).observation()), archive(Run(2).observation())
    assert one.v0[manifest.KERNEL] != two.v0[manifest.KERNEL]
    assert one.v0[manifest.EVENTS] != two.v0[manifest.EVENTS]
    assert one.companion["companion/accounting.json"] != two.companion["companion/accounting.json"]


def test_the_same_observation_gives_the_same_bytes() -> None:
    observation = Run(3).observation()
    one, two = archive(observation), archive(observation)
    assert (one.v0, one.companion) == (two.v0, two.companion)


def test_every_member_is_there_and_reads_back() -> None:
    found = archive(Run(1, hidden_write=True).observation())
    assert set(found.v0) == set(manifest.V0_MEMBERS) - {manifest.MANIFEST}
    assert set(found.companion) == set(COMPANION_SCHEMAS) == set(COMPANION_MODELS)
    for member, data in found.companion.items():
        lines = member.endswith(".ndjson")
        for read in load_ndjson(data, member) if lines else [load_json(data, member)]:
            assert read["schema"] == COMPANION_SCHEMAS[member]
            assert read["run_id"] == RUN_ID
            assert unstructure(parse(COMPANION_MODELS[member], read)) == read
            assert to_bytes(read) + b"\n" * lines in data + b"\n" * (not lines)


def test_events_of_a_good_run() -> None:
    started, finished = load_ndjson(archive(Run(1).observation(elapsed_ms=77)).v0[manifest.EVENTS], "events")
    assert list(started) == [
        "schema", "run_id", "seq", "type", "agent_shim", "command", "env_keys", "window_elapsed_ms",
    ]  # fmt: skip
    assert started["env_keys"] == ["A", "B"]
    assert (finished["exit_code"], finished["success"], finished["window_elapsed_ms"]) == (0, True, 77)


def test_runspec_has_all_that_replay_needs() -> None:
    told = document(archive(Run(1).observation()), "companion/runspec.json")
    assert told["env"] == {"A": "1", "B": "2"}
    assert told["plumbing"]["tools"][1] == told["tools_server"]
    assert told["deadline_s"] == 60.0
    assert told["inputs"] == {"policy-input.txt": "sha256:" + "2" * 64}
    assert (told["image_locked"], told["image_files_sha256"]) == (False, IMAGE.files and IMAGE.files.sha256)
    assert [program["part"] for program in told["programs"]] == ["entry", "bridge", "proxy", "server"]
    assert told["programs"][0]["path"] == told["programs"][0]["argv"][0]


def test_the_image_list_decides_what_is_plumbing_and_its_digest_is_told() -> None:
    run = Run(1)
    opened = {record.walked for record in run.trace.records if record.walked.startswith(b"/opt/app/")}
    assert opened
    files = ImageFiles("sha256:" + "3" * 64, frozenset({b"/opt/app"}))
    image = evolve(IMAGE, files=files, locked=True)
    found = archive(run.observation(), image=image)
    told = document(found, "companion/runspec.json")
    assert (told["image_locked"], told["image_files_sha256"]) == (True, files.sha256)
    more = evolve(files, paths=files.paths | opened)
    whole = archive(run.observation(), image=evolve(image, files=more))
    assert not any("/opt/app" in path for path in whole.surface.filesystem_paths)
    assert any("/opt/app" in path for path in found.surface.filesystem_paths)


def test_an_agent_that_was_killed_at_its_deadline_leaves_an_archive() -> None:
    observation = Run(1).observation(
        subject=RoleOutcome(None, 9, 1, 100), timed_out=True, survivors=2, sdk_events=log()
    )
    found = archive(observation)
    finished = load_ndjson(found.v0[manifest.EVENTS], "events")[1]
    assert (finished["exit_code"], finished["signal"], finished["success"]) == (None, 9, False)
    assert found.missing_witnesses == ("sdk",)
    assert "slice_not_empty" in found.unclean
    assert found.health.sdk_layer == "absent"
    told = document(found, "companion/accounting.json")
    assert (told["timed_out"], told["survivors"], told["clean"]) == (True, 2, False)


def test_garbage_on_both_channels_still_gives_an_archive_that_says_so() -> None:
    observation = Run(1).observation(
        decisions=log(b"\xff\xfe", b"{}", b'{"type":"x"}', errors=("overlong_line",)),
        sdk_events=log(b"not json", sdk_event(0, "tool_call_started"), sdk_event(1, "run_started")),
    )
    found = archive(observation)
    assert found.v0[manifest.POLICY] == b""
    assert found.v0[manifest.SDK] == b""
    assert (found.health.policy_layer, found.health.sdk_layer) == ("absent", "absent")
    assert {"decisions:InvalidJson", "decisions:UnexpectedEventType", "decisions:overlong_line"} <= set(
        found.unclean
    )
    assert {"sdk:InvalidJson", "sdk:MissingToolCallField", "sdk:UnsupportedEventType"} <= set(found.unclean)
    problems = document(found, "companion/accounting.json")["problems"]
    assert any(problem.startswith("sdk line 1: InvalidJson") for problem in problems)
    assert found.health.kernel_layer == "complete"


def test_good_lines_beside_bad_ones_are_kept() -> None:
    found = archive(Run(1).observation(sdk_events=log(*SDK_LINES, b"cut off {")))
    assert len(load_ndjson(found.v0[manifest.SDK], "sdk")) == 3
    assert found.unclean == ("sdk:InvalidJson",)


def test_contract_only_is_the_skeleton() -> None:
    observation = evolve(
        observe(()), accounting=None, decisions=log(), sdk_events=log(), seals=(), tools=None
    )
    found = archive(observation, witnesses=())
    assert found.health.notes == ("contract_only_mode: kernel and cgroup capture not wired in this revision",)
    assert (found.health.kernel_layer, found.health.cgroup_correlation) == ("absent", "partial")
    assert (found.correlation.status, found.correlation.ambiguities) == ("clean", ())
    assert found.v0[manifest.KERNEL] == b""
    assert found.clean
    assert document(found, "companion/accounting.json")["capture"] is None


def test_contract_only_with_policy_and_sdk() -> None:
    observation = evolve(observe(()), accounting=None, tools=None)
    found = archive(observation, witnesses=("policy", "sdk"))
    assert found.clean
    assert (found.health.kernel_layer, found.health.sdk_layer) == ("absent", "self_reported")
    assert found.correlation.ambiguities == ("policy_events_without_kernel_events",)


def test_a_call_without_id_is_counted_not_invented() -> None:
    found = archive(Run(1).observation(decisions=log(decision(None, 5, verdict="deny"), decision("tc_1", 6))))
    assert document(found, "companion/accounting.json")["idless_calls"] == 1
    assert len(load_ndjson(found.v0[manifest.POLICY], "policy")) == 1
    assert "policy_call_without_tool_call_id" in found.correlation.ambiguities


def test_an_sdk_call_that_policy_never_saw_is_an_ambiguity() -> None:
    lines = [json.loads(json.dumps(line).replace("tc_1", "tc_other")) for line in SDK_LINES]
    found = archive(Run(1).observation(sdk_events=log(*lines)))
    assert found.correlation.ambiguities == ("sdk_tool_call_without_policy_binding:tc_other",)


@pytest.mark.breaks("unclean:missing_witness:kernel")
def test_an_empty_capture_is_no_clean_run() -> None:
    found = archive(observe((), accounting=None))
    assert found.unclean == ("missing_witness:kernel",)
