"""How each dimension was observed: one coverage descriptor a method (contracts §2.11, docs/limits.md)."""

from harness.bundle.reader import Archive
from harness.contracts.companion import ACCOUNTING
from harness.contracts.coverage import Completeness, CoverageDescriptor, Dimension
from harness.contracts.health import NetworkCoverage, ObservationHealth

_IO_URING = "io_uring operations"

REFERENCE_FILESYSTEM = CoverageDescriptor(
    dimension=Dimension.FILESYSTEM,
    method="open/openat/openat2 tracepoints",
    observes=("open", "openat", "openat2", "read open", "write open", "create on open"),
    known_blind_spots=("io_uring file operations", "mmap-backed writes"),
    completeness=Completeness.OPEN_SYSCALL_ONLY,
)
REFERENCE_PROCESS = CoverageDescriptor(
    dimension=Dimension.PROCESS,
    method="exec tracepoint",
    observes=("exec",),
    known_blind_spots=("fork/clone gaps",),
    completeness=Completeness.EXEC_ONLY,
)
REFERENCE_NETWORK = {
    NetworkCoverage.CONNECT_ONLY: CoverageDescriptor(
        dimension=Dimension.NETWORK,
        method="connect tracepoint",
        observes=("connect",),
        known_blind_spots=("peer change after connect, QUIC", _IO_URING),
        completeness=Completeness.CONNECT_ONLY,
    ),
    NetworkCoverage.DATAGRAM: CoverageDescriptor(
        dimension=Dimension.NETWORK,
        method="sendto/sendmsg tracepoints",
        observes=("sendto", "sendmsg", "datagram"),
        known_blind_spots=("connected datagrams without an explicit address", _IO_URING),
        completeness=Completeness.DATAGRAM,
    ),
    NetworkCoverage.BOTH: CoverageDescriptor(
        dimension=Dimension.NETWORK,
        method="connect and sendto/sendmsg tracepoints",
        observes=("connect", "sendto", "sendmsg", "datagram"),
        known_blind_spots=(_IO_URING,),
        completeness=Completeness.CONNECT_AND_DATAGRAM,
    ),
}
# Ours see more than these words of completeness say; there is none between them and `full`.
OWN = (
    CoverageDescriptor(
        dimension=Dimension.FILESYSTEM,
        method="raw system call tracepoints of the run's cgroup, paths resolved by the kernel",
        observes=(
            "open for read",
            "open for write",
            "create",
            "truncate",
            "delete",
            "unlink",
            "rename",
            "link",
            "mkdir",
            "change of mode, owner or attributes",
        ),
        known_blind_spots=(
            "file contents, and how much was read or written",
            "writes through a mapping, which show as an open for write",
            "existence probes that open nothing: stat, access, readlink",
        ),
        completeness=Completeness.OPEN_SYSCALL_ONLY,
    ),
    CoverageDescriptor(
        dimension=Dimension.NETWORK,
        method="connect, bind and send hooks of the run's cgroup, in sealed network namespaces",
        observes=("connect", "bind", "sendto", "sendmsg", "datagram"),
        known_blind_spots=("traffic on a connected socket", "messages on unix sockets"),
        completeness=Completeness.CONNECT_AND_DATAGRAM,
    ),
    CoverageDescriptor(
        dimension=Dimension.PROCESS,
        method="fork, exec and exit tracepoints of the run's cgroup",
        observes=("exec", "fork", "exit"),
        known_blind_spots=("code that runs without an execution: interpreted, mapped or injected",),
        completeness=Completeness.EXEC_ONLY,
    ),
)


def descriptors(archive: Archive, health: ObservationHealth) -> dict[Dimension, CoverageDescriptor]:
    """Ours for an archive with our books; else the reference's, the network one as health tells.

    A dimension without a descriptor supports no claim.
    """
    if ACCOUNTING in archive.members:
        return {one.dimension: one for one in OWN}
    found = [REFERENCE_FILESYSTEM, REFERENCE_PROCESS]
    coverage = health.network_protocol_coverage
    if coverage in REFERENCE_NETWORK:
        found.append(REFERENCE_NETWORK[coverage])
    return {one.dimension: one for one in found}
