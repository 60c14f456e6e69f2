"""What a probe found, for people: a runtime with its findings, and all runtimes in one table."""

from collections.abc import Sequence

from harness.contracts.probe_report import ProbeReport
from harness.present.table import aligned
from harness.present.words import shown


def as_text(report: ProbeReport) -> str:
    """A line for each requirement, and below it what was found."""
    lines = [f"{report.runtime}: {report.sdk_name} {report.sdk_version}, {report.id_source}"]
    for row in report.rows:
        lines.append(f"  {'PASS' if row.passed else 'FAIL'} {row.requirement}")
        lines += [f"       {'- ' if finding.passed else 'FAIL '}{finding.text}" for finding in row.findings]
    return "\n".join(shown(line) for line in lines)


def as_matrix(reports: Sequence[ProbeReport]) -> str:
    """A line for each runtime, a column for each requirement."""
    requirements = list(dict.fromkeys(row.requirement for report in reports for row in report.rows))
    rows = [["runtime", "SDK version", "id source", *requirements, "verdict"]]
    for report in reports:
        verdicts = {row.requirement: row.passed for row in report.rows}
        words = ["pass" if verdicts[one] else "FAIL" for one in requirements]
        verdict = "pass" if report.passed else "FAIL"
        rows.append([report.runtime, report.sdk_version or "-", report.id_source, *words, verdict])
    return aligned([[shown(cell) for cell in row] for row in rows])
