"""Commands for what is measured: image, new-fixture, probe."""

import argparse
from pathlib import Path

from harness.arguments import Commands, image_unlocked, print_json
from harness.arguments.host import on_host
from harness.errors import FindingError, InputError
from harness.present.progress import Progress


def add(commands: Commands) -> None:
    image = commands.add_parser("image", help="fixture images").add_subparsers(
        required=True, metavar="ACTION"
    )
    build = image.add_parser("build", help="build and load what the locks name")
    build.add_argument("names", nargs="*", metavar="NAME", help="default: all but candidates")
    build.set_defaults(run=_image, action="build")
    for action, text, every in (
        ("lock", "refresh image.lock.toml and say what changed", "every image, candidates too"),
        ("verify", "rebuild from empty caches and compare with the locks", "every image but candidates"),
    ):
        one = image.add_parser(action, help=text)
        one.add_argument("names", nargs="*", metavar="NAME", help="image, fixture, or folder")
        one.add_argument("--all", action="store_true", help=every)
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

    probe = commands.add_parser("probe", help="six runs, and whether this runtime may be a fixture")
    probe.add_argument("names", nargs="*", metavar="NAME", help="a runtime's fixture, by name or folder")
    probe.add_argument("--all", action="store_true", help="every runtime but candidates")
    probe.add_argument("-o", "--output", type=Path, default=Path("out/probes"), metavar="DIR")
    probe.add_argument("--json", action="store_true")
    image_unlocked(probe)
    probe.set_defaults(run=_probe)


@on_host
def _image(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness import image_commands

    actions = {
        "build": image_commands.build,
        "lock": image_commands.lock,
        "verify": image_commands.verify,
        "listing": image_commands.listing,
    }
    return actions[arguments.action](arguments, progress)


@on_host
def _new_fixture(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness import commands

    return commands.new_fixture(arguments, progress)


@on_host
def _probe(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness.bench import Bench
    from harness.contracts.converter import unstructure
    from harness.gates.catalog import all_runtimes, find_fixture
    from harness.gates.probe import probe, ways
    from harness.host.state import default_state
    from harness.present.probe import as_matrix, as_text

    if bool(arguments.names) == arguments.all:
        raise InputError("name runtimes, or give --all", place="probe", hint="assay-runner probe anthropic")
    fixtures = all_runtimes() if arguments.all else [find_fixture(name) for name in arguments.names]
    for fixture in fixtures:
        ways(fixture)  # bad input ends here, before anything is started
    reports = []
    with Bench(default_state(), progress.step) as bench:
        for fixture in fixtures:
            report = probe(bench, fixture, out=arguments.output, image_unlocked=arguments.image_unlocked)
            reports.append(report)
            if not arguments.json:
                progress.result(as_text(report))
    if arguments.json:
        print_json([unstructure(report) for report in reports])
    else:
        progress.result(as_matrix(reports))
    failed = [report.runtime for report in reports if not report.passed]
    if failed:
        raise FindingError(f"may not be a fixture: {', '.join(failed)}", hint="see the rows that say FAIL")
    return 0
