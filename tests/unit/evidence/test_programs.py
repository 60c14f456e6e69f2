"""What the kernel will execute for a declared command, in an image and a work folder by hand."""

from pathlib import Path

import pytest

from harness.evidence.image import DEFAULT_SEARCH, ImageFiles, search_of
from harness.evidence.programs import Program, resolve, shebang
from harness.plan import _from_inputs

ELF = (b"/usr/bin/python3.11", b"/usr/bin/dash", b"/opt/node/bin/node", b"/usr/bin/env")
SCRIPTS = {
    b"/usr/bin/tool": b"/bin/sh",
    b"/usr/bin/deep": b"/usr/bin/tool -x  y ",
    b"/usr/bin/python-tool": b"/usr/bin/env python3",
    b"/usr/bin/circle": b"/usr/bin/circle",
    b"/usr/bin/nobody": b"/no/such",
    b"/usr/bin/empty": b"",
}
IMAGE = ImageFiles(
    "sha256:0",
    frozenset(
        {b"/usr", b"/usr/bin", b"/opt", b"/opt/node", b"/opt/node/bin", b"/usr/bin/data", *ELF, *SCRIPTS}
    ),
    links={b"/bin": b"usr/bin", b"/usr/bin/python3": b"python3.11", b"/usr/bin/sh": b"dash"},
    programs=frozenset({*ELF, *SCRIPTS}),
    scripts=SCRIPTS,
)


def nothing(_path: bytes) -> None:
    return None


def executed(*command: str, search: str = DEFAULT_SEARCH) -> tuple[str, ...] | None:
    found = resolve("entry", command, IMAGE, search, nothing)
    return None if found is None else tuple(word.decode() for word in (found.path, *found.argv))


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (("/usr/bin/python3.11", "x"), ("/usr/bin/python3.11", "/usr/bin/python3.11", "x")),
        (("/bin/python3", "x"), ("/usr/bin/python3.11", "/bin/python3", "x")),
        (("/usr/../bin/./env",), ("/usr/bin/env", "/usr/../bin/./env")),
        (("env",), ("/usr/bin/env", "env")),
        (("sh", ""), ("/usr/bin/dash", "sh", "")),
        (("/usr/bin/tool", "a"), ("/usr/bin/dash", "/bin/sh", "/usr/bin/tool", "a")),
        (("tool", "a"), ("/usr/bin/dash", "/bin/sh", "/usr/bin/tool", "a")),
        (
            ("/usr/bin/python-tool",),
            ("/usr/bin/env", "/usr/bin/env", "python3", "/usr/bin/python-tool"),
        ),
        (
            ("/usr/bin/deep", "a"),
            ("/usr/bin/dash", "/bin/sh", "/usr/bin/tool", "-x  y", "/usr/bin/deep", "a"),
        ),
        (("node",), None),  # not on this path
        (("/usr/bin/data",), None),  # no program
        (("/usr/bin/circle",), None),
        (("/usr/bin/nobody",), None),
        (("/usr/bin/empty",), None),
        (("/workspace/x",), None),
        (("/tmp/x",), None),
        (("/no/such/../../usr/bin/env",), None),
    ],
)
def test_the_kernels_file_and_arguments(command: tuple[str, ...], wanted: tuple[str, ...] | None) -> None:
    assert executed(*command) == wanted


def test_the_path_is_searched_in_its_order() -> None:
    assert executed("node", search="/nowhere:/opt/node/bin:/usr/bin") == ("/opt/node/bin/node", "node")
    assert search_of(["A=1", "PATH=/opt/node/bin", "PATHS=x"]) == "/opt/node/bin"
    assert search_of([]) == search_of(["PATH="]) == DEFAULT_SEARCH


@pytest.mark.parametrize(
    ("first", "line"),
    [(b"#!/bin/sh\nx", b"/bin/sh"), (b"#! \t/bin/sh -e \n", b"/bin/sh -e"), (b"\x7fELF", None), (b"#!", b""),
     (b"#!/a\0b\n", b"/a"), (b"", None)],
)  # fmt: skip
def test_the_first_line_of_a_script(first: bytes, line: bytes | None) -> None:
    assert shebang(first) == line


def test_programs_of_the_work_folder(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, data in (("agent", b"\x7fELF"), ("job", b"#!/bin/sh -e\n"), ("plain", b"x")):
        (tmp_path / "bin" / name).write_bytes(data)
        (tmp_path / "bin" / name).chmod(0o644 if name == "plain" else 0o755)
    (tmp_path / "link").symlink_to("bin/agent")
    (tmp_path / "out").symlink_to("/usr/bin/env")

    def run(*command: str) -> Program | None:
        return resolve("entry", command, IMAGE, "/usr/bin", lambda path: _from_inputs(tmp_path, path))

    assert run("/workspace/bin/agent") == Program(
        "entry", b"/workspace/bin/agent", (b"/workspace/bin/agent",)
    )
    assert run("./link", "a") == Program("entry", b"/workspace/bin/agent", (b"./link", b"a"))
    assert run("bin/job") == Program("entry", b"/usr/bin/dash", (b"/bin/sh", b"-e", b"bin/job"))
    assert run("/workspace/bin/plain") is None
    assert run("/workspace/out") is None
    assert run("/workspace/missing") is None
