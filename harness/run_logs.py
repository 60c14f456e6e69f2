"""What agent and server wrote, as files beside the archive: `mine.tar.gz` has `mine.logs/agent.stderr`."""

from collections.abc import Mapping
from pathlib import Path

from harness.bundle.whole_file import write_whole
from harness.engine.output import Output
from harness.errors import EnvironmentUnfitError, InputError
from harness.evidence.model import Role

_NAMES = {Role.SUBJECT: "agent", Role.TOOLS: "server"}
_FILES = tuple(f"{name}.{stream}" for name in _NAMES.values() for stream in ("stdout", "stderr"))


def logs_of(archive: Path) -> Path:
    """The folder beside an archive."""
    return archive.with_name(f"{archive.name.removesuffix('.tar.gz')}.logs")


def refuse_foreign_logs(archive: Path) -> None:
    """InputError if something else than logs of ours is where they will be: it would be lost."""
    folder = logs_of(archive)
    if folder.exists() and not (
        folder.is_dir() and {entry.name for entry in folder.iterdir()} <= set(_FILES)
    ):
        raise InputError(
            "is in the way: the output of agent and server is kept there",
            place=str(folder),
            hint="move it, or give the archive another name",
        )


def write_logs(archive: Path, output: Mapping[Role, Output]) -> Path | None:
    """Replace those of an earlier run; None for an archive that went to a device or pipe.

    EnvironmentUnfitError when the disk cannot take them.
    """
    if not archive.is_file():
        return None
    folder = logs_of(archive)
    try:
        folder.mkdir(exist_ok=True)
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the output of agent and server cannot be kept: {error.strerror}", place=str(folder)
        ) from None
    for role, found in output.items():
        write_whole(folder / f"{_NAMES[role]}.stdout", found.stdout, "output")
        write_whole(folder / f"{_NAMES[role]}.stderr", found.stderr, "output")
    return folder
