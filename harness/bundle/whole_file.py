"""A file that is whole, or not there: written without a name, synced, named. A killed writer leaves none."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from harness.errors import EnvironmentUnfitError, InputError

_REMEDIES = {
    errno.ENOSPC: "free some space there, or write elsewhere",
    errno.EDQUOT: "free some of your quota there, or write elsewhere",
    errno.EROFS: "this file system is read-only: write elsewhere",
    errno.EACCES: "you may not write there: write elsewhere",
    errno.EPERM: "you may not write there: write elsewhere",
}


def write_whole(path: Path, data: bytes, what: str) -> None:
    """Replace the file at `path`, or leave everything as it was; errors as `whole_file`.

    A device or a pipe is written to, never replaced.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        try:
            path.write_bytes(data)
        except OSError as error:
            raise _reported(error, path, what) from error
        return
    with whole_file(path, what) as stream:
        stream.write(data)


@contextmanager
def whole_file(path: Path, what: str) -> Iterator[BinaryIO]:
    """A stream to what will be `path` (replacing a file there) once the block has ended well.

    Raises InputError for a `path` that cannot be, EnvironmentUnfitError when the disk cannot take it;
    after any error there is no file at `path` that is not whole. `what` names it in messages.
    """
    folder = path.parent
    # A dot file beside the target: the same file system, and no glob for archives finds it.
    aside = folder / f".{path.name}.{secrets.token_hex(8)}.partial"
    renamed = False
    try:
        with _create(aside) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            _name(stream.fileno(), aside)
        aside.replace(path)
        renamed = True
        _sync_folder(folder)
    except BaseException as error:
        _remove(path if renamed else aside)
        if isinstance(error, OSError):
            raise _reported(error, path, what) from error
        raise


def _create(aside: Path) -> BinaryIO:
    """A file without a name in the folder of `aside`; with it where the file system has no such files."""
    if hasattr(os, "O_TMPFILE"):  # on Linux
        try:
            return os.fdopen(os.open(aside.parent, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o666), "wb")
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # open(2): the latter by old kernels
                raise
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(aside, flags, 0o666), "wb")


def _name(descriptor: int, aside: Path) -> None:
    """Give the file its name, if it has none yet; a name that is there cannot be replaced by linking."""
    if os.fstat(descriptor).st_nlink == 0:
        # open(2), O_TMPFILE. Given a descriptor to start from, though unused, Python calls linkat(2).
        os.link(f"/proc/self/fd/{descriptor}", aside, src_dir_fd=descriptor, follow_symlinks=True)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        pass  # it was never there; and the first failure is the one to report


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync folders
            raise
    finally:
        os.close(descriptor)


def _reported(error: OSError, path: Path, what: str) -> InputError | EnvironmentUnfitError:
    text = f"the {what} could not be written: {error.strerror or error}"
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return InputError(text, place=str(path), hint="name a file in a folder that exists")
    hint = _REMEDIES.get(error.errno or 0, "look at that disk, or write elsewhere")
    return EnvironmentUnfitError(text, place=str(path), hint=hint)
