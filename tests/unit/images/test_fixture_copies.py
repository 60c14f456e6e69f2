"""Fixtures stand alone, so some of their programs are copies: which must stay copies."""

import pytest

from harness.plan import FIXTURES


@pytest.mark.parametrize("name", ["sdk_events.py", "script.py"])
def test_there_is_one_version(name: str) -> None:
    copies = list(FIXTURES.glob(f"*/{name}"))
    assert len(copies) > 1
    assert len({path.read_bytes() for path in copies}) == 1, sorted(path.parent.name for path in copies)


@pytest.mark.parametrize("fixture", ["anthropic", "gemini-google-genai", "pydantic-ai"])
def test_the_small_server_is_the_one_that_is_tested(fixture: str) -> None:
    tested = FIXTURES / "kernel-policy" / "file_server.py"
    assert (FIXTURES / fixture / "file_server.py").read_bytes() == tested.read_bytes()
