"""One way in which an archive does not hold, and all of one stage."""

from collections.abc import Iterable

from attrs import frozen

MAX_PROBLEMS = 1000  # that are kept of one stage: a stranger's archive may have a million


@frozen
class Problem:
    """`code` is a stable identity (contracts §1.7); `place` a JSON pointer, with line in NDJSON.

    Both values are texts; `expected` is empty where there is nothing to compare with. `remedy` is what to do
    about it, empty where it is what must be done about any archive that does not hold.
    """

    code: str
    member: str
    place: str
    expected: str
    actual: str
    remedy: str = ""

    @property
    def where(self) -> str:
        return " ".join(part for part in (self.member, self.place) if part)

    @property
    def text(self) -> str:
        if not self.expected:
            return self.actual
        return f"expected {self.expected}, found {self.actual}"


class BrokenError(Exception):
    """A stage of verification does not hold: its `problems`, at least one; `more` there are beyond them."""

    def __init__(self, problems: Iterable[Problem], *, more: bool = False) -> None:
        self.problems = tuple(problems)
        self.more = more or len(self.problems) > MAX_PROBLEMS
        self.problems = self.problems[:MAX_PROBLEMS]
        super().__init__(self.problems[0].text)

    @classmethod
    def one(cls, code: str, member: str, text: str, place: str = "") -> "BrokenError":
        return cls([Problem(code, member, place, "", text)])


class Kept:
    """The first MAX_PROBLEMS problems."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.more = False

    def add(self, problem: Problem) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        else:
            self.more = True

    def add_or_stop(self, problem: Problem) -> None:
        """As `add`, but BrokenError as soon as there are more than are kept."""
        self.add(problem)
        if self.more:
            self.raise_any()

    def raise_any(self) -> None:
        """BrokenError if there is any."""
        if self.problems:
            raise BrokenError(self.problems, more=self.more)
