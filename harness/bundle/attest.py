"""The attestation of an archive: what its statement says, and whether a given one says the same.

The statement follows from the archive alone, so that anyone can make it again and compare: nothing of
the signer, the host's name or the time is in it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote_from_bytes

from harness.bundle.reader import Archive
from harness.bundle.signing import Key, verify_envelope
from harness.contracts import companion, manifest
from harness.contracts.attestation import (
    HOST_PREFIX,
    HOST_UNKNOWN,
    MAX_BUNDLE,
    RUNTIME_TRACE,
    AttestedHealth,
    AttestedRecords,
    DigestSet,
    Monitor,
    MonitoredProcess,
    MonitorLog,
    ResourceDescriptor,
    RuntimeTrace,
    RuntimeTraceStatement,
    Statement,
    TracedExec,
    TracedNetwork,
    TracedProcess,
    TracePolicy,
)
from harness.contracts.canonical import load_json, sha256_of, to_bytes
from harness.contracts.companion import (
    AccountingV1,
    CapabilitySurfaceV1,
    NetworkCapability,
    PathCapability,
    ProcessNode,
    ProcessTreeV1,
    RunSpecDocV1,
)
from harness.contracts.converter import parse, unstructure
from harness.contracts.health import Correlation, KernelLayer, ObservationHealth
from harness.contracts.surface import CapabilitySurface
from harness.errors import VerificationError

T = TypeVar("T")
MAX_ATTESTATIONS = 100  # lines of one bundle: each may ask for a verification
_HINT = "do not rely on this attestation for this archive: get both again from where they were made"


def statement_of(archive: Archive) -> RuntimeTraceStatement:
    """What an archive that was checked says of itself; see `contracts.attestation`."""
    subjects = [_member(archive, manifest.MANIFEST)]
    if archive.has_companion:
        subjects.append(_member(archive, manifest.COMPANION_MANIFEST))
    trace = RuntimeTrace(
        monitor=_monitor(archive),
        monitoredProcess=MonitoredProcess(hostID=_host(archive), event=archive.run_id),
        monitorLog=_log(archive),
        observationHealth=_health(archive),
    )
    return RuntimeTraceStatement(subject=tuple(subjects), predicate=trace)


def read_bundle(path: Path) -> bytes:
    """The bytes of a file of attestations, bounded; VerificationError AttestationMissing without one."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BUNDLE + 1)
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        hint = "name it with --attestation, or leave --key out to check the archive alone"
        raise VerificationError("AttestationMissing", message, place=str(path), hint=hint) from None
    if len(data) > MAX_BUNDLE:
        raise _failure("LimitAttestationBytes", f"more than {MAX_BUNDLE} bytes", str(path))
    return data


def check_attestation(archive: Archive, data: bytes, keys: Sequence[Key], place: str) -> Statement:
    """The first statement in a bundle that one of `keys` signed and that says what the archive says.

    `archive` must have been checked. As in-toto asks, lines that are for others are passed over; when none
    is left, the first one's fault is raised: VerificationError with a code of `verify_envelope`, or
    AttestationPredicateType, AttestationSubject, AttestationHealth, AttestationPredicate.
    """
    lines = data.removesuffix(b"\n").split(b"\n")
    if len(lines) > MAX_ATTESTATIONS:
        raise _failure("LimitAttestations", f"more than {MAX_ATTESTATIONS} lines", place)
    wanted = load_json(to_bytes(unstructure(statement_of(archive))), "statement")  # plain values, as read
    faults: list[VerificationError] = []
    for number, line in enumerate(lines, start=1):
        where = f"{place} line {number}"
        try:
            statement = verify_envelope(line, keys, where)
            _compare(unstructure(statement), wanted, where)
        except VerificationError as error:
            faults.append(error)
            continue
        return statement
    raise faults[0]


def _compare(found: dict[str, Any], wanted: dict[str, Any], place: str) -> None:
    if found["predicateType"] != RUNTIME_TRACE:
        message = f"is of type {found['predicateType']!r:.120}, not {RUNTIME_TRACE}"
        raise _failure("AttestationPredicateType", message, f"{place} at /predicateType")
    pointer = _difference(found, wanted)
    if pointer is None:
        return
    if pointer.startswith("/subject"):
        raise _failure("AttestationSubject", "is about another archive", f"{place} at {pointer}")
    code = "AttestationPredicate"
    if pointer.startswith("/predicate/observationHealth"):
        code = "AttestationHealth"
    raise _failure(code, "says something else than the archive", f"{place} at {pointer}")


def _difference(found: Any, wanted: Any) -> str | None:
    """The JSON pointer of the first place that differs."""
    if type(found) is not type(wanted):
        return ""
    if isinstance(wanted, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            below = _difference(found[key], wanted[key]) if key in found and key in wanted else ""
            if below is not None:
                return f"/{key.replace('~', '~0').replace('/', '~1')}{below}"
        return None
    if isinstance(wanted, list):
        for number, (one, other) in enumerate(zip(found, wanted, strict=False)):
            below = _difference(one, other)
            if below is not None:
                return f"/{number}{below}"
        return None if len(found) == len(wanted) else f"/{min(len(found), len(wanted))}"
    return None if found == wanted else ""


def _member(archive: Archive, name: str) -> ResourceDescriptor:
    return ResourceDescriptor(name=name, digest=DigestSet(sha256=_hex(archive, name)))


def _hex(archive: Archive, name: str) -> str:
    return sha256_of(archive.members[name]).removeprefix("sha256:")


def _document(archive: Archive, name: str, cls: type[T]) -> T | None:
    return parse(cls, load_json(archive.members[name], name)) if name in archive.members else None


def _host(archive: Archive) -> str:
    if companion.HOST not in archive.members:
        return HOST_UNKNOWN
    return HOST_PREFIX + _hex(archive, companion.HOST)


def _monitor(archive: Archive) -> Monitor:
    spec = _document(archive, companion.RUNSPEC, RunSpecDocV1)
    if spec is None:
        return Monitor()
    return Monitor(
        configSource=_member(archive, companion.RUNSPEC),
        tracePolicy=TracePolicy(witnesses=spec.witnesses, network=spec.network),
    )


def _log(archive: Archive) -> MonitorLog:
    """The v1 surface and process tree; for an archive without a companion its v0 surface."""
    surface = _document(archive, companion.SURFACE, CapabilitySurfaceV1)
    tree = _document(archive, companion.PROCESSES, ProcessTreeV1)
    if surface is not None and tree is not None:
        return MonitorLog(
            process=tuple(map(_process, tree.processes)),
            network=tuple(map(_network, surface.network)),
            fileAccess=tuple(map(_file, surface.paths)),
        )
    v0 = _document(archive, manifest.SURFACE, CapabilitySurface)
    assert v0 is not None
    execs = tuple(TracedExec(path=path) for path in v0.process_execs)
    return MonitorLog(
        process=(TracedProcess(execs=execs),) if execs else (),
        network=tuple(TracedNetwork(address=endpoint) for endpoint in v0.network_endpoints),
        fileAccess=tuple(
            ResourceDescriptor(name=path, uri=_uri(path.encode())) for path in v0.filesystem_paths
        ),
    )


def _process(node: ProcessNode) -> TracedProcess:
    execs = tuple(
        TracedExec(path=image.path, called=image.called, argv=image.argv, argvCut=image.argv_cut)
        for image in node.execs
    )
    return TracedProcess(
        process=node.process,
        role=node.role,
        parent=node.parent,
        execs=execs,
        exitCode=node.exit_code,
        signal=node.signal,
    )


def _network(found: NetworkCapability) -> TracedNetwork:
    """An internet address is written `host:port`, with brackets around IPv6."""
    host, _, port = found.address.rpartition(":")
    inet = found.family in ("inet", "inet6") and port.isdecimal()
    return TracedNetwork(
        ip=host.strip("[]") if inet else None,
        port=int(port) if inet else None,
        address=None if inet else found.address,
        operation=found.operation,
        family=found.family,
        result=found.result,
        roles=found.roles,
    )


def _file(found: PathCapability) -> ResourceDescriptor:
    raw = bytes.fromhex(found.path_hex) if found.path_hex else found.path.encode()
    actions = [unstructure(action) for action in found.actions]
    return ResourceDescriptor(name=found.path, uri=_uri(raw), annotations={"actions": actions})


def _uri(path: bytes) -> str:
    """RFC 8089 for an absolute path, as the container saw it; a name of another kind has no file URI."""
    scheme = "file://" if path.startswith(b"/") else "urn:assay-runner:path:"
    return scheme + quote_from_bytes(path)


def _health(archive: Archive) -> AttestedHealth:
    document = _document(archive, manifest.HEALTH, ObservationHealth)
    assert document is not None
    books = _document(archive, companion.ACCOUNTING, AccountingV1)
    if books is None:
        clean = (
            document.kernel_layer is KernelLayer.COMPLETE
            and document.ringbuf_drops == 0
            and document.cgroup_correlation is Correlation.CLEAN
        )
        return AttestedHealth(clean=clean, document=document)
    return AttestedHealth(
        clean=books.clean,
        unclean=books.unclean,
        missingWitnesses=books.missing_witnesses,
        records=_records(books),
        document=document,
    )


def _records(books: AccountingV1) -> AttestedRecords | None:
    if books.capture is None:
        return None
    kinds = books.capture.kinds.values()
    return AttestedRecords(
        seen=sum(kind.seen for kind in kinds),
        received=books.capture.received,
        lost=sum(kind.dropped + kind.oversized + kind.fault for kind in kinds),
        classes=books.records.classes,
    )


def _failure(code: str, message: str, place: str) -> VerificationError:
    return VerificationError(code, message, place=place, hint=_HINT)
