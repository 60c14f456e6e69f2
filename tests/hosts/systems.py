"""The systems that are booted: a distribution, one of its kernels, and the machine that it needs."""

from attrs import frozen

# Two emulated CPUs end in a panic there while code is patched, and newer feature bits are not understood.
_ONE_CPU = "Skylake-Client-v4"


@frozen
class System:
    """A distribution's suite with one of its kernels; `backports`: the newest one from there."""

    name: str
    title: str
    suite: str
    backports: bool = False
    cpu: str = "max"
    most_cpus: int = 2


SYSTEMS = {
    system.name: system
    for system in (
        System("debian12", "Debian 12", "bookworm"),
        System("debian13", "Debian 13", "trixie"),
        System(
            "debian13-7x", "Debian 13, backported kernel", "trixie", backports=True, cpu=_ONE_CPU, most_cpus=1
        ),
        System("sid", "Debian unstable", "sid", cpu=_ONE_CPU, most_cpus=1),
    )
}

CGROUPS = {
    "pure": "",
    # systemd.unified_cgroup_hierarchy(7): version 1 controllers, version 2 beside them without any
    "hybrid": "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=0",
}
