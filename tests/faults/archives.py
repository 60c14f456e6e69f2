"""What an archive says, read back from the file after it has been verified."""

import json
from pathlib import Path
from typing import Any

from attrs import frozen

from harness.bundle.verify import check
from harness.errors import AssayError
from harness.run import Measured

ACCOUNTING = "companion/accounting.json"
HEALTH = "observation-health.json"


@frozen
class Told:
    """Members as documents; a line format as a list of them."""

    members: dict[str, Any]

    @property
    def unclean(self) -> list[str]:
        codes: list[str] = self.members[ACCOUNTING]["unclean"]
        return codes

    @property
    def kernel(self) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = self.members["companion/kernel.ndjson"]
        return lines

    @property
    def finished(self) -> dict[str, Any]:
        """How the run ended."""
        event: dict[str, Any] = self.members["events.ndjson"][-1]
        return event

    def operations(self, name: str, path: str) -> list[dict[str, Any]]:
        """Kernel lines of one operation on one path."""
        return [line for line in self.kernel if (line["operation"], line.get("path")) == (name, path)]

    def actions(self, path: str) -> set[tuple[str, str, tuple[str, ...]]]:
        """(action, result, roles) of one path on the surface."""
        return {
            (action["action"], action["result"], tuple(action["roles"]))
            for entry in self.members["companion/surface.json"]["paths"]
            if entry["path"] == path
            for action in entry["actions"]
        }


def read(path: Path) -> Told:
    """The archive's members; VerificationError if it does not hold."""
    return Told(
        {
            name: json.loads(data) if name.endswith(".json") else [json.loads(x) for x in data.splitlines()]
            for name, data in check(path).members.items()
        }
    )


def told(measured: Measured, folder: Path) -> Told:
    """Write the archive of a run into `folder` and read it back."""
    path = folder / f"{measured.plan.spec.run_id}.tar.gz"
    measured.write(path)
    return read(path)


def exit_code(measured: Measured) -> int:
    """What the command line would end with."""
    try:
        measured.verdict()
    except AssayError as error:
        return error.exit_code
    return 0
