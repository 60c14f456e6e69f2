"""Names that a program makes up anew in each run (from its clock, its pid, or at random), declared before
the run as globs: in evidence the glob stands for each of them, and they are counted beside it.

A declared name without a "*" is a file of /proc or /sys that the agent looks at in some runs and not
in others: such looks are counted and not told (harness.evidence.classify).

Only what the agent itself did to a file is told so. A program that was executed, a socket's address
and all that the tools touched keep their names, declared or not. Which globs may be declared says
harness.spec.
"""

import re
from collections.abc import Iterable

from attrs import evolve

from harness.evidence.model import Kind, Role
from harness.evidence.operations import Operation


class Volatile:
    """Puts the globs in place of names; `counts` has the operations of each glob so far."""

    def __init__(self, globs: Iterable[str]) -> None:
        self.counts = dict.fromkeys(globs, 0)
        self._by_folder: dict[bytes, list[tuple[re.Pattern[bytes], str]]] = {}
        for glob in self.counts:
            folder, _, name = glob.encode().rpartition(b"/")
            pattern = b".*".join(re.escape(part) for part in name.split(b"*"))
            self._by_folder.setdefault(folder, []).append((re.compile(pattern, re.DOTALL), glob))

    def told(self, operation: Operation) -> Operation:
        """The operation with globs for its volatile names."""
        if not self.counts or operation.role is not Role.SUBJECT or operation.first.kind is Kind.EXEC:
            return operation
        names = (operation.path, operation.path2)
        globs = [self._glob(name) for name in names]
        for glob in {glob for glob in globs if glob is not None}:
            self.counts[glob] += 1
        path, path2 = (
            name if glob is None else glob.encode() for name, glob in zip(names, globs, strict=True)
        )
        return operation if (path, path2) == names else evolve(operation, path=path, path2=path2)

    def declared(self, path: bytes) -> bool:
        """Does a glob stand for this name already?"""
        return self._glob(path) is not None

    def _glob(self, path: bytes | None) -> str | None:
        folder, _, name = (path or b"").rpartition(b"/")
        found = (glob for pattern, glob in self._by_folder.get(folder, ()) if pattern.fullmatch(name))
        return next(found, None)
