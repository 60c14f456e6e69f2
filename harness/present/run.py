"""What `run --json` prints: how the command ends, where archive and output are, and the summary."""

from pathlib import Path
from typing import Any

from attrs import asdict

from harness.errors import AssayError
from harness.present.summary import Summary


def as_document(
    summary: Summary, archive: Path, logs: Path | None, ended: AssayError | None
) -> dict[str, Any]:
    """`ended` is the error that the command ends with; its words stand on stderr as well."""
    return {
        "archive": str(archive),
        "logs": None if logs is None else str(logs),
        "exit_code": 0 if ended is None else ended.exit_code,
        "message": "" if ended is None else ended.message,
        **asdict(summary),
    }
