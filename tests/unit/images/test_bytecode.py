"""Bytecode in the place of its source: nothing that did not compile is lost, nothing else is touched."""

from harness.engine.bytecode import bytecode_only
from harness.engine.layers import Entry

SOURCE, COMPILED, DATA = Entry(source=b"x = 1\n"), Entry(source=b"compiled"), Entry(source=b"data")


def test_bytecode_takes_the_place_of_its_source() -> None:
    tree = {
        "usr/lib/p/__init__.py": SOURCE,
        "usr/lib/p/__pycache__/__init__.cpython-311.pyc": COMPILED,
        "usr/lib/p/__pycache__/a.b.cpython-311.pyc": COMPILED,
        "usr/lib/p/a.b.py": SOURCE,
        "top.py": SOURCE,
        "__pycache__/top.cpython-311.pyc": COMPILED,
    }
    assert bytecode_only(tree) == {
        "usr/lib/p/__init__.pyc": COMPILED,
        "usr/lib/p/a.b.pyc": COMPILED,
        "top.pyc": COMPILED,
    }


def test_what_did_not_compile_and_what_is_no_module_stays() -> None:
    tree = {
        "p/broken.py": SOURCE,
        "p/broken.pyc": DATA,
        "p/data.py.txt": DATA,
        "p/__pycache__/other.cpython-310.pyc": DATA,
        "p/other.py": SOURCE,
    }
    assert bytecode_only(tree) == tree
