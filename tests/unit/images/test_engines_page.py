"""The table of docs/engines.md is the list of rows that `nox -s engines` tries."""

from pathlib import Path

from tests.engines.rows import ROWS

PAGE = Path(__file__).parents[3] / "docs" / "engines.md"


def test_the_table_is_the_rows_that_are_tried() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first = lines.index("|---|---|---|---|---|---|---|") + 1
    assert lines[first : first + len(ROWS)] == [row.line for row in ROWS]
    assert lines[first + len(ROWS)] == ""
    assert len({row.name for row in ROWS}) == len(ROWS)
