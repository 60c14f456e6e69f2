"""One endpoint has one name, whichever family of socket reaches it."""

import socket
import struct

import pytest

from harness.evidence.addresses import Address, endpoint, sockaddr


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3"])
def test_an_ipv4_address_in_an_ipv6_socket_has_the_dotted_name(host: str) -> None:
    mapped = socket.inet_pton(socket.AF_INET6, f"::ffff:{host}")
    assert endpoint(mapped, 7001) == endpoint(socket.inet_aton(host), 7001) == Address("inet", f"{host}:7001")
    family, port = struct.pack("=H", socket.AF_INET6), struct.pack(">H", 7001)
    assert sockaddr(family + port + bytes(4) + mapped + bytes(4)) == Address("inet", f"{host}:7001")


def test_an_ipv6_address_that_only_looks_alike_keeps_its_own() -> None:
    for host in ("::1", "::127.0.0.1", "64:ff9b::7f00:1", "::fffe:7f00:1"):
        found = endpoint(socket.inet_pton(socket.AF_INET6, host), 1)
        assert found.family == "inet6"
        assert found.text.startswith("[")
