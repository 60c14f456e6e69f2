"""`nox -s hosts`: kits of this host, each row's machine, the rows' kits back here, and the page of it all.

What is done is kept by a digest of the tree: a session that was killed goes on with the row that it was at.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import evolve, frozen
from cattrs import structure

from harness.errors import AssayError
from tests.hosts import boot, matrix, report, store
from tests.hosts.matrix import KITS, ROWS, Back, RowDone
from tests.hosts.roots import ROOT, root_disk

# what a row's verdict follows from: neither the prose, nor what boots machines, nor the pure tests
_COUNTED = (
    "harness",
    "bpf",
    "images",
    "runner-fixtures",
    "schemas",
    "requirements",
    "tests",
    "enter",
    "pyproject.toml",
)
_NOT_COUNTED = ("tests/hosts/", "tests/unit/")
PAGE = ROOT / "docs" / "hosts.md"


@frozen
class Places:
    """Below `out`: the kits of this host, and a folder for each row."""

    out: Path

    @property
    def kits(self) -> Path:
        return self.out / "kits"

    def row(self, name: str) -> Path:
        return self.out / name

    def result(self, name: str) -> Path:
        return self.out / f"{name}.json"


def tree_digest() -> str:
    """Of all files that a row's verdict follows from, as they are in the tree now."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z", *_COUNTED],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    names = [
        name
        for name in sorted(filter(None, listed.split("\0")))
        if (ROOT / name).is_file() and not name.startswith(_NOT_COUNTED)
    ]
    return store.digest("\n".join(names), *(ROOT / name for name in names))


def make_kits(places: Places, tree: str, say: Callable[[str], None]) -> bool:
    """The build machine's kits, unless they are there; False if one could not be made."""
    mark = places.kits / "tree"
    if mark.exists() and mark.read_text(encoding="ascii") == tree:
        return True
    shutil.rmtree(places.kits, ignore_errors=True)
    places.kits.mkdir(parents=True)
    for name in KITS:
        archive = places.kits / f"{name}.tar.gz"
        say(f"kit of {name}")
        for arguments in (("run", name, "-o", archive), ("kit", archive, "-o", places.kits / f"{name}.kit")):
            if _product(*map(str, arguments)).returncode != 0:
                return False
    mark.write_text(tree, encoding="ascii")
    return True


def run_rows(
    places: Places,
    names: Sequence[str],
    steps: Sequence[str],
    tree: str,
    say: Callable[[str], None],
    *,
    again: bool,
) -> None:
    """Each row that is not there for this tree with these steps."""
    for name in names:
        before = read_row(places, name)
        if not again and before and before.tree == tree and {s.name for s in before.steps} >= set(steps):
            say(f"{name}: kept, of {before.at}")
            continue
        say(f"{name}: {ROWS[name].machine.system.title}, {ROWS[name].machine.cpus} CPU")
        places.result(name).unlink(missing_ok=True)
        kits = [places.kits / f"{kit}.kit" for kit in KITS] if "replay" in steps else []
        try:
            done = matrix.run_row(
                ROWS[name], steps, kits, places.row(name), tree, lambda line: say(f"  {line}")
            )
        except (AssayError, subprocess.CalledProcessError) as error:
            done = matrix.not_run(ROWS[name], steps, tree, str(error))
        _write(places, done)
        say(f"{name}: {'ok' if done.ok else 'FAILED ' + done.trouble}")


def replay_back(places: Places, names: Sequence[str], say: Callable[[str], None]) -> None:
    """The rows' kits, measured again on this host."""
    for name in names:
        row = read_row(places, name)
        if row is None or row.back or "kits" not in {step.name for step in row.steps}:
            continue
        back = []
        for kit in KITS:
            path = places.row(name) / f"{kit}.kit"
            if not path.exists():
                back.append(Back(kit, None, "no kit came"))
                continue
            done = _product("replay", str(path), "--trust", "--json")
            back.append(Back(kit, done.returncode, matrix.equal_members(done.stdout) or _last(done.stderr)))
            say(f"{name}: {kit} replayed here: {back[-1].said}")
        _write(places, evolve(row, back=tuple(back)))


def read_row(places: Places, name: str) -> RowDone | None:
    """What is kept of it."""
    path = places.result(name)
    if not path.exists():
        return None
    return structure(json.loads(path.read_text(encoding="utf-8")), RowDone)


def write_page(places: Places) -> bool:
    """docs/hosts.md from all rows that are kept; True if there is none that is red."""
    rows = [row for name in ROWS if (row := read_row(places, name))]
    first = next(iter(ROWS.values())).machine.system
    how = boot.accelerator(root_disk(first))
    PAGE.write_text(report.page(rows, how), encoding="utf-8")
    return bool(rows) and all(row.ok for row in rows)


def _write(places: Places, row: RowDone) -> None:
    part = places.out / f"{row.name}.part"
    matrix.write(row, part)
    part.replace(places.result(row.name))


def _product(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
