"""The candidate table on archives made without a machine: each requirement can fail, and says why."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from harness.contracts.probe_report import ProbeReport
from harness.errors import InputError
from harness.gates.candidate import (
    IDENTICAL,
    MISSING_ID,
    MULTI,
    MULTI_FILES,
    NO_ID,
    SINGLE,
    TARGET,
    Declared,
    Seen,
    judge,
)
from harness.gates.catalog import all_runtimes, find_fixture
from harness.gates.probe import ways
from harness.present.probe import as_matrix, as_text

IMAGE = "sha256:" + "1" * 64
MULTI_IDS = tuple(f"m_{number:03}" for number in range(1, 6))
DECLARED = Declared(
    id_source="local_model",
    network="none",
    volatile=(),
    multi_ids=MULTI_IDS,
    image_id=IMAGE,
    locked={"sdk": "1.0"},
)
Runs = dict[str, Seen]


def event(kind: str, call: str | None = None) -> dict[str, Any]:
    return {"event_type": kind, "tool_call_id": call, "sdk_name": "sdk", "sdk_version": "1.0"}


def run(calls: dict[str, str], *, denied: str = "", ids: str = "") -> Seen:
    """A good run: the SDK starts and ends each call, the policy decides it, the tools do what is allowed."""
    done = [file for one, file in calls.items() if one != denied]
    decided = {one: "deny" if one == denied else "allow" for one in calls}
    told = [event(f"tool_call_{what}", one) for one in calls for what in ("started", "completed")]
    read = [{"action": "read", "result": "done", "roles": ["tools"]}]
    return Seen(
        {
            "companion/network.json": {"seals": [{"problems": [], "packets": 0, "declared": "none"}]},
            "companion/runspec.json": {"image_id": IMAGE, "env": {"ASSAY_RUNNER_CALL_IDS": ids}},
            "companion/accounting.json": {
                "clean": True,
                "unclean": [],
                "missing_witnesses": [],
                "idless_calls": 0,
                "identities": [{"name": "n", "holds": True}],
                "capture": {"received": 9, "kinds": {"open": {"dropped": 0}}},
            },
            "companion/attribution.json": {
                "calls": [{"tool_call_id": one, "tool": "read_file", "paths": [calls[one]]} for one in calls]
            },
            "companion/kernel.ndjson": [{"path": file, "role": "tools"} for file in done],
            "companion/surface.json": {"paths": [{"path": file, "actions": read} for file in set(done)]},
            "capability-surface.json": {
                "filesystem_paths": ["/workspace/task.txt", *done],
                "network_endpoints": [],
                "mcp_tools": ["read_file"],
                "policy_decisions": sorted({f"{word}:read_file" for word in decided.values()}),
            },
            "correlation-report.json": {"bindings": list(calls), "status": "clean"},
            "layers/policy.ndjson": [{"tool_call_id": one, "decision": decided[one]} for one in calls],
            "layers/sdk.ndjson": [*told, event("run_finished")],
            "observation-health.json": {
                "kernel_layer": "complete",
                "ringbuf_drops": 0,
                "policy_layer": "present",
                "sdk_layer": "self_reported",
                "cgroup_correlation": "clean",
            },
        },
        [{"tool_call_id": one, "reason_code": "rule"} for one in calls],
    )


@pytest.fixture
def runs() -> Runs:
    made = {name: run({"c_001": TARGET}) for name in SINGLE}
    made[MULTI] = run(dict(zip(MULTI_IDS, MULTI_FILES, strict=True)), denied=MULTI_IDS[3])
    made[IDENTICAL] = run({"p_001": TARGET, "p_002": TARGET}, ids="p_")
    absent = run({})
    absent["companion/accounting.json"].update(clean=False, unclean=["idless"], idless_calls=1)
    made[NO_ID] = evolve(absent, decisions=[{"tool_call_id": None, "reason_code": MISSING_ID}])
    return made


def failed(runs: Runs, declared: Declared = DECLARED) -> dict[str, list[str]]:
    rows = judge(runs, declared)
    return {
        row.requirement: [finding.text for finding in row.findings if not finding.passed]
        for row in rows
        if not row.passed
    }


def test_a_good_candidate_passes_in_every_row(runs: Runs) -> None:
    assert failed(runs) == {}
    assert len(judge(runs, DECLARED)) == 7


def put(name: str, *path: str | int, value: Any) -> Callable[[Runs], None]:
    def change(runs: Runs) -> None:
        target: Any = runs[name].documents
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


SDK, POLICY, BOOKS = "layers/sdk.ndjson", "layers/policy.ndjson", "companion/accounting.json"
CALLS, SURFACE = "companion/attribution.json", "capability-surface.json"
SEAL = ("companion/network.json", "seals", 0)
BROKEN: dict[str, tuple[str, Callable[[Runs], None]]] = {
    "a packet": ("offline", put(MULTI, *SEAL, "packets", value=1)),
    "a broken seal": ("offline", put(NO_ID, *SEAL, "problems", value=["links"])),
    "an endpoint": ("offline", put(IDENTICAL, SURFACE, "network_endpoints", value=["192.0.2.1:53"])),
    "another id in the third run": (
        "stable identity",
        put(SINGLE[2], POLICY, 0, "tool_call_id", value="random"),
    ),
    "swapped ids": ("stable identity", put(MULTI, CALLS, "calls", 1, "paths", value=["/workspace/b.txt"])),
    "a call that is not told as ended": (
        "stable identity",
        put(MULTI, SDK, 1, "tool_call_id", value=None),
    ),
    "one id for two calls": (
        "stable identity",
        put(IDENTICAL, CALLS, "calls", 1, "tool_call_id", value="p_001"),
    ),
    "an id of another's making": (
        "stable identity",
        put(IDENTICAL, CALLS, "calls", 1, "tool_call_id", value="x"),
    ),
    "an id decided twice": ("stable identity", put(IDENTICAL, POLICY, 1, "tool_call_id", value="p_001")),
    "done although denied": (
        "stable identity",
        put(MULTI, "companion/kernel.ndjson", 0, "path", value=MULTI_FILES[3]),
    ),
    "allowed although denied": ("stable identity", put(MULTI, POLICY, 3, "decision", value="allow")),
    "done although without id": (
        "stable identity",
        put(NO_ID, "companion/kernel.ndjson", value=[{"path": TARGET, "role": "tools"}]),
    ),
    "another tool": ("comparable surface", put(SINGLE[0], SURFACE, "mcp_tools", value=["write_file"])),
    "more than asked for": (
        "comparable surface",
        put(SINGLE[0], "companion/surface.json", "paths", value=[]),
    ),
    "another image": (
        "locked dependencies",
        put(NO_ID, "companion/runspec.json", "image_id", value="sha256:" + "2" * 64),
    ),
    "another version": ("locked dependencies", put(SINGLE[0], SDK, 0, "sdk_version", value="1.1")),
    "lost records": ("Linux/eBPF fit", put(IDENTICAL, BOOKS, "capture", "kinds", "open", "dropped", value=1)),
    "a broken identity": ("Linux/eBPF fit", put(MULTI, BOOKS, "identities", 0, "holds", value=False)),
    "two bindings": (
        "small event shape",
        put(SINGLE[0], "correlation-report.json", "bindings", value=["a", "b"]),
    ),
    "a kernel witness that missed something": (
        "Linux/eBPF fit",
        put(MULTI, BOOKS, "unclean", value=["boundary_missing:tools"]),
    ),
    "another witness that missed something": (
        "evidence boundary",
        put(IDENTICAL, BOOKS, "clean", value=False),
    ),
    "unclean health": (
        "evidence boundary",
        put(SINGLE[1], "observation-health.json", "kernel_layer", value="absent"),
    ),
    "clean without an id": ("evidence boundary", put(NO_ID, BOOKS, "clean", value=True)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_requirement_can_fail(name: str, runs: Runs) -> None:
    requirement, break_it = BROKEN[name]
    broken = copy.deepcopy(runs)
    break_it(broken)
    assert requirement in failed(broken)


def test_a_made_up_id_that_is_believed_fails_with_both_values(runs: Runs) -> None:
    runs[NO_ID] = run({"pyd_ai_0": TARGET})
    (text, touched) = failed(runs)["stable identity"]
    assert text == 'no id: the model gave null, the policy layer has ["pyd_ai_0"]: made up, and believed'
    assert touched == f"no id: {TARGET} was touched by tools"


def test_a_made_up_id_that_is_refused_is_told_and_passes(runs: Runs) -> None:
    told = [event("tool_call_started", "pyd_ai_0"), event("run_failed")]
    runs[NO_ID] = Seen({**runs[NO_ID].documents, SDK: told}, [])
    assert failed(runs) == {}
    identity = judge(runs, DECLARED)[1]
    (text,) = (finding.text for finding in identity.findings if "model gave null" in finding.text)
    assert (
        text
        == 'no id: the model gave null, the SDK told ["pyd_ai_0"]; refused before the policy (run_failed)'
    )


def test_a_denial_for_another_reason_is_not_an_absent_id(runs: Runs) -> None:
    runs[NO_ID] = evolve(runs[NO_ID], decisions=[{"tool_call_id": None, "reason_code": "default"}])
    assert "denied for ['default']" in failed(runs)["stable identity"][0]


def without_ids(run: Seen) -> Seen:
    """The same calls as they would be seen if the agent's SDK had told no id to anybody."""
    lost = [{"tool_call_id": None, "reason_code": MISSING_ID} for _ in run[POLICY]]
    books = run[BOOKS] | {
        "clean": False,
        "unclean": ["missing_witness:policy"],
        "missing_witnesses": ["policy"],
        "idless_calls": len(lost),
    }
    nothing = {
        BOOKS: books,
        CALLS: {"calls": []},
        POLICY: [],
        SDK: [event("run_finished")],
        "companion/kernel.ndjson": [],
        "companion/surface.json": {"paths": []},
        SURFACE: run[SURFACE] | {"mcp_tools": [], "policy_decisions": []},
        "correlation-report.json": {"bindings": [], "status": "partial"},
        "observation-health.json": run["observation-health.json"] | {"policy_layer": "absent"},
    }
    return Seen({**run.documents, **nothing}, lost)


def test_calls_that_lost_their_ids_fail_for_that(runs: Runs) -> None:
    found = failed({name: without_ids(run) if name != NO_ID else run for name, run in runs.items()})
    assert list(found) == ["stable identity", "comparable surface", "small event shape", "evidence boundary"]
    assert (
        "calls that came without the id that the model gave: single-1 1 of 1, single-2 1 of 1, "
        "single-3 1 of 1, multi-tool 5 of 5, identical-calls 2 of 2: missing_tool_call_id"
    ) in found["stable identity"]
    assert "multi-tool: not clean because of: missing_witness:policy" in found["evidence boundary"]


def test_one_call_that_lost_its_id_is_enough(runs: Runs) -> None:
    lost = {"tool_call_id": None, "reason_code": MISSING_ID}
    runs[MULTI] = evolve(runs[MULTI], decisions=[*runs[MULTI].decisions, lost])
    text = "calls that came without the id that the model gave: multi-tool 1 of 6: missing_tool_call_id"
    assert failed(runs) == {"stable identity": [text]}


@pytest.mark.parametrize(
    ("events", "met"),
    [
        ([event("run_failed")], ["offline", "locked dependencies", "Linux/eBPF fit"]),
        ([], ["offline", "Linux/eBPF fit"]),
    ],
    ids=["told", "untold"],
)
def test_an_agent_that_fails_at_once_is_judged_in_every_row(
    events: list[dict[str, Any]], met: list[str], runs: Runs
) -> None:
    nothing = {name: evolve(without_ids(run), decisions=[]) for name, run in runs.items()}
    for run in nothing.values():
        run[SDK][:] = events
    rows = judge(nothing, DECLARED)
    assert len(rows) == 7
    assert [row.requirement for row in rows if row.passed] == met


def test_runs_that_differ_and_an_image_without_a_lock_fail(runs: Runs) -> None:
    found = failed(runs, evolve(DECLARED, image_id=None, locked={}, divergences=("run 1 and run 2 differ",)))
    assert found == {
        "locked dependencies": [
            f"image: {IMAGE}, the lock says None",
            "sdk: 1.0 told, None locked",
            "run 1 and run 2 differ",
        ]
    }


def test_packets_to_itself_are_offline_only_where_declared(runs: Runs) -> None:
    seal = {"problems": [], "packets": 7, "declared": "loopback"}
    for name in runs:
        runs[name]["companion/network.json"]["seals"] = [seal]
        runs[name]["capability-surface.json"]["network_endpoints"] = ["127.0.0.1:80"]
    assert failed(runs, evolve(DECLARED, network="loopback")) == {}
    assert failed(runs) == {"offline": ["endpoints: 127.0.0.1:80"]}


def test_the_report_reads_well(runs: Runs) -> None:
    runs[SINGLE[0]][SDK][0]["sdk_version"] = "1.1"
    rows = judge(runs, DECLARED)
    report = ProbeReport(
        runtime="sdk\x1b[2J",
        sdk_name="sdk",
        sdk_version="1.0",
        id_source="local_model",
        image_id=IMAGE,
        image_locked=True,
        passed=False,
        rows=rows,
        runs={},
    )
    assert "  FAIL locked dependencies\n" in as_text(report)
    assert "       FAIL sdk: 1.1 told, 1.0 locked\n" in as_text(report)
    heading, line = as_matrix([report]).splitlines()
    assert heading.split()[:5] == ["runtime", "SDK", "version", "id", "source"]
    assert line.split()[-4:] == ["pass", "pass", "pass", "FAIL"]
    assert "\x1b" not in as_text(report) + line


@pytest.mark.parametrize("name", ["kernel-only", "openai-agents-hidden-write", "pydantic-ai:multi-tool"])
def test_what_cannot_be_asked_is_named(name: str) -> None:
    with pytest.raises(InputError, match=name):
        ways(find_fixture(name))


def test_every_runtime_can_be_asked() -> None:
    for fixture in all_runtimes():
        asked = ways(fixture)
        assert list(asked) == [*SINGLE, MULTI, IDENTICAL, NO_ID]
        ids = {name: way.file.subject.env.get("ASSAY_RUNNER_CALL_IDS") for name, (way, _) in asked.items()}
        assert ids[NO_ID] == ""
        assert ids[IDENTICAL]
