"""Commands that compare archives, or show one: diff, check, baseline, report, drift, claims."""

import argparse
from pathlib import Path

from harness.arguments import Commands
from harness.present.progress import Progress


def add(commands: Commands) -> None:
    diff = commands.add_parser(
        "diff", help="what can HEAD touch that BASE could not, and the other way round"
    )
    diff.add_argument("base", type=Path, metavar="BASE")
    diff.add_argument("head", type=Path, metavar="HEAD")
    diff.add_argument(
        "--contract", choices=("v0", "v1"), help="which surface (default: v0 for json, else the best of both)"
    )
    _difference_options(diff)
    runtimes = diff.add_argument_group("across runtimes", "what is not given is read from the archives")
    runtimes.add_argument(
        "--cross-runtime", action="store_true", help="the two are runs of different runtimes"
    )
    for side in ("base", "head"):
        runtimes.add_argument(f"--{side}-prefix", metavar="DIR/", help=f"{side}'s work folder")
        runtimes.add_argument(f"--{side}-runtime", metavar="NAME", help=f"{side}'s runtime")
    diff.set_defaults(run=_diff)

    check = commands.add_parser("check", help="can ARCHIVE touch more, or less, than was accepted?")
    check.add_argument("archive", type=Path)
    check.add_argument("--baseline", type=Path, required=True, metavar="FILE")
    _difference_options(check)
    check.set_defaults(run=_check)

    baseline = commands.add_parser("baseline", help="what was accepted").add_subparsers(
        required=True, metavar="ACTION"
    )
    accept = baseline.add_parser("accept", help="write down ARCHIVE's surface, for review")
    accept.add_argument("archive", type=Path)
    accept.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: baselines/<fixture>.json")
    accept.set_defaults(run=_baseline_accept)

    report = commands.add_parser("report", help="one archive as one HTML page")
    report.add_argument("archive", type=Path)
    report.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    report.set_defaults(run=_report)

    drift = commands.add_parser("drift", help="what differs between two archives, and where it may come from")
    drift.add_argument("a", type=Path, metavar="A")
    drift.add_argument("b", type=Path, metavar="B")
    _drift_options(drift)
    drift.set_defaults(run=_drift)

    claims = commands.add_parser("claims", help="which claims an archive's evidence allows, and why")
    claims.add_argument("archive", type=Path)
    claims.add_argument("--format", choices=("text", "json"), default="text")
    claims.set_defaults(run=_claims)


def _difference_options(parser: argparse.ArgumentParser) -> None:
    formats = ("text", "json", "markdown", "sarif", "junit", "html")
    parser.add_argument("--format", choices=formats, default="text")
    parser.add_argument(
        "--fail-on", choices=("any", "added", "removed", "none"), default="any", help="what gives exit 1"
    )
    parser.add_argument(
        "--granularity",
        choices=("exact", "prefix", "class"),
        default="exact",
        help="names; the places they are in; or how many there are of each kind",
    )
    parser.add_argument(
        "--allow-partial", action="store_true", help="exit 0 although the evidence is partial"
    )
    parser.add_argument("--location", metavar="PATH", help="for sarif: the file that results point at")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: stdout")


def _drift_options(drift: argparse.ArgumentParser) -> None:
    drift.add_argument("--format", choices=("text", "json"), default="text")
    for option, metavar, text in (
        ("--fixture-path", "PATH", "a path that the task itself brings"),
        ("--path-alias", "RAW=NAME", "another name for a path (NAME@CLASS for a class of the taxonomy)"),
        ("--network-alias", "HOST:PORT=NAME", "another name for an endpoint"),
        ("--network-cidr", "CIDR=NAME", "another name for a block of addresses"),
        ("--provider-host", "HOST", "a host of the model's provider, beside the known ones"),
        ("--assert-claim", "KIND:DIMENSION", "exit 1 if the evidence does not bear this claim"),
    ):
        drift.add_argument(option, metavar=metavar, action="append", default=[], help=text)
    drift.add_argument(
        "--coverage-annotation-out",
        type=Path,
        metavar="FILE",
        help="write down what may be claimed of each dimension",
    )
    provenance = drift.add_argument_group("provenance", "what the report is to say about where it comes from")
    for option in ("assay-commit", "comparator-commit", "source-run-url", "workflow-url", "runner-label"):
        provenance.add_argument(f"--{option}", metavar="TEXT")
    provenance.add_argument("--rendered-at", metavar="TIME", help="RFC 3339")
    kinds = ("live_capture", "re_render", "synthetic_fixture", "unspecified")
    provenance.add_argument("--render-kind", choices=kinds, default="unspecified")
    provenance.add_argument("--raw-captures-unchanged", action="store_const", const=True)


def _drift(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness.compare import commands

    return commands.drift(arguments, progress.result)


def _claims(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness.compare import commands

    return commands.claims(arguments, progress.result)


def _diff(arguments: argparse.Namespace, _progress: Progress) -> int:
    from harness.present import commands

    return commands.diff(arguments)


def _check(arguments: argparse.Namespace, _progress: Progress) -> int:
    from harness.present import commands

    return commands.check(arguments)


def _baseline_accept(arguments: argparse.Namespace, _progress: Progress) -> int:
    from harness.present import commands

    return commands.accept(arguments)


def _report(arguments: argparse.Namespace, _progress: Progress) -> int:
    from harness.present import commands

    return commands.report(arguments)
