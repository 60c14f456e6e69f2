"""diff, check, baseline accept and report as people type them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main
from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.companion import ACCOUNTING, KERNEL
from tests.unit.bundle.derive import derive
from tests.unit.present.conftest import DIFFS, HIDDEN, S5, Extract

Members = dict[str, bytes]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def diff(*arguments: object, base: Path = S5, head: Path = HIDDEN) -> int:
    return main(["diff", str(base), str(head), *map(str, arguments)])


def ambiguous(members: Members) -> None:
    """A call whose id no binding has: the join of the layers is not certain (contracts §5.4)."""
    line = load_json(members["layers/sdk.ndjson"].splitlines()[-1], "sdk")
    lines = [load_json(one, "sdk") for one in members["layers/sdk.ndjson"].splitlines()]
    lines.append({**next(one for one in lines if "tool_call_id" in one), "tool_call_id": "tc_other"})
    for seq, one in enumerate(lines):
        if "seq" in line:
            one["seq"] = seq
    members["layers/sdk.ndjson"] = b"".join(to_bytes(one) + b"\n" for one in lines)
    report = load_json(members["correlation-report.json"], "report")
    report |= {"status": "partial", "ambiguities": ["sdk_tool_call_without_policy_binding:tc_other"]}
    members["correlation-report.json"] = to_bytes(report)
    members["observation-health.json"] = members["observation-health.json"].replace(
        b"sdk_events=3 sdk_tool_calls=1", b"sdk_events=4 sdk_tool_calls=2"
    )


def test_json_is_the_v0_document_and_nothing_else(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert diff("--format", "json") == 1
    captured = capfdbinary.readouterr()
    assert (captured.out, captured.err) == ((DIFFS / "s5-hidden-write.json").read_bytes(), b"")
    assert diff("--format", "json", head=S5) == 0
    assert capfdbinary.readouterr().out == (DIFFS / "s5-self.json").read_bytes()


def test_json_of_v1_is_the_tree(capsys: pytest.CaptureFixture[str]) -> None:
    assert diff("--format", "json", "--contract", "v1", "--granularity", "class") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "assay.runner.difference.v1"
    assert [category["key"] for category in document["categories"]] == ["paths"]


@pytest.mark.parametrize(
    ("turn_round", "codes"), [(False, [1, 1, 0, 0]), (True, [1, 0, 1, 0])], ids=["added", "removed"]
)
@pytest.mark.parametrize("form", ["text", "json", "sarif", "junit", "markdown", "html"])
def test_fail_on(turn_round: bool, codes: list[int], form: str) -> None:
    base, head = (HIDDEN, S5) if turn_round else (S5, HIDDEN)
    found = [
        diff("--fail-on", fail_on, "--format", form, base=base, head=head)
        for fail_on in ("any", "added", "removed", "none")
    ]
    assert found == codes


@pytest.mark.parametrize("form", ["text", "json", "sarif", "junit", "markdown", "html"])
def test_output_goes_to_the_file_whole_and_is_the_same_again(
    form: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diff("--format", form, "-o", "a") == diff("--format", form, "-o", "b") == 1
    assert capsys.readouterr().out == ""
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    assert b"hidden-write-output.txt" in (folder / "a").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_partial_evidence_never_exits_0_unasked(extract: Extract, capsys: pytest.CaptureFixture[str]) -> None:
    head = extract(S5, ambiguous)
    assert diff(head=head) == 3
    captured = capsys.readouterr()
    assert "no difference" in captured.out
    assert "may still differ" in captured.out
    assert "partial:correlation" in captured.err
    assert diff("--fail-on", "none", head=head) == 3
    assert diff("--allow-partial", head=head) == 0
    assert diff("--format", "json", head=head) == 3


def test_partial_evidence_with_a_difference_is_a_finding(extract: Extract) -> None:
    head = extract(HIDDEN, ambiguous)
    assert diff(head=head) == 1
    assert diff("--allow-partial", head=head) == 1
    assert diff("--fail-on", "removed", head=head) == 3


def drop_companion(members: Members) -> None:
    for name in [name for name in members if name.startswith("companion/")]:
        del members[name]


def damaged(members: Members) -> None:
    members["capability-surface.json"] = members["capability-surface.json"].replace(
        b"hidden-write", b"hidden-writf"
    )


@pytest.mark.parametrize(
    ("change", "arguments", "code", "told"),
    [
        (None, ["--base-prefix", "/w/"], 2, "goes with --cross-runtime"),
        (None, ["--format", "json", "--granularity", "prefix"], 2, "add --contract v1"),
        (drop_companion, ["--contract", "v1"], 2, "leave --contract out"),
        (None, ["--cross-runtime"], 2, "without --cross-runtime"),
        (None, ["-o", "no/such/folder/x"], 2, "name a file in a folder that exists"),
        (damaged, [], 4, "do not use this archive"),
    ],
)
def test_bad_input_names_place_and_remedy(
    change: Callable[[Members], None] | None,
    arguments: list[str],
    code: int,
    told: str,
    extract: Extract,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    head = extract(HIDDEN, change, forge=change is not drop_companion)
    assert diff(*arguments, head=head) == code
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""
    assert list(folder.iterdir()) == []


def test_across_runtimes_names_are_given_or_read(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--cross-runtime", "--head-runtime", "gemini_google_genai"]
    assert diff(*options, "--format", "json", "--fail-on", "none", head=S5) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "assay.runner.cross_runtime_diff.v0"
    assert document["base_runtime"] == "s5_openai_agents"
    assert diff(*options) == 1
    text = capsys.readouterr().out
    assert "+ <work>/hidden-write-output.txt" in text
    assert "create (ok) by subject.0" in text


def test_a_baseline_is_small_reviewable_and_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", "accept", str(S5)]) == 0
    file = folder / "baselines" / "openai-agents.json"
    data = file.read_bytes()
    document = json.loads(data)
    assert data == json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
    assert (document["schema"], document["fixture"]) == ("assay.runner.baseline.v1", "openai-agents")
    assert document["capabilities"]["paths"]["/workspace/policy-input.txt"] == {"read by tools": "done"}
    assert b"run_" not in data
    assert b"sha256" not in data
    for names in document["capabilities"].values():
        assert list(names) == sorted(names)

    def check(archive: Path, *arguments: str) -> int:
        return main(["check", str(archive), "--baseline", str(file), *arguments])

    assert check(S5) == 0
    assert check(HIDDEN) == 1
    assert check(HIDDEN, "--fail-on", "removed") == 0
    capsys.readouterr()
    assert check(HIDDEN, "--format", "json") == 1
    tree = json.loads(capsys.readouterr().out)
    assert tree["base"] == "baseline of openai-agents"
    assert tree["categories"][0]["children"][0]["key"] == "/workspace/hidden-write-output.txt"
    assert (
        main(["check", str(HIDDEN), "--baseline", "baselines/openai-agents.json", "--format", "sarif"]) == 1
    )
    result = json.loads(capsys.readouterr().out)["runs"][0]["results"][0]
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == "baselines/openai-agents.json"


def test_a_path_that_turns_to_write_is_caught_by_the_baseline(extract: Extract) -> None:
    def turned(members: Members) -> None:
        members[KERNEL] = members[KERNEL].replace(
            b'/policy-input.txt","access":"read"', b'/policy-input.txt","access":"write"'
        )
        derive(members)

    assert main(["baseline", "accept", str(S5), "-o", "b.json"]) == 0
    assert main(["check", str(extract(S5, turned)), "--baseline", "b.json", "--fail-on", "added"]) == 1


def unclean(members: Members) -> None:
    books = load_json(members[ACCOUNTING], ACCOUNTING)
    books |= {"clean": False, "unclean": ["walk_fault"]}
    members[ACCOUNTING] = to_bytes(books)
    derive(members)


@pytest.mark.parametrize(("change", "code"), [(unclean, 3), (damaged, 4)])
def test_what_is_not_clean_or_does_not_verify_is_not_accepted(
    change: Callable[[Members], None], code: int, extract: Extract, folder: Path
) -> None:
    assert main(["baseline", "accept", str(extract(HIDDEN, change))]) == code
    assert list(folder.iterdir()) == []


def test_a_run_that_is_not_clean_does_not_pass_the_check(extract: Extract) -> None:
    assert main(["baseline", "accept", str(S5), "-o", "b.json"]) == 0
    head = str(extract(S5, unclean))
    assert main(["check", head, "--baseline", "b.json"]) == 3
    assert main(["check", head, "--baseline", "b.json", "--allow-partial"]) == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no such baseline"),
        ("", "JSON"),
        ('{"schema":"assay.runner.baseline.v2"}', "assay.runner.baseline.v2"),
        (
            '{"schema":"assay.runner.baseline.v1","fixture":"x","contract":"v1","capabilities":{"paths":{"/a":1}}}',
            "/capabilities/paths/~1a",
        ),
        (
            '{"schema":"assay.runner.baseline.v1","fixture":"x","contract":"v1","capabilities":{"pats":{}}}',
            "'pats' is no category",
        ),
    ],
)
def test_a_bad_baseline_is_refused_with_its_place(
    text: str | None, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (folder / "b.json").write_text(text, encoding="utf-8")
    assert main(["check", str(S5), "--baseline", "b.json"]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert "hint:" in captured.err


def test_report_is_one_page(folder: Path) -> None:
    assert main(["report", str(HIDDEN), "-o", "r.html"]) == 0
    assert (folder / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_device_is_written_to_and_not_replaced() -> None:
    assert main(["report", str(S5), "-o", "/dev/null"]) == 0
    assert Path("/dev/null").is_char_device()


def test_the_command_line_starts_without_the_machine_and_without_rich() -> None:
    code = (
        "import sys; from harness.cli import main; import contextlib\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "heavy = {'bcc', 'docker', 'pyroute2', 'rich', 'cattrs', 'attrs', 'requests'}\n"
        "print(sorted(heavy & {m.partition('.')[0] for m in sys.modules}))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.splitlines()[-1] == "[]"
