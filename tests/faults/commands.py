"""The command line as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from harness.host.state import VARIABLE, State
from harness.plan import FIXTURES


def command(*arguments: str | Path) -> list[str]:
    """Argv of `assay-runner` with these arguments."""
    return [sys.executable, "-m", "harness", *map(str, arguments)]


def in_state(state: State) -> dict[str, str]:
    """An environment for it."""
    return os.environ | {VARIABLE: str(state.root), "PYTHONPATH": str(FIXTURES.parent), "NO_COLOR": "1"}


def run(state: State, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """`assay-runner run` to its end."""
    return subprocess.run(
        command("run", *arguments),
        env=in_state(state),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
