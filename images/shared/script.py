"""The script of a local model: a line of the task is a turn, a file that it names one call of that turn."""

import os
import re


class Script:
    """Hands out the ids of calls, and knows them again.

    `ids` is what the ids begin with; three digits follow. Where it is empty, the model gives no id.
    """

    def __init__(self, task: str, ids: str) -> None:
        self.turns = [re.findall(r"/workspace/[\w./-]*\w", line) for line in task.splitlines()]
        self.ids = ids
        self.handed_out: dict[str, str] = {}  # call id -> the file it asks for

    def next_turn(self) -> list[tuple[str, str]]:
        """(call id, file) of each parallel call; empty when it is time for the last answer."""
        files = self.turns.pop(0) if self.turns else []
        calls = [(self._id(len(self.handed_out) + i), file) for i, file in enumerate(files, start=1)]
        self.handed_out.update(calls)
        return calls

    def _id(self, number: int) -> str:
        return f"{self.ids}{number:03}" if self.ids else ""

    def checked(self, call_id: str, file: object) -> str:
        """The id, if it is the model's own for this file; never one that an SDK or we made up."""
        if self.handed_out.get(call_id) != file:
            raise ValueError(f"{call_id!r} is not the model's id for {file!r}")
        return call_id


def read_task() -> str:
    """The task that the fixture names."""
    with open(os.environ["ASSAY_RUNNER_TASK"], encoding="utf-8") as file:  # noqa: PTH123 - nothing else is opened
        return file.read()
