"""What a container sees of the host, alike on every host and with every engine: docs/adr/0007.

Engines and their versions hide different files, so what is hidden stands here. Node, Bun, Go, the JVM
and Python size themselves as well without /sys; what they need of /proc stays.
"""

from typing import Any

# Over a folder the runtime mounts an empty one that nobody can write to, over a file /dev/null. The files
# of /proc say which machine, kernel and devices these are; the first ten are what engines hide themselves.
MASKED = (
    "/sys",
    *(
        f"/proc/{name}"
        for name in (
            "acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi",
            "timer_list", "timer_stats",
            "buddyinfo", "cmdline", "config.gz", "consoles", "crypto", "devices", "diskstats", "dma",
            "driver", "iomem", "ioports", "kallsyms", "key-users", "kmsg", "kpagecgroup", "kpagecount",
            "kpageflags", "locks", "mdstat", "misc", "modules", "mtrr", "pagetypeinfo", "partitions",
            "schedstat", "slabinfo", "softirqs", "vmallocinfo", "zoneinfo",
        )
    ),
)  # fmt: skip
READ_ONLY = tuple(f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger"))
PODMAN_OPTION = f"mask={':'.join(MASKED)}"  # through Docker's API it takes no list of them


def paths() -> dict[str, Any]:
    """The view as part of a container's host configuration."""
    return {"MaskedPaths": list(MASKED), "ReadonlyPaths": list(READ_ONLY)}
