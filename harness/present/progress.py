"""Progress on stderr and result lines on stdout: a status line on a terminal, plain lines elsewhere."""

import os
import sys
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class Progress:
    """`step` says what is being done, `result` what came out (never suppressed). NO_COLOR is respected."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    @cached_property
    def _console(self) -> "Console":
        # Most of the start-up time of a command that shows no progress would be this import.
        from rich.console import Console

        return Console(stderr=True, highlight=False, no_color="NO_COLOR" in os.environ or None)

    def step(self, text: str) -> None:
        """One line of progress, with no markup read into it."""
        if not self._quiet:
            self._console.print(text, style="dim", markup=False, soft_wrap=True)

    def result(self, text: str) -> None:
        """One line of the result, flushed: a reader of the pipe sees it when it happens."""
        print(text, file=sys.stdout, flush=True)
