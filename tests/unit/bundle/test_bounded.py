"""A run beyond the bounds of verifiers ends in a small archive that holds, is not clean, and says why."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from harness.bundle import bounded, members
from harness.bundle.bounded import assemble_within_bounds, write_within_bounds
from harness.bundle.payload import Limits
from harness.bundle.verify import verify
from harness.bundle.writer import write_archive
from harness.contracts import companion
from harness.contracts.bounds import KEPT_NAME_BYTES, MAX_CHANNEL_LINES, MAX_DOCUMENT, MIB
from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.companion import AccountingV1
from harness.contracts.converter import parse, unstructure
from harness.evidence.assemble import Assembled
from harness.evidence.model import Kind, Observation, Role
from tests.unit.evidence import build

SMALL = 2_000_000  # bytes of a packed archive


def begun() -> build.Trace:
    trace = build.Trace()
    trace.exec(build.AGENT)
    trace.exec(build.PROXY, role=Role.TOOLS)
    return trace


def ended(trace: build.Trace, **fields: object) -> Observation:
    trace.exit()
    trace.exit(role=Role.TOOLS)
    return build.observe(trace.records, **fields)


def long_names() -> Observation:
    trace = begun()
    for number in range(MAX_DOCUMENT // 4000 + 10):
        trace.failed_open(f"/{number:08}" + "/" * 20 + "x" * 3900, errno=36)
    return ended(trace)


def ids_that_are_long() -> Observation:
    lines = [build.decision(f"{number}{'i' * 900_000}", 10) for number in range(40)]
    return ended(begun(), decisions=build.log(*lines))


def a_line_that_grows() -> Observation:
    """In the archive's own form it is longer than a line may be."""
    data = {"tool": "t", "decision": "allow", "tool_call_id": "i" * 1_048_420}
    return ended(begun(), decisions=build.log({"type": "assay.tool.decision", "source": "s", "data": data}))


def decisions_without_number() -> Observation:
    line = build.log(build.decision("tc_1", 10)).lines[0]
    return ended(begun(), decisions=build.log_of([line] * (MAX_CHANNEL_LINES + 1)))


def a_line_of_children() -> Observation:
    trace = begun()
    for number in range(2, 9_000):
        trace.fork(number, vpid=number - 1)
    return ended(trace)


def calls_that_nobody_answers() -> Observation:
    trace = begun()
    lines = [build.decision(f"tc_{number}", number, request=number) for number in range(2_000)]
    for number in range(2_000):
        trace.opened(f"/workspace/{number}", role=Role.TOOLS, time_ns=10_000 + number)
    return ended(trace, decisions=build.log(*lines))


def of(assembled: Assembled) -> dict[str, Any]:
    found: dict[str, Any] = load_json(assembled.companion[companion.ACCOUNTING], "accounting")
    return found


@pytest.mark.breaks("unclean:decisions:left_out", "unclean:kernel:left_out")
@pytest.mark.parametrize(
    ("make", "code"),
    [
        (long_names, "kernel:left_out"),
        (ids_that_are_long, "decisions:left_out"),
        (a_line_that_grows, "decisions:left_out"),
        (decisions_without_number, "decisions:left_out"),
        (a_line_of_children, "kernel:left_out"),
        (calls_that_nobody_answers, "kernel:left_out"),
    ],
)
def test_what_is_too_much_gives_a_small_archive_that_says_so(
    make: Callable[[], Observation], code: str, tmp_path: Path
) -> None:
    observation, context, path = make(), build.context(), tmp_path / "run.tar.gz"
    first = assemble_within_bounds(observation, context)
    told, assembled = write_within_bounds(path, observation, context, first)
    assert [problem.text for problem in verify(path).problems] == []
    assert path.stat().st_size < SMALL
    assert code in assembled.unclean
    assert sum(map(len, (*assembled.v0.values(), *assembled.companion.values()))) < 10 * SMALL
    assert assembled.health.kernel_layer == "absent" or code.startswith("decisions")
    layer = code.partition(":")[0]
    (said,) = [text for text in of(assembled)["problems"] if text.startswith(f"{layer} line 0: left_out ")]
    left_out = int(said.split()[4])
    if layer == "kernel":
        assert left_out + len(told.records) == len(observation.records)
        assert of(assembled)["records"]["classes"]["left_out"] == left_out
    else:
        assert left_out + len(told.decisions.lines) == len(observation.decisions.lines)
    assert said.partition(": ")[2].partition(": ")[2]  # which bound it was


def test_short_names_add_up_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be fewer bytes of names than a member may have: what is said of each counts as well."""
    trace = begun()
    for number in range(9_000):
        trace.opened(f"/workspace/{number}", how=1)
    observation, context = ended(trace), build.context()
    monkeypatch.setattr(bounded, "Limits", partial(Limits, document=MIB))
    told, assembled = assemble_within_bounds(observation, context)
    assert "kernel:left_out" in assembled.unclean
    assert told.beyond == f"more than {MIB} bytes in {companion.ATTRIBUTION}"
    write_within_bounds(tmp_path / "run.tar.gz", observation, context, (told, assembled))
    assert verify(tmp_path / "run.tar.gz").ok


def test_an_archive_that_packs_too_well_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = begun()
    for number in range(1_000):
        trace.failed_open(f"/{'z' * 4000}{number}")
    observation, context = ended(trace), build.context()
    monkeypatch.setattr(members, "Limits", partial(Limits, ratio=50, ratio_floor=4 * MIB))
    first = assemble_within_bounds(observation, context)
    assert "kernel:left_out" not in first[1].unclean
    told, assembled = write_within_bounds(tmp_path / "run.tar.gz", observation, context, first)
    assert "kernel:left_out" in assembled.unclean
    assert told.beyond == "unpacks to over 50 times its size"
    assert verify(tmp_path / "run.tar.gz").ok


def test_what_fits_is_told_whole(tmp_path: Path) -> None:
    trace = begun()
    for number in range(2_000):
        trace.failed_open(f"/{number}" + "x" * 2_000)
    observation, context = ended(trace), build.context()
    first = assemble_within_bounds(observation, context)
    assert write_within_bounds(tmp_path / "run.tar.gz", observation, context, first) == first
    assert first[0] is observation
    assert not [code for code in first[1].unclean if code.endswith("left_out")]


def test_the_beginning_is_what_is_kept() -> None:
    observation = long_names()
    told, assembled = assemble_within_bounds(observation, build.context())
    kept = [record for record in told.records if record.kind is Kind.OPEN]
    assert kept == [record for record in observation.records if record.kind is Kind.OPEN][: len(kept)]
    assert 0 < sum(len(record.raw) for record in kept) <= KEPT_NAME_BYTES
    # how it ended is known all the same
    assert {record.role for record in told.records if record.kind is Kind.EXIT} == {Role.SUBJECT, Role.TOOLS}
    assert of(assembled)["clean"] is False


@pytest.mark.parametrize("code", ["kernel:left_out", "decisions:left_out"])
def test_a_cut_cannot_be_hidden_or_invented(code: str, tmp_path: Path) -> None:
    observation, context = long_names(), build.context()
    _, assembled = assemble_within_bounds(observation, context)
    books = parse(AccountingV1, of(assembled))
    other = tuple(c for c in books.unclean if c != code) if code in books.unclean else (*books.unclean, code)
    changed = to_bytes(unstructure(evolve(books, unclean=tuple(sorted(other)))))
    members = {**assembled.companion, companion.ACCOUNTING: changed}
    write_archive(tmp_path / "forged.tar.gz", assembled.v0, members, build.RUN_ID)
    found = verify(tmp_path / "forged.tar.gz").problems
    assert "ContractAccountingMismatch" in {problem.code for problem in found}
