"""One way in which an archive does not hold."""

from attrs import frozen


@frozen
class Problem:
    """`code` is a stable identity (contracts §1.7); `place` a JSON pointer, with line in NDJSON."""

    code: str
    member: str
    place: str
    expected: str
    actual: str

    @property
    def where(self) -> str:
        return " ".join(part for part in (self.member, self.place) if part)

    @property
    def text(self) -> str:
        if not self.expected:
            return self.actual
        return f"expected {self.expected}, found {self.actual}"
