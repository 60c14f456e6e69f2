"""An agent that the kernel alone witnesses: it reads a file, writes a file and runs a program."""

import os
import sys
from pathlib import Path

WORKSPACE = Path("/workspace")


def main() -> int:
    text = (WORKSPACE / "input.txt").read_text(encoding="utf-8")
    (WORKSPACE / "output.txt").write_text(text.upper(), encoding="utf-8")
    # posix_spawn instead of the subprocess module: one execution, and no imports around it.
    child = os.posix_spawn("/usr/bin/env", ["env"], {"PATH": "/usr/bin"})
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
