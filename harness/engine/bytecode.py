"""Bytecode of an image's Python files, made by the image's own interpreter.

Containers have a read-only root, so without it every start compiles what it imports: 170 ms instead
of 45 ms for the proxy's modules. The files are of the unchecked kind of PEP 552: no time stamp is in
them, and equal sources give equal bytes.
"""

import subprocess
from pathlib import Path, PurePosixPath

from harness.engine.layers import Entry, Tree
from harness.errors import VerificationError

LOADER = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
PYTHON = "usr/bin/python3.11"
TAG = "cpython-311"  # of its bytecode's names (PEP 3147)
TIMEOUT_S = 300


def with_bytecode(tree: Tree, interpreter: Tree, scratch: Path) -> Tree:
    """`tree` and a __pycache__ for its Python files.

    `interpreter` holds Python and its libraries; it runs in `scratch`, on these files alone and
    without the host's libraries. A file that does not compile gets no bytecode, as with pip.
    """
    root = scratch / "root"
    for name, entry in {**interpreter, **tree}.items():
        if entry.source is not None:
            _place(root / name, entry)
    sources = [root / name for name in tree if name.endswith(".py")]
    listed = scratch / "sources"
    listed.write_text("".join(f"{path}\n" for path in sorted(sources)), encoding="utf-8")
    loader, python = root / LOADER, root / PYTHON
    # -B: what compileall itself imports is not compiled on the way, with the scratch folder's name in it.
    command = [loader, "--library-path", loader.parent, python, "-S", "-s", "-B", "-m", "compileall",
               "-q", "-j1", "--invalidation-mode=unchecked-hash", "-s", root, "-i", listed]  # fmt: skip
    env = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    done = subprocess.run(
        [str(part) for part in command],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    compiled = {path.relative_to(root).as_posix(): Entry(source=path) for path in root.rglob("*.pyc")}
    if sources and not compiled:
        raise VerificationError(
            "InterpreterUnusable",
            (done.stderr or done.stdout)[-2000:],
            place=PYTHON,
            hint="build on Linux, x86-64",
        )
    return {**tree, **compiled}


def bytecode_only(tree: Tree) -> Tree:
    """`tree` with each compiled source replaced by its bytecode, which stands as x.pyc in its place and is
    imported from there (PEP 3147, "Case 4: legacy pyc files and source-less imports")."""
    moved = {
        name: str(path.parents[1] / path.name.replace(f".{TAG}.", "."))
        for name in tree
        if (path := PurePosixPath(name)).match(f"__pycache__/*.{TAG}.pyc")
    }
    replaced = {place.removesuffix("c") for place in moved.values()}
    return {moved.get(name, name): entry for name, entry in tree.items() if name not in replaced}


def _place(path: Path, entry: Entry) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(entry.source, Path):
        path.symlink_to(entry.source)
    else:
        path.write_bytes(entry.source or b"")
    if entry.executable:
        path.chmod(0o755)
