"""Socket addresses as text: struct sockaddr (include/uapi/linux) and the cgroup hooks' bytes."""

import ipaddress
import struct

from attrs import frozen

from harness.evidence.paths import normal

AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6 = 0, 1, 2, 10
FAMILIES = {
    AF_UNSPEC: "unspec", AF_UNIX: "unix", AF_INET: "inet", AF_INET6: "inet6",
    15: "key", 16: "netlink", 17: "packet", 31: "bluetooth", 38: "alg", 40: "vsock", 44: "xdp",
}  # fmt: skip
COMMON = frozenset({AF_UNIX, AF_INET, AF_INET6})  # making such a socket reaches nobody yet


@frozen
class Address:
    """family   a name of FAMILIES or af_<number>
    text     `a.b.c.d:port`, `[addr]:port`, an absolute path, `@name` (abstract), or "" when it names nobody
    """

    family: str
    text: str

    @property
    def inet(self) -> bool:
        return self.family in ("inet", "inet6")


def family_name(number: int) -> str:
    return FAMILIES.get(number, f"af_{number}")


def endpoint(address: bytes, port: int) -> Address:
    """4 or 16 address bytes in network order, and a port.

    An IPv4 address that is written as one of IPv6 (RFC 4291, 2.5.5.2) is the same endpoint, and has one name.
    """
    host = ipaddress.ip_address(address)
    if host.version == 6 and host.ipv4_mapped is not None:
        host = host.ipv4_mapped
    if host.version == 4:
        return Address("inet", f"{host}:{port}")
    return Address("inet6", f"[{host}]:{port}")


def sockaddr(data: bytes) -> Address | None:
    """A struct sockaddr; None when too short to name a family or its address."""
    if len(data) < 2:
        return None
    (family,) = struct.unpack_from("<H", data)
    if family == AF_INET:
        return endpoint(data[4:8], int.from_bytes(data[2:4], "big")) if len(data) >= 8 else None
    if family == AF_INET6:
        return endpoint(data[8:24], int.from_bytes(data[2:4], "big")) if len(data) >= 24 else None
    if family == AF_UNIX:
        return Address("unix", _unix(data[2:]))
    return Address(family_name(family), "")


def unix_file(data: bytes) -> bytes | None:
    """The file that a struct sockaddr_un names, as it was called; None for any other address."""
    if len(data) < 3 or int.from_bytes(data[:2], "little") != AF_UNIX or not data[2]:
        return None
    return data[2:].split(b"\0", 1)[0]


def unix_address(path: bytes) -> Address:
    """Of a socket that is a file, by its path."""
    return Address("unix", path.decode("utf-8", "backslashreplace"))


def _unix(path: bytes) -> str:
    if not path:
        return "(autobind)"  # the kernel picks a name, at random
    if path.startswith(b"\0"):
        return "@" + path[1:].decode("utf-8", "backslashreplace")
    name = path.split(b"\0", 1)[0]
    return (normal(name) if name.startswith(b"/") else name).decode("utf-8", "backslashreplace")
