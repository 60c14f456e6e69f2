"""The command line: dispatch and exit codes, no logic (design §8); the tree is harness.arguments."""

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from harness import __version__
from harness.arguments import compare, fixtures, measure, prove, trust
from harness.errors import AssayError, EnvironmentUnfitError, InputError
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
    except ModuleNotFoundError as error:
        print(f"assay-runner: no Python package {error.name}", file=sys.stderr)
        print("  hint: run it through ./enter, or pip install what the checkout asks for", file=sys.stderr)
        return EnvironmentUnfitError.exit_code
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
    for argument in argv:
        if any("\ud800" <= character <= "\udfff" for character in argument):  # bytes that were no UTF-8
            raise InputError(
                "is not UTF-8", place=ascii(argument), hint="artifacts are: give it another name"
            )
    command: tuple[str, ...] = ()
    if "--" in argv:
        at = argv.index("--")
        argv, command = argv[:at], tuple(argv[at + 1 :])
    arguments = _parser().parse_args(argv)
    if command and arguments.command != "run":
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
    for family in (measure, trust, prove, compare, fixtures):
        family.add(commands)
    return parser
