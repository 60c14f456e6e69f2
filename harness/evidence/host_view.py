"""Looks at how large the machine is, and where on it a program was put: docs/adr/0007.

Runtimes size themselves by a fixed set of kernel files: how much memory, how many processors, which
limits. Which of them they look at, and how often, depends on what those say, and that is the host's
business: two hosts would never give the same bytes. So these looks are counted by place, and told
nowhere else.

A look is an open for reading alone. Where it succeeded, the kernel has walked the file that was opened
up to the container's root, and nothing in the container can mount or change its root: /proc/meminfo is
the kernel's own. Where it failed there is only a name, and ".." in it, or a link before it, could lead
anywhere: it counts only if it is written out from the root. All else stays what it was.
"""

import re

from harness.evidence.operations import Operation

_MACHINE = frozenset(
    f"/proc/{name}".encode()
    for name in (
        "cgroups", "cpuinfo", "filesystems", "loadavg", "meminfo", "pressure/cpu", "pressure/io",
        "pressure/memory", "stat", "swaps", "sys/fs/file-max", "sys/fs/nr_open", "sys/fs/pipe-max-size",
        "sys/kernel/osrelease", "sys/kernel/ostype", "sys/kernel/pid_max", "sys/kernel/threads-max",
        "sys/kernel/version", "sys/net/core/somaxconn", "sys/vm/max_map_count", "sys/vm/mmap_min_addr",
        "sys/vm/nr_hugepages", "sys/vm/overcommit_memory", "sys/vm/overcommit_ratio", "uptime", "version",
        "version_signature", "vmstat",
    )
)  # fmt: skip
_OWN = frozenset(
    name.encode()
    for name in (
        "cgroup", "limits", "maps", "mountinfo", "mounts", "net/if_inet6", "numa_maps", "oom_score_adj",
        "schedstat", "smaps", "smaps_rollup", "stat", "statm", "status",
    )
)  # fmt: skip
_TREES = (b"/sys/devices/system/cpu", b"/sys/devices/system/node", b"/sys/fs/cgroup", b"/sys/kernel/mm")
_SELF = re.compile(rb"/proc/self(?:/task/<thread>)?/(.+)")
PLACES = tuple(
    sorted(
        place.decode()
        for place in (*_MACHINE, *(b"/proc/self/" + n for n in _OWN), *(tree + b"/*" for tree in _TREES))
    )
)


def place_of(operation: Operation) -> str | None:
    """Which of PLACES the operation looks at; None for anything else."""
    if operation.name != "open" or operation.access != "read" or operation.write or operation.path is None:
        return None
    place = place_at(operation.path)
    if place is None or operation.done:
        return place
    raw = operation.records[-1].raw
    return place if raw.startswith((b"/proc/", b"/sys/")) and b".." not in raw.split(b"/") else None


def place_at(path: bytes) -> str | None:
    """The place in which such a path is."""
    if path in _MACHINE:
        return path.decode()
    tree = next((tree for tree in _TREES if path == tree or path.startswith(tree + b"/")), None)
    if tree is not None:
        return f"{tree.decode()}/*"
    found = _SELF.fullmatch(path)
    return f"/proc/self/{found[1].decode()}" if found and found[1] in _OWN else None
