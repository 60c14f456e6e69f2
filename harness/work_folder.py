"""What an agent finds below /workspace: files, which of them are programs, links that stay inside."""

import hashlib
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from attrs import Factory, frozen

from harness.contracts.replay_kit import stays_inside
from harness.errors import InputError

_MAX_BYTES = 1 << 30


@frozen
class WorkFolder:
    """Paths are relative to the folder.

    files     "sha256:…" of each file's bytes
    programs  the files that their owner may execute, sorted
    links     what each symbolic link says
    folders   those that nothing is in
    """

    files: Mapping[str, str] = Factory(dict)
    programs: tuple[str, ...] = ()
    links: Mapping[str, str] = Factory(dict)
    folders: tuple[str, ...] = ()


def survey(folder: Path) -> WorkFolder:
    """What is in the folder. InputError for devices, links that lead out of it, and too much data."""
    files, programs, links, folders, total = {}, [], {}, [], 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            links[name] = os.readlink(path)  # noqa: PTH115 - pathlib drops a slash at the end
            if not stays_inside(name, links[name]):
                raise InputError(
                    f"the link leads to {links[name]!r}, which may be outside of {folder}",
                    place=str(path),
                    hint="make it relative, with each '..' at its beginning, or put the file itself there",
                )
        elif stat.S_ISDIR(status.st_mode):
            if not any(path.iterdir()):
                folders.append(name)
        elif stat.S_ISREG(status.st_mode):
            total += status.st_size
            if total > _MAX_BYTES:
                raise InputError("inputs are larger than 1 GiB", place=str(folder), hint="give less")
            files[name] = sha256(path)
            if status.st_mode & stat.S_IXUSR:
                programs.append(name)
        else:
            raise InputError("only files, folders and links are copied", place=str(path), hint="remove it")
    return WorkFolder(files, tuple(sorted(programs)), links, tuple(folders))


def copy(source: Path, target: Path, owner: int) -> None:
    """Copy what is in `source` into the folder `target`, readable for all and `owner`'s to change."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    for path in (target, *target.rglob("*")):
        os.chown(path, owner, owner, follow_symlinks=False)
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            path.chmod(0o755 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o644)


def sha256(path: Path) -> str:
    """Digest of a file's bytes as contracts write it."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
