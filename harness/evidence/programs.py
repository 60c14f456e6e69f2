"""The programs that belong to a run itself: what the kernel will say when they are executed.

Each declared command is resolved before the run, in the image and in what lies in the work folder, to the
file that the kernel executes and the arguments that it then has. Nothing that a program is called by
counts afterwards (execve(2): for a script the file is its last interpreter, and its name an argument).
"""

import os
from collections.abc import Callable

from attrs import frozen

from harness.evidence.image import ImageFiles
from harness.evidence.paths import below, normal

WORKSPACE = b"/workspace"
ENTRY, BRIDGE, PROXY, SERVER = "entry", "bridge", "proxy", "server"
_MOST_INTERPRETERS = 5  # execve(2)
SHEBANG_BYTES = 256  # BINPRM_BUF_SIZE of linux/binfmts.h
_SPACES = b" \t"

Command = tuple[str, ...]
# A file of the work folder, by its path in the container -> where it leads and its first line after "#!"
# (None: no script); None: no such program.
FromWorkspace = Callable[[bytes], tuple[bytes, bytes | None] | None]


@frozen
class Program:
    """`path` and `argv` as the kernel tells them of the execution; `part` is what it is to the run."""

    part: str
    path: bytes
    argv: tuple[bytes, ...]


def resolve(
    part: str, command: Command, files: ImageFiles, search: str, from_workspace: FromWorkspace
) -> Program | None:
    """The program of a command that is started in the work folder; None if there is no such program."""
    if not command:
        return None  # the engine refuses it
    words = [os.fsencode(word) for word in command]
    for name in _candidates(words[0], search):
        found = _executed(name, words, files, from_workspace)
        if found is not None:
            path, argv = found
            return Program(part, path, tuple(argv))
    return None


def shebang(first: bytes) -> bytes | None:
    """What stands behind "#!" in the beginning of a file, as the kernel cuts it; None: it is no script."""
    if not first.startswith(b"#!"):
        return None
    return first[:SHEBANG_BYTES].split(b"\n", 1)[0].split(b"\0", 1)[0][2:].strip(_SPACES)


def _candidates(name: bytes, search: str) -> list[bytes]:
    if b"/" in name:
        return [name]
    return [(os.fsencode(folder) or b".") + b"/" + name for folder in search.split(":")]


def _executed(
    name: bytes, words: list[bytes], files: ImageFiles, from_workspace: FromWorkspace
) -> tuple[bytes, list[bytes]] | None:
    argv = words
    for _ in range(_MOST_INTERPRETERS + 1):
        absolute = name if name.startswith(b"/") else WORKSPACE + b"/" + name
        place = files.place(absolute)
        if place is None:
            return None
        if below(place, (WORKSPACE,)):
            found = from_workspace(normal(place))
            if found is None:
                return None
            place, line = found
        elif files.has(place) and place in files.programs:
            line = files.scripts.get(place)
        else:
            return None
        if line is None:
            return place, argv
        interpreter, _, argument = line.replace(b"\t", b" ").partition(b" ")
        if not interpreter:
            return None
        argv = [interpreter, *filter(None, [argument.strip(_SPACES)]), name, *argv[1:]]
        name = interpreter
    return None
