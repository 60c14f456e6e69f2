"""The network seal on real namespaces: clean for a sealed container, and broken on purpose."""

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from pyroute2 import IPRoute

from harness.evidence.model import NetworkSeal, Role
from harness.host import network
from tests.linux.conftest import Run

pytestmark = pytest.mark.linux


@pytest.fixture
def sealed(run: Run) -> Iterator[tuple[int, Callable[[], NetworkSeal]]]:
    """A running container's namespace, and what ends the container and gives the verdict."""
    container = run("sleep")
    container.start()
    descriptor = network.open_netns(container.state_pid())
    start = network.inspect(Role.SUBJECT, descriptor)

    def finish() -> NetworkSeal:
        container.kill()
        assert container.wait(60) == 137
        container.remove()
        return network.seal(Role.SUBJECT, start, network.inspect(Role.SUBJECT, descriptor))

    yield descriptor, finish
    os.close(descriptor)


def _inside(descriptor: int, act: Callable[[IPRoute], None]) -> None:
    """Do something as root in the namespace, which nothing in the container could do."""
    errors: list[BaseException] = []

    def body() -> None:
        try:
            network._enter(descriptor)
            with IPRoute() as route:
                act(route)
        except BaseException as error:  # noqa: BLE001 - a thread's error must fail the test
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert errors == []


def test_a_sealed_container_is_clean(sealed: tuple[int, Callable[[], NetworkSeal]]) -> None:
    _, finish = sealed
    seal = finish()
    assert seal == NetworkSeal(
        role=Role.SUBJECT, links_start=("lo",), links_end=("lo",), foreign_routes=(), packets=0, problems=()
    )


@pytest.mark.breaks("guard:network")
def test_a_second_link_is_reported(sealed: tuple[int, Callable[[], NetworkSeal]]) -> None:
    descriptor, finish = sealed
    _inside(descriptor, lambda route: route.link("add", ifname="side0", kind="veth", peer="side1"))
    seal = finish()
    assert seal.links_start == ("lo",)
    assert seal.links_end == ("lo", "side0", "side1")
    assert seal.problems == ("network_foreign_link: side0", "network_foreign_link: side1")


def test_a_foreign_route_is_reported(sealed: tuple[int, Callable[[], NetworkSeal]]) -> None:
    descriptor, finish = sealed
    loopback = 1
    _inside(descriptor, lambda route: route.route("add", dst="198.51.100.0/24", oif=loopback))
    seal = finish()
    assert seal.foreign_routes == ("198.51.100.0/24 table 254",)
    assert seal.problems == ("network_foreign_route: 198.51.100.0/24 table 254",)


def test_a_foreign_address_is_reported(sealed: tuple[int, Callable[[], NetworkSeal]]) -> None:
    """The local table holds every address of a namespace, so it may hold loopback's only."""
    descriptor, finish = sealed
    _inside(descriptor, lambda route: route.addr("add", index=1, address="198.51.100.7", prefixlen=32))
    assert finish().problems == ("network_foreign_route: 198.51.100.7/32 table 255",)


@pytest.mark.breaks("unclean:network_packets:")
def test_a_packet_over_loopback_is_reported_after_the_container_is_gone(run: Run) -> None:
    container = run("packet")
    quiet = run("nap")
    quiet.start()
    descriptor = network.open_netns(quiet.state_pid())
    try:
        start = network.inspect(Role.SUBJECT, descriptor)
        assert start.packets == 0
        _inside(descriptor, _send)
        assert quiet.wait(60) == 0
        quiet.remove()
        seal = network.seal(Role.SUBJECT, start, network.inspect(Role.SUBJECT, descriptor))
    finally:
        os.close(descriptor)
    assert seal.packets >= 2  # once sent, once received
    assert seal.problems == (f"network_packets: {seal.packets}",)
    # the container's own program can do that much as well
    container.start()
    assert container.wait(60) == 0
    assert container.output().text == "sent 1\n"


def _send(_: IPRoute) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", 9))


def test_the_hosts_namespace_is_a_problem() -> None:
    descriptor = network.open_netns(os.getpid())
    try:
        snapshot = network.inspect(Role.TOOLS, descriptor)
    finally:
        os.close(descriptor)
    assert snapshot.problems == ("network_not_sealed: it is the host's own namespace",)


def test_an_unreadable_namespace_is_a_problem() -> None:
    # the wrong kind of namespace: setns refuses it inside the thread
    descriptor = os.open("/proc/self/ns/uts", os.O_RDONLY)
    try:
        snapshot = network.inspect(Role.TOOLS, descriptor)
    finally:
        os.close(descriptor)
    assert len(snapshot.problems) == 1
    assert snapshot.problems[0].startswith("network_unreadable: OSError")
    assert network.seal(Role.TOOLS, snapshot, snapshot).problems == snapshot.problems
