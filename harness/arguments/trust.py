"""What may be believed of an archive: verify."""

import argparse
from pathlib import Path

from harness.arguments import Commands, print_json
from harness.present.progress import Progress


def add(commands: Commands) -> None:
    verify = commands.add_parser("verify", help="check an archive offline")
    verify.add_argument("archive", type=Path, nargs="+")
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace, _progress: Progress) -> int:
    from harness.bundle.verify import verify
    from harness.present.verification import as_json, as_text

    results = [verify(path) for path in arguments.archive]
    if arguments.json:
        print_json([as_json(result) for result in results])
    else:
        for result in results:
            print(as_text(result))
    return 0 if all(result.ok for result in results) else 4
