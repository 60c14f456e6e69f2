"""What verification costs, for 10^6 kernel lines: speed beside SHA-256 over the same decoded bytes, memory.

`nox -s bench_verify` prints the table of docs/performance.md. Rounds are paired: each
measures both, in turn, so that a busy machine slows both; the ratio is taken of each pair.
The bars are a third of that speed, and 150 MiB.
"""

import json
import statistics
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.bundle.derive import Members
from tests.unit.bundle.large import packed, with_companion_lines, with_v0_lines

LINES = 1_000_000
ROUNDS = 5
MIB = 1 << 20
_VERIFY = """
import json, re, sys, time
from pathlib import Path
from harness.bundle.verify import verify
began, cpu = time.perf_counter(), time.process_time()
result = verify(Path(sys.argv[1]))
assert result.ok, result.problems[:3]
taken = time.perf_counter() - began, time.process_time() - cpu
# Not getrusage: it counts the parent's memory before exec.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps([*taken, peak]))
"""
_DIGEST = """
import hashlib, json, sys, time
data = sys.stdin.buffer.read()
began, cpu = time.perf_counter(), time.process_time()
hashlib.sha256(data).hexdigest()
print(json.dumps([time.perf_counter() - began, time.process_time() - cpu]))
"""


def _asked(program: str, *arguments: str, data: bytes = b"") -> list[float]:
    asked = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(asked, input=data, capture_output=True, check=True, cwd=Path(__file__).parents[2])
    found: list[float] = json.loads(done.stdout)
    return found


@pytest.mark.bench
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("make", [with_companion_lines, with_v0_lines])
def test_a_million_lines(make: Callable[[int], Members], tmp_path: Path) -> None:
    lines = LINES - (100 if make is with_companion_lines else 0)  # those of the run itself count too
    path = packed(make(lines), tmp_path / "large.tar.gz")
    payload = zlib.decompress(path.read_bytes(), wbits=31)
    ratios, speeds, memory = [], [], []
    for number in range(ROUNDS):
        measured: dict[str, list[float]] = {}
        for name in ("verify", "digest")[:: 1 if number % 2 else -1]:
            verifying = name == "verify"
            measured[name] = _asked(_VERIFY, str(path)) if verifying else _asked(_DIGEST, data=payload)
        ratios.append(measured["digest"][1] / measured["verify"][1])
        speeds.append(len(payload) / MIB / measured["verify"][1])
        memory.append(measured["verify"][2])
    print(f"\n{make.__name__}: {lines} lines, {len(payload) / MIB:.0f} MiB decoded")
    for what, found in (
        ("speed, SHA-256 = 1", ratios),
        ("MiB/s of processor time", speeds),
        ("memory, MiB", memory),
    ):
        print(f"  {what}: median {statistics.median(found):.3g}, {min(found):.3g} to {max(found):.3g}")
    assert max(memory) < 150
    assert statistics.median(ratios) > 1 / 3
