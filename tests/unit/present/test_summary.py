"""What a run did in a few lines, from its archive's members."""

import json
from pathlib import Path
from typing import Any

from harness.bundle.reader import read_archive
from harness.evidence.assemble import Assembled, assemble
from harness.evidence.model import Role
from harness.present.run import as_document
from harness.present.summary import Summary, as_lines, summary_of
from tests.unit.evidence import build

DIFFS = Path(__file__).parents[2] / "golden" / "diff"
WRITES = 0o1101  # O_WRONLY, O_CREAT, O_TRUNC
UNLINK, CONNECT = 87, 42


def of(assembled: Assembled) -> Summary:
    return summary_of({**assembled.v0, **assembled.companion})


def told(*lines: dict[str, Any], trace: build.Trace | None = None, **fields: Any) -> Summary:
    trace = trace or begun()
    observation = build.observe(trace.records, **({"decisions": build.log(*lines)} | fields))
    return of(assemble(observation, build.context()))


def begun() -> build.Trace:
    trace = build.Trace()
    trace.exec(build.AGENT)
    trace.exec(build.PROXY, role=Role.TOOLS)
    return trace


def test_a_recorded_run() -> None:
    summary = summary_of(read_archive(DIFFS / "s5.tar.gz").members)
    assert as_lines(summary) == [
        "tool calls: 1 allowed, 0 denied, 0 refused",
        "files: none written; none deleted",
        "programs: none run",
        "endpoints: none tried",
        "by the agent itself, outside any tool call: none found",
    ]


def test_a_hidden_write_is_told() -> None:
    summary = summary_of(read_archive(DIFFS / "hidden-write.tar.gz").members)
    assert [name for name in summary.hidden if name.startswith("write ")]
    assert any("outside any tool call: " in line and "write /" in line for line in as_lines(summary))


def test_calls_by_how_they_ended() -> None:
    summary = told(
        build.decision("tc_1", 1),
        build.decision("tc_2", 2, verdict="deny"),
        build.decision(None, 3, verdict="deny"),
    )
    assert summary.calls is not None
    assert (summary.calls.allowed, summary.calls.denied, summary.calls.without_id) == (1, 2, 1)
    first, second, *_ = as_lines(summary)
    assert first == "tool calls: 1 allowed, 2 denied, 0 refused"
    assert (
        "1 tool call came without an id and was denied (missing_tool_call_id): docs/guide/policy.md" in second
    )


def test_a_policy_that_denies_everything_is_told() -> None:
    lines = as_lines(
        told(build.decision("tc_1", 1, verdict="deny"), build.decision("tc_2", 2, verdict="deny"))
    )
    assert lines[0] == "tool calls: 0 allowed, 2 denied, 0 refused"
    assert "every call was denied" in lines[1]
    assert not any("every call was denied" in line for line in as_lines(told(build.decision("tc_1", 1))))


def test_what_was_written_run_and_reached_by_whom() -> None:
    trace = begun()
    trace.opened("/workspace/report.txt", WRITES, role=Role.TOOLS)
    trace.opened("/workspace/own.txt", WRITES)
    trace.opened("/workspace/gone.txt", WRITES, role=Role.TOOLS)
    trace.named(UNLINK, "/workspace/gone.txt", role=Role.TOOLS)
    trace.opened("/workspace/input.txt")
    trace.exec(("/usr/bin/git", "status"))
    trace.sock(CONNECT, build.inet((10, 0, 0, 1), 443), result=-101)
    summary = told(build.decision("tc_1", 1), trace=trace)
    assert summary.written == ("/workspace/own.txt", "/workspace/report.txt")
    assert summary.deleted == ("/workspace/gone.txt",)
    assert summary.programs == ("/usr/bin/git",)
    assert summary.endpoints == ("10.0.0.1:443 (in vain)",)
    assert set(summary.hidden) == {
        "write /workspace/own.txt", "execute /usr/bin/git", "connect 10.0.0.1:443 (in vain)",
    }  # fmt: skip


def test_without_tools_nothing_is_hidden() -> None:
    trace = build.Trace()
    trace.exec(build.AGENT)
    trace.opened("/workspace/own.txt", WRITES)
    context = build.context(tools_server=None, witnesses=("kernel",), workspace="none", policy_sha256=None)
    observation = build.observe(
        trace.records, tools=None, decisions=build.log(), seals=(build.seal(Role.SUBJECT),)
    )
    summary = of(assemble(observation, context))
    assert (summary.calls, summary.hidden) == (None, ())
    assert summary.written == ("/workspace/own.txt",)
    assert not any("tool call" in line for line in as_lines(summary))


def test_many_names_are_counted_and_the_first_shown() -> None:
    trace = begun()
    for number in range(9):
        trace.opened(f"/workspace/{number}", WRITES, role=Role.TOOLS)
    line = next(line for line in as_lines(told(trace=trace)) if line.startswith("files"))
    assert line == "files: 9 written: /workspace/0, /workspace/1, /workspace/2 and 6 more; none deleted"


def test_nothing_in_a_name_steers_a_terminal() -> None:
    trace = begun()
    trace.opened("/workspace/\x1b[2J\u202e", WRITES, role=Role.TOOLS)
    text = "\n".join(as_lines(told(trace=trace)))
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_what_is_not_clean_is_told_in_words() -> None:
    summary = told(build.decision("tc_1", 1), survivors=2)
    assert not summary.clean
    assert "not clean: processes were still running" in as_lines(summary)[-1]


def test_the_document_is_json() -> None:
    document = as_document(told(build.decision("tc_1", 1)), Path("x.tar.gz"), Path("x.logs"), None)
    read = json.loads(json.dumps(document))
    assert read["calls"] == {"allowed": 1, "denied": 0, "without_id": 0, "refused": 0}
    assert (read["exit_code"], read["message"], read["logs"]) == (0, "", "x.logs")
