"""Some thousand damaged archives: none is accepted, nothing crashes, hangs or takes much memory."""

import json
import subprocess
import sys
from pathlib import Path

from tests.unit.bundle.mutate import MUTATIONS

COUNT = 2400
MIB = 300


def test_damaged_archives_are_refused() -> None:
    asked = [sys.executable, "-m", "tests.unit.bundle.mutate", str(COUNT), "1"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    told = json.loads(done.stdout)
    assert (done.returncode, told["wrong"]) == (0, [])
    assert told["max_rss_mib"] < MIB
    outcomes = told["outcomes"]
    # Harmless ones are among them (other deflate bytes, a piece put in place of itself), and many kinds.
    assert COUNT / len(MUTATIONS) <= outcomes["accepted"] < COUNT / 5
    assert len(outcomes) > 12
