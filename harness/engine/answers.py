"""What an engine says when it refuses something, for a person to read."""

import re

from docker.errors import DockerException
from requests.exceptions import RequestException

from harness.errors import EnvironmentUnfitError

_HEAD, _TAIL = 200, 120
# runc: `exec: "NAME": stat NAME: no such file or directory`; crun: "executable file `NAME` not found in PATH:
# …" or "the path `NAME` is not a regular file: …". Docker adds ": unknown", podman a sentence of its own.
_RUNC = re.compile(r'.*exec: ("[^"]*": .*?)(?:: unknown|: OCI .*)?$', re.DOTALL)
_CRUN = re.compile(
    r".*(?:executable file|the path) `([^`]*)` (not found(?: in \$PATH)?|is not a regular file)"
)


def unfit(what: str, error: DockerException | RequestException) -> EnvironmentUnfitError:
    """The error for an engine that refused something, with what it said about it."""
    return EnvironmentUnfitError(f"{what}: {said(error)}", hint="see the engine's log")


def said(error: Exception) -> str:
    """What an engine said, cut to one line: engines put whole documents into their messages."""
    text = str(getattr(error, "explanation", None) or error)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _HEAD + _TAIL else f"{line[:_HEAD]} … {line[-_TAIL:]}"


def no_program(error: Exception) -> str | None:
    """Which program the image does not have, and what is wrong with it, if that is what the engine says."""
    text = str(getattr(error, "explanation", None) or "")
    if runc := _RUNC.match(text):
        return runc[1]
    crun = _CRUN.match(text)
    return f'"{crun[1]}": {crun[2]}' if crun else None
