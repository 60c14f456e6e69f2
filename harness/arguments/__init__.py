"""The command line's tree, a module for each family of commands; each handler imports what it calls.

So `verify` and `diff` run on any laptop, and `--help` reads argparse alone.
"""

import argparse
import json
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - argparse has no other name for it


def image_unlocked(parser: argparse.ArgumentParser) -> None:
    """The option of every command that measures an image."""
    parser.add_argument(
        "--image-unlocked",
        action="store_true",
        help="measure the image although it is not the one of its lock; the archive says so",
    )


def print_json(document: Any) -> None:
    print(json.dumps(document, ensure_ascii=False, indent=2))
