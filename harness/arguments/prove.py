"""Commands of the delegated lane: which gates a change needs, and the proof that they were run."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.arguments import Commands
from harness.arguments.host import require
from harness.present.progress import Progress

MAKE = "make"


def add(commands: Commands) -> None:
    pack = commands.add_parser(
        "proof-pack",
        help="what a gate session left, as one pack that proves itself",
        usage="assay-runner proof-pack [options] GATES\n       assay-runner proof-pack verify [options] PACK",
    )
    actions = pack.add_subparsers(required=True, metavar="GATES | verify PACK")
    make = actions.add_parser(
        MAKE, help="make a pack; the word may be left out", usage="assay-runner proof-pack [options] GATES"
    )
    make.add_argument("gates", type=Path, metavar="GATES", help="the folder that the gates wrote")
    make.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR|FILE.tar",
        help="a folder, or one file (default: assay-runner-proof-upload)",
    )
    which = make.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="every gate there is, also those not run")
    which.add_argument(
        "--gate", action="append", default=[], metavar="NAME", help="default: all that were run"
    )
    make.set_defaults(run=_make)
    verify = actions.add_parser("verify", help="check a pack offline")
    verify.add_argument("pack", type=Path, metavar="PACK")
    verify.add_argument("--at", metavar="REV", help="the gates must have run from the trees of this commit")
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(run=_verify)
    parse = pack.parse_known_args

    def by_default(words: Sequence[str] | None = None, namespace: Any = None) -> Any:
        given = list(words or ())
        named = given[:1] in ([MAKE], ["verify"], ["-h"], ["--help"])
        return parse(given if named else [MAKE, *given], namespace)

    pack.parse_known_args = by_default  # type: ignore[method-assign,assignment] # argparse knows no default action

    lanes = commands.add_parser("lanes", help="which gates does a change need, and why?")
    lanes.add_argument("--base", required=True, metavar="REV", help="what the change is to go into")
    lanes.add_argument("--explain", action="store_true", help="every changed path with the rule that decided")
    lanes.add_argument(
        "--proof", type=Path, metavar="PACK", help="does this proof pack cover them, at HEAD? exit 1 if not"
    )
    lanes.add_argument("--json", action="store_true")
    lanes.set_defaults(run=_lanes)


def _make(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness.gates import commands

    require("proof-pack")  # which gates there are is asked of the checkout
    return commands.make_proof_pack(arguments, progress.result)


def _verify(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness.gates import commands

    return commands.verify_proof_pack(arguments, progress.result)


def _lanes(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness.gates import commands

    require("lanes")
    return commands.lanes(arguments, progress.result)
