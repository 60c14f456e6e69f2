"""`python -m tests.hosts`: the matrix (`nox -s hosts`), or `run`: one command in one booted machine.

nox -s hosts                                                  # every row and step, then docs/hosts.md
nox -s hosts -- --only debian13,sid --steps doctor,gates      # some
python -m tests.hosts run --system debian12 -- './enter assay-runner doctor'
"""

import argparse
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.errors import AssayError
from tests.hosts import boot, session
from tests.hosts.matrix import ROWS, STEPS
from tests.hosts.roots import ROOT
from tests.hosts.systems import CGROUPS, SYSTEMS

STAGES = ("kits", "rows", "back")
_RUN = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root OUT=/job/out IN=/job/in
cd /job/src && exec /job/command
"""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    run = commands.add_parser("run", help="boot, run CMD in the tree as root, bring back $OUT")
    run.add_argument("--system", choices=SYSTEMS, default="debian12")
    run.add_argument("--cgroups", choices=CGROUPS, default="pure")
    run.add_argument("--cpus", type=int, default=1)
    run.add_argument("--tree", type=Path, default=ROOT, help="the checkout that is run there")
    run.add_argument("--in", dest="inputs", type=Path, nargs="*", default=[], help="files for $IN")
    run.add_argument("--out", type=Path, default=Path("out/hosts/run"), help="where $OUT comes to")
    run.add_argument("--limit", type=float, default=3600.0, help="seconds after which the machine is ended")
    run.add_argument("cmd", nargs="+", metavar="CMD", help="after --; one argument is a shell's command line")
    matrix = commands.add_parser("matrix", help="every row, and docs/hosts.md")
    matrix.add_argument(
        "--only", type=_names(ROWS), default=tuple(ROWS), metavar="ROW,…", help=", ".join(ROWS)
    )
    matrix.add_argument(
        "--steps", type=_names(STEPS), default=tuple(STEPS), metavar="STEP,…", help=", ".join(STEPS)
    )
    matrix.add_argument(
        "--stages", type=_names(STAGES), default=STAGES, metavar="STAGE,…", help=", ".join(STAGES)
    )
    matrix.add_argument("--again", action="store_true", help="also rows that are there for this very tree")
    matrix.add_argument("--out", type=Path, default=ROOT / "out" / "hosts", help="where everything comes to")
    commands.add_parser("needs", help="exit 5 if this host lacks what it needs, and how to get it")
    arguments = parser.parse_args(argv)
    boot.require()
    if arguments.what == "needs":
        return 0
    return _run(arguments) if arguments.what == "run" else _matrix(arguments)


def _names(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """A comma-separated choice, in the order in which they are known."""

    def chosen(text: str) -> tuple[str, ...]:
        wanted = set(text.split(","))
        if unknown := sorted(wanted - set(known)):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there is {', '.join(known)}")
        return tuple(name for name in known if name in wanted)

    return chosen


def _matrix(arguments: argparse.Namespace) -> int:
    places = session.Places(arguments.out)
    places.out.mkdir(parents=True, exist_ok=True)
    tree = session.tree_digest()
    if "kits" in arguments.stages and not session.make_kits(places, tree, _say):
        return 1
    if "rows" in arguments.stages:
        session.run_rows(places, arguments.only, arguments.steps, tree, _say, again=arguments.again)
    if "back" in arguments.stages:
        session.replay_back(places, arguments.only, _say)
    return 0 if session.write_page(places) else 1


def _run(arguments: argparse.Namespace) -> int:
    command = arguments.cmd[0] if len(arguments.cmd) == 1 else shlex.join(arguments.cmd)
    machine = boot.Machine(SYSTEMS[arguments.system], arguments.cgroups, arguments.cpus)
    with tempfile.TemporaryDirectory(prefix="job-") as folder:
        job = Path(folder)
        (job / "in").mkdir()
        for path in arguments.inputs:
            shutil.copy2(path, job / "in")
        for name, text in (("run", _RUN), ("command", f"#!/bin/bash\n{command}\n")):
            (job / name).write_text(text, encoding="utf-8")
            (job / name).chmod(0o755)
        done = boot.run_job(
            machine, job, arguments.out, tree=arguments.tree.resolve(), say=_say, limit_s=arguments.limit
        )
    times = f"up after {done.boot_s} s, job {done.job_s} s"
    _say(f"{done.release} {done.accelerator}: {times}, exit {done.code} {done.trouble}")
    return done.code if done.code is not None else 5


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(
        signal.SIGTERM, lambda number, _: sys.exit(128 + number)
    )  # what was made for the run goes, too
    try:
        raise SystemExit(main(sys.argv[1:]))
    except AssayError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None
