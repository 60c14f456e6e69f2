"""Files that are written under a random name and renamed: told by the name that stays, alike in each run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from harness.bundle.verify import verify
from harness.bundle.writer import write_archive
from harness.compare.baseline import accept, check_run
from harness.compare.tree import load_run, surface_difference
from harness.contracts import companion
from harness.contracts.canonical import load_json, load_ndjson, to_bytes
from harness.contracts.companion import AccountingV1
from harness.contracts.compared import COMPARED
from harness.contracts.converter import parse, unstructure
from harness.evidence.assemble import Assembled, assemble
from harness.evidence.model import Flag, Role
from harness.present.summary import summary_of
from tests.unit.evidence import build

WRITES = 0o301  # O_WRONLY, O_CREAT, O_EXCL
RENAME, LINK, UNLINK, CHMOD, RENAMEAT2 = 82, 86, 87, 90, 316
TARGET = "/workspace/report.txt"


def begun() -> build.Trace:
    trace = build.Trace()
    trace.exec(build.AGENT)
    trace.exec(build.PROXY, role=Role.TOOLS)
    return trace


def create(trace: build.Trace, name: str, role: Role = Role.TOOLS) -> None:
    args = (WRITES, 0o644, 0)
    trace.opened(name, role=role, flags=Flag.OBJECT | Flag.CREATED, args=args, inode_mode=0o100644)


def both(
    trace: build.Trace, call: int, first: str, second: str, role: Role = Role.TOOLS, *, how: int = 0
) -> None:
    """One call with two names."""
    trace.named(call, first, role=role, args=(how, 0, 0))
    trace.named(call, second, role=role, part=1, args=(how, 0, 0))


def replaced(trace: build.Trace, number: int) -> None:
    name = f"{TARGET}.{number:032x}.tmp"
    create(trace, name)
    trace.named(CHMOD, name, role=Role.TOOLS, args=(0o600, 0, 0))
    both(trace, RENAME, name, TARGET)


def elsewhere(trace: build.Trace, number: int) -> None:
    name = f"/workspace/.cache/{number:x}"
    create(trace, name)
    both(trace, RENAME, name, TARGET)


def linked(trace: build.Trace, number: int) -> None:
    name = f"/workspace/tmp_{number:x}"
    create(trace, name)
    both(trace, LINK, name, TARGET)
    trace.named(UNLINK, name, role=Role.TOOLS)


def twice(trace: build.Trace, number: int) -> None:
    replaced(trace, number)
    replaced(trace, number + 1)


def by_the_agent(trace: build.Trace, number: int) -> None:
    name = f"/workspace/.report.{number:x}"
    create(trace, name, Role.SUBJECT)
    both(trace, RENAME, name, TARGET, Role.SUBJECT)


def run(story: Callable[[build.Trace, int], None], number: int, **fields: object) -> Assembled:
    trace = begun()
    story(trace, number)
    lines = [build.decision("tc_1", 1, paths=[TARGET]), build.answer("tc_1", 10**9)]
    return assemble(build.observe(trace.records, decisions=build.log(*lines)), build.context(**fields))


def archived(assembled: Assembled, path: Path) -> Path:
    write_archive(path, assembled.v0, assembled.companion, build.RUN_ID)
    assert [problem.text for problem in verify(path).problems] == []
    return path


def surface(assembled: Assembled) -> dict[str, set[str]]:
    found = load_json(assembled.companion[companion.SURFACE], "surface")["paths"]
    return {entry["path"]: {action["action"] for action in entry["actions"]} for entry in found}


STORIES = [replaced, elsewhere, linked, twice, by_the_agent]


@pytest.mark.parametrize("story", STORIES)
def test_two_runs_with_other_random_names_are_equal(
    story: Callable[[build.Trace, int], None], tmp_path: Path
) -> None:
    first, second = run(story, 0x1111), run(story, 0x2222)
    for name in COMPARED:
        members = [{**one.v0, **one.companion}[name] for one in (first, second)]
        assert members[0] == members[1], name
        assert b"1111" not in members[0]
    base, head = (load_run(archived(one, tmp_path / f"{n}.tar.gz")) for n, one in enumerate((first, second)))
    assert surface_difference(base, head).categories == ()
    assert check_run(accept(base), head).categories == ()
    # and the names are not lost: the books have them
    books = load_json(second.companion[companion.ACCOUNTING], "books")["temporary"]
    assert any("2222" in name for names in books.values() for name in names)


def test_it_is_one_replacement_of_the_target() -> None:
    assembled = run(replaced, 7)
    assert surface(assembled) == {TARGET: {"replace"}}
    assert assembled.surface.filesystem_paths == (TARGET,)
    summary = summary_of({**assembled.v0, **assembled.companion})
    assert summary.written == (TARGET,)
    lines = load_ndjson(assembled.companion[companion.KERNEL], "kernel")
    assert {(line["operation"], line["path"]) for line in lines if "//" in str(line["path"])} == {
        ("create", f"{TARGET}//temporary"),
        ("chmod", f"{TARGET}//temporary"),
        ("rename", f"{TARGET}//temporary"),
    }
    call = load_json(assembled.companion[companion.ATTRIBUTION], "attribution")["calls"][0]
    assert {one["match"] for one in call["evidence"]} == {"exact"}  # the call named the target


def test_another_folder_is_told_with_the_folder() -> None:
    assert surface(run(elsewhere, 7)) == {
        "/workspace/.cache//moved": {"create", "write", "delete"},
        TARGET: {"create"},
    }


def test_what_the_agent_replaces_outside_any_call_is_told() -> None:
    assembled = run(by_the_agent, 7)
    assert summary_of({**assembled.v0, **assembled.companion}).hidden == (f"replace {TARGET}",)


NAME = "/workspace/x.1234.tmp"


def left(trace: build.Trace) -> None:
    create(trace, NAME)


def made_again(trace: build.Trace) -> None:
    create(trace, NAME)
    both(trace, RENAME, NAME, TARGET)
    create(trace, NAME)


def executed(trace: build.Trace) -> None:
    create(trace, NAME)
    trace.exec((NAME,))
    both(trace, RENAME, NAME, TARGET)


def run_as_a_script(trace: build.Trace) -> None:
    create(trace, NAME)
    trace.exec(("/bin/sh", NAME), called=NAME)
    both(trace, RENAME, NAME, TARGET)


def exchanged(trace: build.Trace) -> None:
    create(trace, NAME)
    both(trace, RENAMEAT2, NAME, TARGET, how=2)


def not_made_here(trace: build.Trace) -> None:
    trace.opened(NAME, 0o1, role=Role.TOOLS)
    both(trace, RENAME, NAME, TARGET)


def linked_elsewhere(trace: build.Trace) -> None:
    create(trace, NAME)
    both(trace, LINK, NAME, "/workspace/keep")
    both(trace, RENAME, NAME, TARGET)


def renamed_onto(trace: build.Trace) -> None:
    create(trace, NAME)
    both(trace, RENAME, NAME, TARGET)
    both(trace, RENAME, "/workspace/other", NAME)


def in_vain(trace: build.Trace) -> None:
    create(trace, NAME)
    trace.named(RENAME, NAME, -13, role=Role.TOOLS)
    trace.named(RENAME, TARGET, -13, role=Role.TOOLS, part=1)


@pytest.mark.parametrize(
    "story",
    [
        left, made_again, executed, run_as_a_script, exchanged, not_made_here, linked_elsewhere, renamed_onto,
        in_vain,
    ],
)  # fmt: skip
def test_a_name_that_means_more_is_kept(story: Callable[[build.Trace], None], tmp_path: Path) -> None:
    assembled = run(lambda trace, _: story(trace), 0)
    assert NAME in surface(assembled)
    assert not any(b"//" in member for member in (assembled.companion[companion.SURFACE],))
    assert load_json(assembled.companion[companion.ACCOUNTING], "books").get("temporary") is None
    archived(assembled, tmp_path / "x.tar.gz")


def test_no_program_can_make_a_file_that_looks_so(tmp_path: Path) -> None:
    trace = begun()
    trace.failed_open(f"{TARGET}//temporary")
    trace.opened(f"{TARGET}/temporary", 0o1)
    trace.named(RENAME, f"{TARGET}//temporary", -2)
    trace.named(RENAME, TARGET, -2, part=1)
    assembled = assemble(build.observe(trace.records), build.context())
    assert f"{TARGET}/temporary" in surface(assembled)
    assert b"//" not in assembled.companion[companion.KERNEL].replace(b"assay://", b"")
    archived(assembled, tmp_path / "x.tar.gz")


def test_a_label_that_looks_so_is_told(tmp_path: Path) -> None:
    trace = begun()
    trace.named(319, "x//temporary", 5)  # memfd_create
    assembled = assemble(build.observe(trace.records), build.context())
    assert surface(assembled) == {"memfd:x//temporary": {"create"}}
    archived(assembled, tmp_path / "x.tar.gz")


def test_the_books_must_name_what_is_told_so(tmp_path: Path) -> None:
    assembled = run(replaced, 7)
    books = parse(AccountingV1, load_json(assembled.companion[companion.ACCOUNTING], "books"))
    forged = to_bytes(unstructure(evolve(books, temporary=None)))
    members = {**assembled.companion, companion.ACCOUNTING: forged}
    write_archive(tmp_path / "x.tar.gz", assembled.v0, members, build.RUN_ID)
    assert {problem.place for problem in verify(tmp_path / "x.tar.gz").problems} == {"/temporary"}


def test_a_declared_glob_goes_first() -> None:
    glob = "/workspace/.report.*"
    assembled = run(by_the_agent, 7, volatile=(glob,))
    books = load_json(assembled.companion[companion.ACCOUNTING], "books")
    assert (books["volatile"], books.get("temporary")) == ({glob: 2}, None)
    assert glob in surface(assembled)
