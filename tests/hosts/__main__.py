"""`python -m tests.hosts run …`: one command in one booted machine, for whoever wants to see it there."""

import argparse
import sys
import tempfile
from pathlib import Path

from harness.errors import AssayError
from tests.hosts import boot
from tests.hosts.roots import ROOT
from tests.hosts.systems import CGROUPS, SYSTEMS

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
    arguments = parser.parse_args(argv)
    boot.require()
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    import shlex
    import shutil

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
    try:
        raise SystemExit(main(sys.argv[1:]))
    except AssayError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(5) from None
