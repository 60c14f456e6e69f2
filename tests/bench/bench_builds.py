"""What capture costs now, against another build of it in the same rounds: `nox -s bench_builds -- COMMIT`.

Every round runs W1 unwatched, inside and outside of the slice of either build, each round in another order.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from harness.evidence.model import Role
from harness.host.cgroup import Slice
from tests.bench.bench_overhead import (
    BASE,
    BOTH,
    INSIDE,
    OUTSIDE,
    REPORT,
    W1,
    W1_FILES,
    W1_OPENS,
    Timing,
    Timings,
    empty_slice,
    files,
    printed,
    rows,
    start,
)

__all__ = ["files"]
pytestmark = [pytest.mark.bench, pytest.mark.linux, pytest.mark.timeout(3600)]

HERE = Path(__file__).resolve().parents[2]
BEFORE, NOW = "before", "now"


@contextmanager
def armed(build: Path, slice_: Slice, folder: Path, *, least: int) -> Iterator[None]:
    """The build's capture on the slice; what it counted must be whole, with at least `least` opens."""
    roles = [slice_.role_path(role) for role in (Role.SUBJECT, Role.TOOLS, Role.HARNESS)]
    script, places = HERE / "tests/bench/armed.py", (folder / "spool", folder / "kept")
    watch = subprocess.Popen(
        [sys.executable, script, slice_.path, *roles, *places],
        cwd=build, env=os.environ | {"PYTHONPATH": str(build)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert watch.stdout is not None
    assert watch.stdout.readline() == "armed\n"
    yield
    told, _ = watch.communicate(timeout=120)
    counted = json.loads(told)
    assert counted["whole"]
    assert counted["opens"] >= least if least else counted["opens"] == 0


def test_w1_before_and_now(files: Path, tmp_path: Path) -> None:
    builds = {BEFORE: Path(os.environ["BENCH_BEFORE"]), NOW: HERE}
    rounds = int(os.environ.get("BENCH_ROUNDS", "11"))

    def base() -> Timing:
        with empty_slice() as slice_:
            return printed(start(W1, files, slice_))

    def watched(name: str, *, inside: bool) -> Timing:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        least = W1_OPENS if inside else 0
        with empty_slice() as slice_, armed(builds[name], slice_, folder, least=least):
            return printed(start(W1, files, slice_ if inside else None))

    conditions: dict[str, Callable[[], Timing]] = {BASE: base}
    for where in (INSIDE, OUTSIDE):
        for name in builds:
            conditions[f"{where}, {name}"] = partial(watched, name, inside=where == INSIDE)
    names = list(conditions)
    found: Timings = {}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            found.setdefault(name, []).append(conditions[name]())
    load = f"load average {os.getloadavg()[0]:.1f} at the end; {rounds} rounds."
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    lines = [
        f"Measured {now} on {os.cpu_count()} cores, Linux {platform.release()}, {load}",
        f"W1: {W1_OPENS} times open, read, close in Python, over {W1_FILES} files.",
    ]
    for where in (INSIDE, OUTSIDE):
        pair = {name: found[name] for name in (f"{where}, {BEFORE}", f"{where}, {NOW}")}
        lines += [*BOTH, *rows("W1", pair, f"{where}, {BEFORE}")]
    text = "\n".join([*lines, *rows("W1", found, BASE)]) + "\n"
    place = REPORT.with_name("builds.md")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    sys.stdout.write("\n\n" + text)
