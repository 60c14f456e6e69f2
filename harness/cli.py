"""The command line: argparse tree and exit codes, no logic (design §8).

Right-wing modules are imported by the commands that need them, so that `verify` runs on any laptop.
"""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from harness import __version__
from harness.errors import AssayError, FindingError, InputError
from harness.present.progress import Progress

INTERRUPTED, TERMINATED = 130, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the only place where an error becomes an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return main_inner(sys.argv[1:] if argv is None else list(argv))
    except AssayError as error:
        print(f"assay-runner: {error}", file=sys.stderr)
        return error.exit_code
    except PermissionError as error:
        print(f"assay-runner: {error.filename}: {error.strerror}", file=sys.stderr)
        print("  hint: run it as a user who may do that", file=sys.stderr)
        return InputError.exit_code
    except KeyboardInterrupt:
        print("assay-runner: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def main_inner(argv: list[str]) -> int:
    """Parse and dispatch; raises AssayError."""
    command: tuple[str, ...] = ()
    if "--" in argv:
        at = argv.index("--")
        argv, command = argv[:at], tuple(argv[at + 1 :])
    arguments = _parser().parse_args(argv)
    if command and arguments.run is not _run:
        raise InputError("takes no command after --", place=arguments.command)
    arguments.tail = command
    code: int = arguments.run(arguments, Progress(quiet=arguments.quiet))
    return code


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="assay-runner",
        description="What did this AI agent really do on the machine, and did that change?",
        allow_abbrev=False,
        epilog="Exit codes: 0 good, 1 a finding, 2 bad input, 3 evidence not clean, 4 verification failed, "
        "5 environment unfit, 6 the measured command failed, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"assay-runner {__version__}")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="is this host fit? what to do if not")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=_doctor)

    run = commands.add_parser(
        "run", help="one measured run", usage="assay-runner run [options] (FIXTURE | --image IMAGE -- CMD…)"
    )
    run.add_argument("fixture", nargs="?", help="a fixture's name or folder")
    run.add_argument(
        "-o", "--output", type=Path, help="the archive (default: assay-runner-spike-<run_id>.tar.gz)"
    )
    run.add_argument("--run-id", help="default: run_ and 32 hex digits")
    run.add_argument("--image", help="measure CMD in this image of the engine")
    run.add_argument("--work", type=Path, help="with --image: folder to copy to /workspace")
    run.add_argument(
        "--deadline", type=float, default=60.0, metavar="SECONDS", help="with --image (default 60)"
    )
    run.add_argument(
        "--contract-only",
        action="store_true",
        help="run CMD on this host, without kernel capture or containers",
    )
    run.add_argument("--agent-shim", default="none", help="with --contract-only")
    _image_unlocked(run)
    run.set_defaults(run=_run)

    gate = commands.add_parser("gate", help="acceptance and determinism of gates")
    gate.add_argument("gates", nargs="*", metavar="GATE", help="gate or fixture names")
    gate.add_argument("--all", action="store_true", help="every gate")
    gate.add_argument("--runs", type=int, default=3)
    gate.add_argument("-o", "--output", type=Path, default=Path("out/gates"))
    _image_unlocked(gate)
    gate.set_defaults(run=_gate)

    verify = commands.add_parser("verify", help="check an archive offline")
    verify.add_argument("archive", type=Path, nargs="+")
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(run=_verify)

    drift = commands.add_parser("drift", help="what differs between two archives, and where it may come from")
    drift.add_argument("a", type=Path, metavar="A")
    drift.add_argument("b", type=Path, metavar="B")
    _drift_options(drift)
    drift.set_defaults(run=_drift)

    claims = commands.add_parser("claims", help="which claims an archive's evidence allows, and why")
    claims.add_argument("archive", type=Path)
    claims.add_argument("--format", choices=("text", "json"), default="text")
    claims.set_defaults(run=_claims)

    _compare_parsers(commands)
    _image_parsers(commands)

    fixture = commands.add_parser("new-fixture", help="write a working fixture to start from")
    fixture.add_argument("name", metavar="NAME")
    fixture.add_argument("--runtime", required=True, choices=("python", "node"))
    fixture.add_argument(
        "--folder", type=Path, default=Path(), metavar="DIR", help="where to put it (default: here)"
    )
    fixture.set_defaults(run=_new_fixture)

    engine = commands.add_parser("engine", help="the embedded engine").add_subparsers(
        required=True, metavar="ACTION"
    )
    for action, text in (("start", "start it"), ("stop", "stop it"), ("status", "look")):
        one = engine.add_parser(action, help=text)
        one.add_argument("--json", action="store_true")
        one.set_defaults(run=_engine, action=action)
    return parser


def _compare_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
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


def _image_parsers(commands: Any) -> None:
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


def _image_unlocked(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image-unlocked",
        action="store_true",
        help="measure the image although it is not the one of its lock; the archive says so",
    )


def _doctor(arguments: argparse.Namespace, _progress: Progress) -> int:
    from harness.engine.daemon import checks as engine_checks
    from harness.host import doctor
    from harness.host.state import default_state

    state = default_state()
    checks = [*doctor.checks(state), *engine_checks(state)]
    if arguments.json:
        _print_json([{"name": c.name, "ok": c.ok, "detail": c.detail, "remedy": c.remedy} for c in checks])
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
            if not check.ok:
                print(f"     remedy: {check.remedy}")
    return 0 if all(check.ok for check in checks) else 5


def _run(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness import commands

    return commands.run(arguments, progress)


def _gate(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness.bench import Bench
    from harness.gates.catalog import all_gates, find_fixture
    from harness.gates.runner import run_gates
    from harness.host.state import default_state

    if bool(arguments.gates) == arguments.all:
        raise InputError("name gates, or give --all", place="gate", hint="assay-runner gate openai-agents")
    fixtures = all_gates() if arguments.all else [find_fixture(name) for name in arguments.gates]
    with Bench(default_state(), progress.step) as bench:
        results = run_gates(
            bench,
            fixtures,
            runs=arguments.runs,
            out=arguments.output,
            say=progress.result,
            image_unlocked=arguments.image_unlocked,
        )
    failed = [result.gate for result in results if not result.passed]
    if failed:
        raise FindingError(f"failed: {', '.join(failed)}", hint=f"see {arguments.output / 'summary.json'}")
    return 0


def _verify(arguments: argparse.Namespace, _progress: Progress) -> int:
    from harness.bundle.verify import verify
    from harness.present.verification import as_json, as_text

    results = [verify(path) for path in arguments.archive]
    if arguments.json:
        _print_json([as_json(result) for result in results])
    else:
        for result in results:
            print(as_text(result))
    return 0 if all(result.ok for result in results) else 4


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


def _engine(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness import commands

    return commands.engine(arguments, progress)


def _print_json(document: Any) -> None:
    print(json.dumps(document, ensure_ascii=False, indent=2))
