"""probe.json of `assay-runner probe`: may this runtime be a fixture, requirement by requirement."""

from attrs import frozen

from harness.contracts.converter import constant, nullable
from harness.contracts.rules import Digest

SCHEMA = "assay.runner.probe.v1"


@frozen(kw_only=True)
class ProbeFinding:
    """One thing that was looked at; `text` names what was found, and where it fails both values."""

    passed: bool
    text: str


@frozen(kw_only=True)
class ProbeRow:
    """A requirement of the candidate table: met if all findings are."""

    requirement: str
    passed: bool
    findings: tuple[ProbeFinding, ...]


@frozen(kw_only=True)
class ProbeReport:
    """`runs`: name of the run -> its archive, relative to the report; `sdk_name` and `sdk_version` as the
    SDK's events say them, null when there are none."""

    schema: str = constant(SCHEMA)
    runtime: str
    sdk_name: str | None = nullable()
    sdk_version: str | None = nullable()
    id_source: str
    image_id: Digest
    image_locked: bool
    passed: bool
    rows: tuple[ProbeRow, ...]
    runs: dict[str, str]
