"""What an engine says when it refuses something, for a person to read."""

from docker.errors import DockerException
from requests.exceptions import RequestException

from harness.errors import EnvironmentUnfitError

_HEAD, _TAIL = 200, 120


def unfit(what: str, error: DockerException | RequestException) -> EnvironmentUnfitError:
    """The error for an engine that refused something, with what it said about it."""
    return EnvironmentUnfitError(f"{what}: {said(error)}", hint="see the engine's log")


def said(error: Exception) -> str:
    """What an engine said, cut to one line: engines put whole documents into their messages."""
    text = str(getattr(error, "explanation", None) or error)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _HEAD + _TAIL else f"{line[:_HEAD]} … {line[-_TAIL:]}"
