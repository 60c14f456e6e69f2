"""Many kernel lines in little memory, and what bounds them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.bundle import contents as contents_module
from harness.bundle.members import Bounded, Members, Structured
from harness.bundle.payload import CHUNK
from harness.bundle.reader import read_archive
from harness.bundle.verify import verify
from harness.contracts import companion, manifest
from harness.contracts.canonical import load_json, ndjson
from tests.unit.bundle import derive
from tests.unit.bundle.conftest import S5, Forge
from tests.unit.bundle.large import packed, with_companion_lines, with_v0_lines
from tests.unit.bundle.test_quick_lines import facts, read

MIB_OF_A_MILLION = 150
_MEASURE = """
import re, sys
from pathlib import Path
from harness.bundle.verify import verify
result = verify(Path(sys.argv[1]))
assert result.ok, result.problems[:3]
# Not getrusage: it counts the parent's memory before exec.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.parametrize("make", [with_companion_lines, with_v0_lines])
def test_200000_lines_need_little_memory(make: Callable[[int], derive.Members], tmp_path: Path) -> None:
    path = packed(make(200_000), tmp_path / "large.tar.gz")
    asked = [sys.executable, "-c", _MEASURE, str(path)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MIB_OF_A_MILLION


def test_one_changed_line_among_many_is_caught(tmp_path: Path) -> None:
    members = with_companion_lines(3000)
    forged = members[companion.KERNEL].replace(b"package_1999/lib", b"package_2999/lib")
    assert forged != members[companion.KERNEL]
    path = packed(derive.remake_manifests(members | {companion.KERNEL: forged}), tmp_path / "forged.tar.gz")
    assert {problem.code for problem in verify(path).problems} == {"ContractSurfaceMismatch"}
    assert verify(packed(members, tmp_path / "good.tar.gz")).ok


def test_lines_of_any_length_cross_the_chunks(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    members = with_companion_lines(40)
    whole = facts(read(forge(members))[0])
    for size in (1, 7, 100, 5000, CHUNK):
        monkeypatch.setattr("harness.bundle.payload.CHUNK", size)
        assert facts(read(forge(members))[0]) == whole


@pytest.mark.breaks("verify:LimitLineBytes", "verify:LimitTotalEvents")
def test_a_line_too_long_or_too_many_lines_are_refused(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    members = dict(read_archive(S5).members)
    sdk = load_json(members[manifest.SDK].splitlines()[0], "line")
    long = ndjson([sdk | {"source": "x" * (1 << 20)}])
    path = forge(derive.remake_manifests(members | {manifest.SDK: long}))
    assert [problem.code for problem in verify(path).problems] == ["LimitLineBytes"]
    monkeypatch.setattr(contents_module, "MAX_LINES", 1)
    assert {problem.code for problem in verify(S5).problems} == {"LimitTotalEvents"}


def test_members_are_read_again_in_pieces() -> None:
    members = Structured(Bounded(S5)).members
    assert isinstance(members, Members)
    for name in members:
        assert b"".join(members.chunks(name)) == members[name]
        assert members.size(name) == len(members[name])
