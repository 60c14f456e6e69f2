"""Diffs of archives of real runs, byte for byte."""

import pytest

from harness.bundle.verify import verify
from harness.compare.capability import capability_diff, to_json
from harness.compare.cross_runtime import cross_runtime_diff, runtime_side
from harness.compare.side import load_side
from tests.unit.compare.conftest import DIFFS, GEMINI, HIDDEN, S5, Extract


@pytest.mark.parametrize(
    ("base", "head", "golden"),
    [
        (S5, S5, "s5-self.json"),
        (HIDDEN, HIDDEN, "hidden-write-self.json"),
        (GEMINI, GEMINI, "gemini-self.json"),
        (S5, HIDDEN, "s5-hidden-write.json"),
    ],
)
def test_archives_of_real_runs_give_these_bytes(base: str, head: str, golden: str) -> None:
    made = to_json(capability_diff(load_side(DIFFS / base), load_side(DIFFS / head)))
    assert made == (DIFFS / golden).read_bytes()


def test_two_runtimes_give_these_bytes() -> None:
    made = to_json(cross_runtime_diff(runtime_side(S5), runtime_side(GEMINI)))
    assert made == (DIFFS / "s5-gemini.json").read_bytes()


def test_the_golden_archives_hold() -> None:
    assert [verify(path).problems for path in (S5, HIDDEN, GEMINI)] == [(), (), ()]


def test_an_extracted_folder_is_the_same_as_its_archive(extract: Extract) -> None:
    folder = extract(HIDDEN, forge=False)
    made = to_json(capability_diff(load_side(S5), load_side(folder)))
    assert made == (DIFFS / "s5-hidden-write.json").read_bytes()


def test_an_archive_without_a_companion_is_compared_too(extract: Extract) -> None:
    def reference(members: dict[str, bytes]) -> None:
        for name in [name for name in members if name.startswith("companion/")]:
            del members[name]

    made = to_json(capability_diff(load_side(S5), load_side(extract(HIDDEN, reference, forge=False))))
    assert made == (DIFFS / "s5-hidden-write.json").read_bytes()
