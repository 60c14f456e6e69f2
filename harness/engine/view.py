"""What a container sees of the host, alike on every host and with every engine: docs/adr/0007.

Engines and their versions hide different files, so what is hidden stands here. Node, Bun, Go, the JVM
and Python size themselves as well without /sys; what they need of /proc stays.
"""

from typing import Any

# An empty folder that nobody can write to; size=0 would mean no limit at all.
EMPTY = {"/sys": "ro,nosuid,nodev,noexec,mode=555,size=4096"}
# They say which machine, kernel and devices these are; the first ten are what engines hide by themselves.
MASKED = tuple(
    f"/proc/{name}"
    for name in (
        "acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list",
        "timer_stats",
        "buddyinfo", "cmdline", "config.gz", "consoles", "crypto", "devices", "diskstats", "dma", "driver",
        "iomem", "ioports", "kallsyms", "key-users", "kmsg", "kpagecgroup", "kpagecount", "kpageflags",
        "locks", "mdstat", "misc", "modules", "mtrr", "pagetypeinfo", "partitions", "schedstat", "slabinfo",
        "softirqs", "vmallocinfo", "zoneinfo",
    )
)  # fmt: skip
READ_ONLY = tuple(f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger"))


def restrict(host_config: dict[str, Any]) -> None:
    """Put the view into a container's host configuration."""
    host_config["Tmpfs"] = {**host_config.get("Tmpfs", {}), **EMPTY}
    host_config["MaskedPaths"] = list(MASKED)
    host_config["ReadonlyPaths"] = list(READ_ONLY)
