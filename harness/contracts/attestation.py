"""Attestations: in-toto Statement v1, the predicate runtime-trace v0.2, and the DSSE envelope around them.

Names and types are those of the in-toto attestation framework and of DSSE v1.0. The one extension is
`observationHealth`: runtime-trace has no field for what a monitor did not see.
"""

import re
from collections.abc import Mapping
from typing import Annotated

from attrs import frozen

from harness.contracts.converter import Natural, Rule, constant, nullable, omittable
from harness.contracts.health import ObservationHealth
from harness.contracts.rules import RunId

STATEMENT = "https://in-toto.io/Statement/v1"
RUNTIME_TRACE = "https://in-toto.io/attestation/runtime-trace/v0.2"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE_SUFFIX = ".intoto.jsonl"  # in-toto: attestations of <filename> are in <filename>.intoto.jsonl
BUNDLE_MEDIA_TYPE = "application/vnd.in-toto.bundle"
MAX_BUNDLE = 32 << 20  # bytes, of one envelope too

STATEMENT_SCHEMA = "assay.runner.runtime_trace_statement.v1"
HEALTH_SCHEMA = "assay.runner.attested_health.v1"
MONITOR = "urn:assay-runner:monitor:v1"
MEASURED_RUN = "urn:assay-runner:measured-run:v1"
HOST_PREFIX = "urn:assay-runner:host:"  # and the sha256 of companion/host.json
HOST_UNKNOWN = "urn:assay-runner:host-unknown"

Hex256 = Annotated[
    str, Rule("must be 64 lowercase hex digits", lambda text: re.fullmatch("[0-9a-f]{64}", text) is not None)
]


@frozen(kw_only=True)
class EnvelopeSignature:
    """One signature; `keyid` is the sha256 of the key as securesystemslib computes it."""

    keyid: str
    sig: str


@frozen(kw_only=True)
class Envelope:
    """DSSE v1.0: `payload` and each `sig` are standard base64."""

    payload: str
    payloadType: str
    signatures: tuple[EnvelopeSignature, ...]


@frozen(kw_only=True)
class DigestSet:
    """Of in-toto's algorithms the one that our manifests use."""

    sha256: Hex256


@frozen(kw_only=True)
class ResourceDescriptor:
    """A file or document; of uri and digest there is at least one."""

    name: str
    uri: str | None = omittable()
    digest: DigestSet | None = omittable()
    annotations: Mapping[str, object] | None = omittable()


@frozen(kw_only=True)
class Statement:
    """Any in-toto Statement v1: who it is about, and a predicate of a named type."""

    _type: str = constant(STATEMENT)
    subject: tuple[ResourceDescriptor, ...]
    predicateType: str
    predicate: Mapping[str, object]


@frozen(kw_only=True)
class TracePolicy:
    """What was asked for: witnesses, and the network that was declared."""

    witnesses: tuple[str, ...]
    network: str


@frozen(kw_only=True)
class Monitor:
    """`configSource` is companion/runspec.json, where the archive has one."""

    type: str = constant(MONITOR)
    configSource: ResourceDescriptor | None = omittable()
    tracePolicy: TracePolicy | None = omittable()


@frozen(kw_only=True)
class MonitoredProcess:
    """`hostID` names the digest of companion/host.json, never the host; `event` is the run id."""

    hostID: str
    type: str = constant(MEASURED_RUN)
    event: RunId


@frozen(kw_only=True)
class TracedExec:
    """One execution; `argv` is unknown for archives without a companion."""

    path: str
    called: str | None = omittable()
    argv: tuple[str, ...] | None = omittable()
    argvCut: bool | None = omittable()


@frozen(kw_only=True)
class TracedProcess:
    """A place in the fork tree; without a companion there is one entry that names no process."""

    process: str | None = omittable()
    role: str | None = omittable()
    parent: str | None = omittable()
    execs: tuple[TracedExec, ...]
    exitCode: int | None = omittable()
    signal: int | None = omittable()


@frozen(kw_only=True)
class TracedNetwork:
    """`ip` and `port` of an internet endpoint, `address` of any other that has a name."""

    ip: str | None = omittable()
    port: Natural | None = omittable()
    address: str | None = omittable()
    operation: str | None = omittable()
    family: str | None = omittable()
    result: str | None = omittable()
    roles: tuple[str, ...] | None = omittable()


@frozen(kw_only=True)
class MonitorLog:
    """The archive's surface. No file has a digest: eBPF cannot vouch for contents."""

    process: tuple[TracedProcess, ...]
    network: tuple[TracedNetwork, ...]
    fileAccess: tuple[ResourceDescriptor, ...]


@frozen(kw_only=True)
class AttestedRecords:
    """The kernel's books: every record in one class; `lost` were seen by the kernel and never received."""

    seen: Natural
    received: Natural
    lost: Natural
    classes: Mapping[str, Natural]


@frozen(kw_only=True)
class AttestedHealth:
    """What was seen and what was not.

    clean             the archive's own verdict; without a companion, of its health alone
    unclean           why not, as stable codes; null: not told (no companion)
    missingWitnesses  witnesses that were asked for and said nothing; null: not told
    records           null: the kernel was not captured, or its books are not in the archive
    document          observation-health.json, as it stands
    """

    schema: str = constant(HEALTH_SCHEMA)
    clean: bool
    unclean: tuple[str, ...] | None = nullable()
    missingWitnesses: tuple[str, ...] | None = nullable()
    records: AttestedRecords | None = nullable()
    document: ObservationHealth

    def validate(self) -> None:
        """RuleError as `ObservationHealth.validate`."""
        self.document.validate()


@frozen(kw_only=True)
class RuntimeTrace:
    """The predicate runtime-trace v0.2, with one extension field."""

    monitor: Monitor
    monitoredProcess: MonitoredProcess
    monitorLog: MonitorLog
    observationHealth: AttestedHealth


@frozen(kw_only=True)
class RuntimeTraceStatement:
    """What `attest` signs: the subjects are the archive's two manifests."""

    _type: str = constant(STATEMENT)
    subject: tuple[ResourceDescriptor, ...]
    predicateType: str = constant(RUNTIME_TRACE)
    predicate: RuntimeTrace

    def validate(self) -> None:
        """RuleError as `ObservationHealth.validate`."""
        self.predicate.observationHealth.validate()
