"""Watch a slice with the build that is on PYTHONPATH until standard input closes; print what was counted.

For bench_builds.py, which measures two builds side by side: it holds to what both have.
"""

import json
import sys
from pathlib import Path

from harness.capture.session import CaptureSession
from harness.evidence.model import KernelRecord, Kind, Role


def main() -> int:
    run, subject, tools, harness, spool, kept = map(Path, sys.argv[1:])
    opens = 0

    def count(record: KernelRecord) -> bool:
        nonlocal opens
        opens += record.kind is Kind.OPEN and record.role is Role.SUBJECT
        return False

    with CaptureSession(kept_in=kept) as session:
        session.arm(run, subject, tools, harness, spool)
        sys.stdout.write("armed\n")
        sys.stdout.flush()
        sys.stdin.read()
        _, accounting = session.disarm(keep=count)
    kinds = accounting.kinds.values()
    submitted = sum(kind.submitted for kind in kinds)
    whole = submitted == accounting.received == accounting.decoded and not accounting.recursion_misses
    dropped = sum(kind.dropped for kind in kinds)
    sys.stdout.write(json.dumps({"opens": opens, "whole": whole and not dropped}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
