"""The network seal of a container: nothing but loopback, and not one packet on it that was not declared.

The namespace is entered by setns(2) in a thread of its own, because that changes only the calling
thread; it is held open by descriptor, because it dies with the container's last process and the
counters must be read after that. Routes: table 255 is the kernel's own `local` table (rtnetlink(7)).
What another namespace made by the subject would hide is closed elsewhere: the seccomp profile
refuses unshare, setns and the CLONE_NEW* flags.
"""

import ctypes
import ipaddress
import os
import threading
from collections.abc import Iterator
from typing import Any

from attrs import frozen
from pyroute2 import IPRoute

from harness.evidence.model import NetworkSeal, Role

CLONE_NEWNET = 0x40000000
LOCAL_TABLE = 255
LOOPBACK = "lo"
_FAMILIES = (2, 10)  # AF_INET, AF_INET6


@frozen
class NetworkSnapshot:
    """One namespace at one moment. `packets`: received plus sent, on all links together."""

    role: Role
    links: tuple[str, ...] = ()
    foreign_routes: tuple[str, ...] = ()
    packets: int = 0
    problems: tuple[str, ...] = ()


def open_netns(pid: int) -> int:
    """A descriptor of the process's network namespace, which keeps the namespace in being."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def inspect(role: Role, descriptor: int) -> NetworkSnapshot:
    """What is in the namespace now. Whatever goes wrong is a problem of the snapshot, never silence."""
    taken: list[NetworkSnapshot] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            _enter(descriptor)
            taken.append(_snapshot(role))
        except BaseException as error:  # noqa: BLE001 - a thread's error must reach the caller
            errors.append(error)

    if os.fstat(descriptor).st_ino == os.stat("/proc/self/ns/net").st_ino:  # noqa: PTH116 - beside fstat
        return NetworkSnapshot(role, problems=("network_not_sealed: it is the host's own namespace",))
    thread = threading.Thread(target=body, name=f"netns-{role}")
    thread.start()
    thread.join()
    if errors or not taken:
        what = errors[0] if errors else "no answer"
        return NetworkSnapshot(role, problems=(f"network_unreadable: {type(what).__name__}: {what}",))
    return taken[0]


def seal(role: Role, start: NetworkSnapshot, end: NetworkSnapshot, *, declared: str = "none") -> NetworkSeal:
    """Judge both snapshots; `problems` is empty only for a namespace that was sealed all the time.

    Where "loopback" is declared, packets are counted but no problem: without another link they go nowhere.
    """
    problems = [*start.problems, *end.problems]
    for snapshot in (start, end):
        problems += [f"network_foreign_link: {link}" for link in snapshot.links if link != LOOPBACK]
        problems += [f"network_foreign_route: {route}" for route in snapshot.foreign_routes]
        if not snapshot.problems and LOOPBACK not in snapshot.links:
            problems.append("network_unreadable: no loopback link was listed")
    if end.packets and declared != "loopback":
        problems.append(f"network_packets: {end.packets}")
    return NetworkSeal(
        role=role,
        links_start=start.links,
        links_end=end.links,
        foreign_routes=tuple(sorted({*start.foreign_routes, *end.foreign_routes})),
        packets=end.packets,
        declared=declared,
        problems=tuple(dict.fromkeys(problems)),
    )


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns needs Python 3.12
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _snapshot(role: Role) -> NetworkSnapshot:
    with IPRoute() as route:
        links = list(route.get_links())
        routes = [r for family in _FAMILIES for r in route.get_routes(family=family)]
    return NetworkSnapshot(
        role=role,
        links=tuple(sorted(str(link.get_attr("IFLA_IFNAME")) for link in links)),
        foreign_routes=tuple(sorted(_foreign(routes))),
        packets=sum(_packets(link) for link in links),
    )


def _packets(link: Any) -> int:
    counters = link.get_attr("IFLA_STATS64")
    if counters is None:
        raise OSError("a link carries no counters")
    # a dropped packet was sent as well
    return sum(int(counters[name]) for name in ("rx_packets", "tx_packets", "rx_dropped", "tx_dropped"))


def _foreign(routes: list[Any]) -> Iterator[str]:
    """Routes that are not loopback's own: another table, or another destination."""
    for entry in routes:
        table = entry.get_attr("RTA_TABLE") or entry["table"]
        destination = f"{entry.get_attr('RTA_DST') or 'default'}/{entry['dst_len']}"
        if table != LOCAL_TABLE or not _is_loopback(destination):
            yield f"{destination} table {table}"


def _is_loopback(destination: str) -> bool:
    try:
        return ipaddress.ip_network(destination, strict=False).is_loopback
    except ValueError:
        return False  # "default/0"
