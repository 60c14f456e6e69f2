"""Commands for what is measured: image, new-fixture."""

import argparse
from pathlib import Path

from harness.arguments import Commands
from harness.present.progress import Progress


def add(commands: Commands) -> None:
    image = commands.add_parser("image", help="fixture images").add_subparsers(
        required=True, metavar="ACTION"
    )
    build = image.add_parser("build", help="build and load what the locks name")
    build.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    build.set_defaults(run=_image, action="build")
    for action, text in (
        ("lock", "refresh image.lock.toml and say what changed"),
        ("verify", "rebuild from empty caches and compare with the locks"),
    ):
        one = image.add_parser(action, help=text)
        one.add_argument("names", nargs="*", metavar="NAME", help="image, fixture, or folder")
        one.add_argument("--all", action="store_true", help="every image")
        one.set_defaults(run=_image, action=action)
        if action == "lock":
            one.add_argument(
                "--packages",
                action="store_true",
                help="choose package versions anew first: the images' own, with --all also the shared ones",
            )
    listing = image.add_parser("list", help="what there is; builds nothing")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=_image, action="listing")

    fixture = commands.add_parser("new-fixture", help="write a working fixture to start from")
    fixture.add_argument("name", metavar="NAME")
    fixture.add_argument("--runtime", required=True, choices=("python", "node"))
    fixture.add_argument(
        "--folder", type=Path, default=Path(), metavar="DIR", help="where to put it (default: here)"
    )
    fixture.set_defaults(run=_new_fixture)


def _image(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness import image_commands

    actions = {
        "build": image_commands.build,
        "lock": image_commands.lock,
        "verify": image_commands.verify,
        "listing": image_commands.listing,
    }
    return actions[arguments.action](arguments, progress)


def _new_fixture(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness import commands

    return commands.new_fixture(arguments, progress)
