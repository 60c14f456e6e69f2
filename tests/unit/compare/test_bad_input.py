"""Every command that compares, against everything that is no archive: place, remedy, exit 2 or 4, bounded."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main
from harness.contracts.canonical import load_json, to_bytes
from tests.unit.compare.conftest import S5, Extract, forged

ROOT = Path(__file__).parents[3]
SURFACE, REPORT, SDK = "capability-surface.json", "correlation-report.json", "layers/sdk.ndjson"
Members = dict[str, bytes]
Change = Callable[[Members], None]


def _set(member: str, data: bytes) -> Change:
    return lambda members: members.update({member: data})


def _cut(member: str) -> Change:
    return lambda members: members.update({member: members[member][: len(members[member]) // 2]})


def _twice(members: Members) -> None:
    report = load_json(members[REPORT], REPORT)
    report["bindings"] *= 2
    members[REPORT] = to_bytes(report)


def _many(members: Members) -> None:
    surface = load_json(members[SURFACE], SURFACE)
    surface["filesystem_paths"] = [f"/w/{number:07}" for number in range(1_000_000)]
    members[SURFACE] = to_bytes(surface)


# What is wrong, and the member that the error must name.
BAD: dict[str, tuple[Change, str]] = {
    "truncated JSON": (_cut(SURFACE), SURFACE),
    "truncated line": (_cut(SDK), SDK),
    "wrong schema id": (_set(SURFACE, b'{"schema":"assay.runner.capability_surface.v9"}'), SURFACE),
    "duplicate key": (_set(SURFACE, b'{"schema":"x","schema":"x"}'), SURFACE),
    "duplicate tool_call_id": (_twice, REPORT),
    "deep nesting": (_set(SURFACE, b'{"a":' * 200_000), SURFACE),
    "invalid UTF-8": (_set(SURFACE, b'{"schema":"\xff"}'), SURFACE),
    "a lone surrogate": (_set(SURFACE, b'{"schema":"\\ud800"}'), SURFACE),
    "a missing file": (lambda members: members.__delitem__(SURFACE), SURFACE),
    "no manifest": (lambda members: members.__delitem__("manifest.json"), "manifest.json"),
    "an empty file": (_set(SURFACE, b""), SURFACE),
}


def commands(bad: Path, out: Path) -> dict[str, list[str]]:
    return {
        "diff": ["diff", str(S5), str(bad)],
        "diff back": ["diff", str(bad), str(S5), "--format", "json"],
        "diff across": ["diff", str(S5), str(bad), "--cross-runtime", "--format", "html"],
        "check": ["check", str(bad), "--baseline", str(out / "b.json"), "--format", "sarif"],
        "accept": ["baseline", "accept", str(bad), "-o", str(out / "new.json")],
        "report": ["report", str(bad), "-o", str(out / "new.html")],
        "drift": ["drift", str(S5), str(bad), "--format", "json"],
        "verify": ["verify", str(bad)],
        "claims": ["claims", str(bad)],
    }


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_refused_by_every_command(
    bad: str, extract: Extract, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, member = BAD[bad]
    out = tmp_path / "out"
    out.mkdir()
    assert main(["baseline", "accept", str(S5), "-o", str(out / "b.json")]) == 0
    folder = extract(S5, _then_forge(change), forge=False)
    capsys.readouterr()
    for name, command in commands(folder, out).items():
        if (name, member) == ("drift", REPORT):
            continue  # which it does not read
        assert (name, main(command)) == (name, 4)
        told = capsys.readouterr()
        said = told.out + told.err
        assert str(folder) in said, name
        assert member in said, name
        if name not in ("verify", "claims"):  # these two report what they found
            assert (name, told.out) == (name, "")
            assert told.err.startswith("assay-runner: ")
            assert "\n  hint: " in told.err
    assert [path.name for path in out.iterdir()] == ["b.json"]


def _then_forge(change: Change) -> Change:
    def both(members: Members) -> None:
        change(members)
        if "manifest.json" in members:
            forged(members)

    return both


@pytest.mark.parametrize("path", ["nothing-here", "nothing-here/a.tar.gz"])
def test_nothing_there_is_exit_2(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.json").write_bytes(b"{}")
    for name, command in commands(tmp_path / path, tmp_path).items():
        assert (name, main(command)) == (name, 2)
        told = capsys.readouterr()
        assert (told.out, "\n  hint: " in told.err) == ("", True)
    assert [one.name for one in tmp_path.iterdir()] == ["b.json"]


_BOUNDED = """
import json, resource, sys
from harness.cli import main
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
codes = [main(command) for command in json.loads(sys.argv[1])]
print(json.dumps([codes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


@pytest.mark.parametrize(
    "change",
    [_many, _set(SURFACE, b'{"a":' * 6_000_000), _set(SURFACE, b"[" + b"0," * 5_000_000 + b"0]")],
    ids=["a million paths", "30 MB of depth", "10 MB of width"],
)
def test_memory_and_time_are_bounded(change: Change, extract: Extract, tmp_path: Path) -> None:
    folder = extract(S5, _then_forge(change), forge=False)
    wanted = [commands(folder, tmp_path)["diff"]]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", _BOUNDED, json.dumps(wanted)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    codes, peak = json.loads(done.stdout)
    assert codes == [4]
    assert peak < 1 << 30
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 20
