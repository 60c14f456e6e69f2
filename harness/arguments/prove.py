"""Commands of the delegated lane: which gates a change needs, and the proof that they were run."""

import argparse
from pathlib import Path

from harness.arguments import Commands
from harness.present.progress import Progress


def add(commands: Commands) -> None:
    pack = commands.add_parser(
        "proof-pack",
        help="what a gate session left, as one pack that proves itself",
        usage="assay-runner proof-pack [options] GATES\n       assay-runner proof-pack verify [options] PACK",
    )
    pack.add_argument("target", nargs="+", metavar="GATES", help="the folder that the gates wrote")
    pack.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR|FILE.tar",
        help="a folder, or one file (default: assay-runner-proof-upload)",
    )
    which = pack.add_mutually_exclusive_group()
    which.add_argument(
        "--all", action="store_true", help="every gate there is; one that is not there is missing"
    )
    which.add_argument(
        "--gate", action="append", default=[], metavar="NAME", help="default: the session's gates"
    )
    pack.add_argument(
        "--at", metavar="REV", help="verify: the gates must have run from the trees of this commit"
    )
    pack.add_argument("--json", action="store_true", help="verify: as JSON")
    pack.set_defaults(run=_proof_pack)

    lanes = commands.add_parser("lanes", help="which gates does a change need, and why?")
    lanes.add_argument("--base", required=True, metavar="REV", help="what the change is to go into")
    lanes.add_argument("--explain", action="store_true", help="every changed path with the rule that decided")
    lanes.add_argument(
        "--proof", type=Path, metavar="PACK", help="does this proof pack cover them, at HEAD? exit 1 if not"
    )
    lanes.add_argument("--json", action="store_true")
    lanes.set_defaults(run=_lanes)


def _proof_pack(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness.gates import commands

    return commands.proof_pack(arguments, progress.result)


def _lanes(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness.gates import commands

    return commands.lanes(arguments, progress.result)
