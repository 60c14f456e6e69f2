"""Every promise has a test that breaks it, and the page says which."""

from pathlib import Path

from tests import guarantees


def test_each_promise_is_broken_by_a_test() -> None:
    assert guarantees.problems(guarantees.breaking_tests()) == []


def test_the_page_is_as_the_tests_say() -> None:
    written = guarantees.PAGE.read_text(encoding="utf-8")
    assert written == guarantees.page(guarantees.breaking_tests()), "python -m tests.guarantees --write"


def test_a_promise_without_a_test_and_a_test_without_a_promise_are_found(tmp_path: Path) -> None:
    text = "import pytest\n@pytest.mark.breaks('unclean:ring_drops', 'unclean:nothing')\ndef test_it(): ...\n"
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(text, encoding="utf-8")
    tests = guarantees.breaking_tests(tmp_path / "tests")
    assert tests["unclean:ring_drops"] == ["tests/test_some.py::test_it"]
    wrong = guarantees.problems(tests)
    assert "no test breaks unclean:oversized" in wrong
    assert "no test breaks unclean:ring_drops" not in wrong
    assert "tests/test_some.py::test_it breaks unclean:nothing, which is on no list" in wrong
