"""Fixtures stand alone, so some of their programs are copies: which must stay copies."""

import pytest

from harness.plan import FIXTURES


@pytest.mark.parametrize(
    ("name", "originals"),
    [
        ("sdk_events.py", ["openai-agents-python"]),
        ("script.py", ["openai-agents-python"]),
        ("file_server.py", ["kernel-policy", "openai-agents-python"]),  # our own, or the official SDK's
    ],
)
def test_copies_are_equal(name: str, originals: list[str]) -> None:
    known = [(FIXTURES / original / name).read_bytes() for original in originals]
    copies = list(FIXTURES.glob(f"*/{name}"))
    assert len(copies) > len(originals)
    assert [path.parent.name for path in copies if path.read_bytes() not in known] == []
