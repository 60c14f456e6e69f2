"""What `drift` and `claims` do; left wing only, so that they run on any laptop."""

import argparse
from collections.abc import Callable

from harness.bundle.whole_file import write_whole
from harness.compare.capability import to_json
from harness.compare.claims import claims as claims_of
from harness.compare.drift import drift as drift_of
from harness.compare.drift import load_arm
from harness.compare.drift_coverage import annotate, is_blocked
from harness.compare.drift_options import PROVIDER_HOSTS, DriftOptions, declare, read_assertion
from harness.contracts.claims import ClaimsReport
from harness.contracts.converter import unstructure
from harness.contracts.fidelity import Decision
from harness.contracts.pretty import pretty
from harness.contracts.runtime_drift import DriftReport, RenderKind
from harness.errors import FindingError

Say = Callable[[str], None]
_SHOWN = 3  # values of a row in the text form


def drift(arguments: argparse.Namespace, say: Say) -> int:
    """`assay-runner drift A B`; FindingError when an asserted claim is blocked."""
    asserted = [(text, *read_assertion(text)) for text in arguments.assert_claim]
    options = _options(arguments)
    a, b = load_arm(arguments.a), load_arm(arguments.b)
    annotation = annotate(a, b)
    if arguments.coverage_annotation_out:
        write_whole(arguments.coverage_annotation_out, to_json(annotation), "annotation")
    report = drift_of(a, b, options)
    say(pretty(unstructure(report)) if arguments.format == "json" else _drift_text(report))
    blocked = [text for text, kind, dimension in asserted if is_blocked(annotation, kind, dimension)]
    if blocked:
        raise FindingError(
            "the evidence does not bear this claim",
            place=", ".join(blocked),
            hint="see `assay-runner claims` for what it does bear",
        )
    return 0


def claims(arguments: argparse.Namespace, say: Say) -> int:
    """`assay-runner claims ARCHIVE`: 0, or 4 when the archive does not verify and so bears none."""
    report = claims_of(arguments.archive)
    say(pretty(unstructure(report)) if arguments.format == "json" else _claims_text(report))
    return 0 if report.verified else 4


def _options(arguments: argparse.Namespace) -> DriftOptions:
    options = DriftOptions(
        fixture_paths=tuple(arguments.fixture_path),
        provider_hosts=(*PROVIDER_HOSTS, *arguments.provider_host),
        assay_commit=arguments.assay_commit,
        comparator_commit=arguments.comparator_commit,
        rendered_at=arguments.rendered_at,
        render_kind=RenderKind(arguments.render_kind),
        source_run_url=arguments.source_run_url,
        workflow_url=arguments.workflow_url,
        runner_label=arguments.runner_label,
        raw_captures_unchanged=arguments.raw_captures_unchanged,
    )
    return declare(
        options,
        path_aliases=arguments.path_alias,
        network_aliases=arguments.network_alias,
        network_cidrs=arguments.network_cidr,
    )


def _drift_text(report: DriftReport) -> str:
    lines = [f"a {report.archive_a.path} ({_shown(report.archive_a.runtime_label or 'no SDK events')})"]
    lines.append(f"b {report.archive_b.path} ({_shown(report.archive_b.runtime_label or 'no SDK events')})")
    for row in report.rows:
        lines.append(f"{row.classification:17} {row.dimension}: {_shown(row.detail)}")
        for sign, values in (("a", row.only_in_a), ("b", row.only_in_b)):
            lines += [f"    only in {sign}: {_shown(value)}" for value in values[:_SHOWN]]
            if len(values) > _SHOWN:
                lines.append(f"    only in {sign}: and {len(values) - _SHOWN} more")
    counts = report.summary
    lines.append(
        f"{counts.dimensions_checked} dimensions: {counts.task_induced} task-induced, "
        f"{counts.provider_induced} provider-induced, {counts.runtime_induced} runtime-induced, "
        f"{counts.inconclusive} inconclusive"
    )
    return "\n".join(lines)


def _shown(text: str) -> str:
    """Archives come from strangers: nothing of theirs may steer the terminal."""
    return text if text.isprintable() else ascii(text)


def _claims_text(report: ClaimsReport) -> str:
    verified = "verifies" if report.verified else "DOES NOT VERIFY"
    lines = [f"{report.archive} run_id={report.run_id}: {verified}, fidelity {report.fidelity.verdict}"]
    lines += [f"  {_shown(problem)}" for problem in report.problems]
    for claim in report.claims:
        name = f"{claim.dimension or ''} {claim.kind}".strip()
        lines.append(f"{claim.decision:8} {name}")
        if claim.decision is not Decision.ALLOWED:
            lines.append(f"         {claim.reason}")
    return "\n".join(lines)
