"""The command line starts in under 150 ms: `--help` says what there is, and reads nothing else."""

import os
import statistics
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROUNDS = 21
SECONDS = 0.150
S5 = ROOT / "tests" / "golden" / "diff" / "s5.tar.gz"
# What the console script of `pip install .` does, beside the module.
_SCRIPT = "import sys; from harness.cli import main; sys.exit(main())"
CONDITIONS = {
    "python -c pass": ["-c", "pass"],
    "python -m harness --help": ["-m", "harness", "--help"],
    "assay-runner --help": ["-c", _SCRIPT, "--help"],
    "assay-runner diff --help": ["-c", _SCRIPT, "diff", "--help"],
    "assay-runner verify s5.tar.gz": ["-c", _SCRIPT, "verify", str(S5)],
    "assay-runner diff s5.tar.gz s5.tar.gz": ["-c", _SCRIPT, "diff", str(S5), str(S5)],
}


@pytest.mark.bench
def test_help_starts_quickly() -> None:
    """Every round runs all, each round beginning with another; the first round only warms caches."""
    wall: dict[str, list[float]] = {name: [] for name in CONDITIONS}
    processor: dict[str, list[float]] = {name: [] for name in CONDITIONS}
    names = list(CONDITIONS)
    for number in range(ROUNDS + 1):
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            begun = time.perf_counter()
            used = _run(CONDITIONS[name])
            if number:
                wall[name].append(time.perf_counter() - begun)
                processor[name].append(used)
    print(f"\nload average {os.getloadavg()[0]:.1f}; median of {ROUNDS} rounds, ms")
    for name in names:
        print(f"{name}: wall {_told(wall[name])}, processor {_told(processor[name])}")
    # Wall-clock time of a busy machine is the other work's; on an idle one the two are the same.
    for name in ("python -m harness --help", "assay-runner --help"):
        assert statistics.median(processor[name]) < SECONDS


def _run(arguments: list[str]) -> float:
    """Processor seconds of one start."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    quiet = [(os.POSIX_SPAWN_DUP2, nowhere, 1)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pid = os.posix_spawn(sys.executable, [sys.executable, *arguments], environment, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    os.close(nowhere)
    assert status == 0
    return usage.ru_utime + usage.ru_stime


def _told(seconds: list[float]) -> str:
    low, middle, high = (1000 * each for each in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{middle:.0f} [{low:.0f}..{high:.0f}]"
