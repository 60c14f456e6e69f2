"""What a container wrote to its two streams, kept apart: for people, never evidence."""

from attrs import frozen

_STDERR_LINES, _STDOUT_LINES = 15, 5  # shown of each: a traceback says at its end what it was
_MOST = 400  # characters of a line


@frozen
class Output:
    """Bytes as they were written; of very much, the last megabytes."""

    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def text(self) -> str:
        """Both streams, one after the other."""
        return (self.stdout + self.stderr).decode("utf-8", "replace")

    def ends(self, name: str) -> list[str]:
        """The last lines of each stream that has any, below its name; nothing in them steers a terminal."""
        shown: list[str] = []
        for stream, data, count in (
            ("stderr", self.stderr, _STDERR_LINES),
            ("stdout", self.stdout, _STDOUT_LINES),
        ):
            lines = data.decode("utf-8", "replace").rstrip().splitlines()[-count:]
            if lines:
                shown += [f"the end of {name}.{stream}:", *(f"    {_plain(line)}" for line in lines)]
        return shown


def _plain(line: str) -> str:
    cut = line.expandtabs() if len(line) <= _MOST else f"{line[:_MOST]}…"
    return "".join(c if c.isprintable() else "\ufffd" for c in cut)
