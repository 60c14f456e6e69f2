"""A million paths on both sides: read, compared and written in under 5 s and 1 GB."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.bundle.reader import read_archive
from harness.contracts.canonical import load_json, sha256_of, to_bytes

PATHS = 1_000_000
SECONDS = 5.0
BYTES = 1 << 30
S5 = Path(__file__).parents[1] / "golden" / "diff" / "s5.tar.gz"
SURFACE = "capability-surface.json"
_MEASURED = """
import resource, sys, time
from pathlib import Path
begun = time.perf_counter()
from harness.compare.capability import capability_diff, to_json
from harness.compare.side import load_side
base, head = map(load_side, map(Path, sys.argv[1:3]))
Path(sys.argv[3]).write_bytes(to_json(capability_diff(base, head)))
used = resource.getrusage(resource.RUSAGE_SELF)
print(time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
"""


@pytest.mark.bench
def test_a_million_paths_on_both_sides(tmp_path: Path) -> None:
    base, head, out = (tmp_path / name for name in ("base", "head", "diff.json"))
    _write(base, 1)
    _write(head, 2)
    command = [sys.executable, "-c", _MEASURED, *map(str, (base, head, out))]
    root = Path(__file__).parents[2]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    wall, seconds, peak = map(float, told.split())
    print(
        f"\n{PATHS} paths on both sides: {wall:.2f} s, of it {seconds:.2f} busy, {peak / 1e6:.0f} MB at most"
    )
    files = load_json(out.read_bytes(), "diff")["surface"]["filesystem_paths"]
    assert {name: len(values) for name, values in files.items()} == {
        "added": PATHS // 2,
        "removed": PATHS // 2,
        "unchanged": PATHS // 2,
    }
    assert seconds < SECONDS  # a busy machine's wall-clock time is the other work's
    assert peak < BYTES


def _write(folder: Path, step: int) -> None:
    """The folder of a v0 archive whose surface has every `step`-th of the first PATHS * step paths."""
    members = {name: data for name, data in read_archive(S5).members.items() if "companion" not in name}
    surface = load_json(members[SURFACE], SURFACE)
    surface["filesystem_paths"] = sorted(
        f"/workspace/some/folder/file-{n * step:08d}.txt" for n in range(PATHS)
    )
    members[SURFACE] = to_bytes(surface)
    manifest = load_json(members["manifest.json"], "manifest.json")
    size, digest = len(members[SURFACE]), sha256_of(members[SURFACE])
    manifest["files"][SURFACE] = {"path": SURFACE, "sha256": digest, "bytes": size}
    members["manifest.json"] = to_bytes(manifest)
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
