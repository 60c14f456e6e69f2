"""What `diff`, `check`, `baseline accept` and `report` do; left wing only, so that they run on any laptop."""

import argparse
import re
import sys
from pathlib import Path

from harness.bundle.verify import check as verified
from harness.bundle.whole_file import write_whole
from harness.compare import baseline as baselines
from harness.compare.capability import capability_diff, to_json
from harness.compare.cross_runtime import runtime_side
from harness.compare.tree import load_run, runtime_difference, surface_difference
from harness.contracts.capability_diff import DiffStatus
from harness.contracts.difference import Contract, DifferenceReport, FailOn, Granularity, findings
from harness.errors import EvidenceError, InputError
from harness.present.html import as_html
from harness.present.json import Document, as_json
from harness.present.junit import as_junit
from harness.present.markdown import as_markdown
from harness.present.report import as_report
from harness.present.sarif import as_sarif
from harness.present.text import as_text, wants_colour

_RUNTIME_OPTIONS = ("base_prefix", "head_prefix", "base_runtime", "head_runtime")
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def diff(arguments: argparse.Namespace) -> int:
    """`assay-runner diff BASE HEAD`: 0 nothing, 1 a difference that counts; EvidenceError when unsure."""
    contract = _contract(arguments)
    granularity = Granularity(arguments.granularity)
    given = [name for name in _RUNTIME_OPTIONS if getattr(arguments, name) is not None]
    if given and not arguments.cross_runtime:
        option = f"--{given[0].replace('_', '-')}"
        raise InputError(f"{option} says nothing here", place="diff", hint="it goes with --cross-runtime")
    base, head = load_run(arguments.base), load_run(arguments.head)
    document: Document
    if arguments.cross_runtime:
        report, document = runtime_difference(
            (
                base,
                runtime_side(arguments.base, runtime=arguments.base_runtime, prefix=arguments.base_prefix),
            ),
            (
                head,
                runtime_side(arguments.head, runtime=arguments.head_runtime, prefix=arguments.head_prefix),
            ),
            granularity,
            contract,
        )
    else:
        report = surface_difference(base, head, granularity, contract)
        document = capability_diff(base.side, head.side)
    _write(_rendered(arguments, report, document if contract is Contract.V0 else report), arguments.output)
    return _verdict(arguments, report)


def check(arguments: argparse.Namespace) -> int:
    """`assay-runner check ARCHIVE --baseline FILE`: exit codes as `diff`."""
    accepted = baselines.read_baseline(arguments.baseline)
    head = load_run(arguments.archive)
    report = baselines.check_run(accepted, head, Granularity(arguments.granularity))
    if arguments.location is None and not arguments.baseline.is_absolute():
        arguments.location = arguments.baseline.as_posix()  # the file that a reviewer would change
    _write(_rendered(arguments, report, report), arguments.output)
    return _verdict(arguments, report)


def accept(arguments: argparse.Namespace) -> int:
    """`assay-runner baseline accept ARCHIVE`: writes the file, and says which on stderr."""
    run = load_run(arguments.archive)
    data = to_json(baselines.accept(run))
    output = arguments.output or _default_baseline(run.fixture)
    _write(data, output)
    if not arguments.quiet:
        sys.stderr.write(f"wrote {output}\n")
    return 0


def report(arguments: argparse.Namespace) -> int:
    """`assay-runner report ARCHIVE -o FILE`: one HTML page of an archive that verifies."""
    _write(as_report(verified(arguments.archive)).encode(), arguments.output)
    return 0


def _contract(arguments: argparse.Namespace) -> Contract | None:
    """JSON speaks v0 unless asked; people get v1 where both sides have it."""
    name = arguments.contract or ("v0" if arguments.format == "json" else None)
    contract = Contract(name) if name else None
    if arguments.format == "json" and contract is Contract.V0 and arguments.granularity != Granularity.EXACT:
        raise InputError(
            "the v0 document knows exact names only",
            place=f"--granularity {arguments.granularity}",
            hint="add --contract v1",
        )
    return contract


def _rendered(arguments: argparse.Namespace, report: DifferenceReport, document: Document) -> bytes:
    fail_on = FailOn(arguments.fail_on)
    match arguments.format:
        case "json":
            return as_json(document)
        case "sarif":
            return as_sarif(report, fail_on, location=arguments.location)
        case "junit":
            return as_junit(report, fail_on)
        case "markdown":
            return as_markdown(report).encode()
        case "html":
            return as_html(report).encode()
        case _:
            return as_text(report, colour=arguments.output is None and wants_colour()).encode()


def _verdict(arguments: argparse.Namespace, report: DifferenceReport) -> int:
    failed = report.status is DiffStatus.FAILED
    if not failed and findings(report, FailOn(arguments.fail_on)):
        return 1
    if failed or (report.status is not DiffStatus.CLEAN and not arguments.allow_partial):
        raise EvidenceError(
            f"the evidence is {report.status}: that nothing was found proves nothing",
            place=f"{report.base} and {report.head}",
            hint="see `assay-runner claims`" + ("" if failed else ", or give --allow-partial"),
        )
    return 0


def _default_baseline(fixture: str | None) -> Path:
    name = (fixture or "").replace(":", ".")  # "folder:scenario"
    if not _FILE_NAME.fullmatch(name):
        raise InputError("the archive names no fixture", place="baseline", hint="name the file with -o")
    Path("baselines").mkdir(exist_ok=True)
    return Path("baselines", f"{name}.json")


def _write(data: bytes, output: Path | None) -> None:
    """To stdout as these bytes, whatever the locale; or to a file that is whole or not there."""
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    write_whole(output.resolve(), data, "output")
