"""The systems that are booted: a distribution, one of its kernels, and the machine that it needs."""

from attrs import frozen

# What an emulated CPU is at most for Linux 7.x: newer models show bits of features that they do not have.
_PLAIN = "Skylake-Client-v4"


@frozen
class System:
    """A distribution's suite with one of its kernels; `backports`: the newest one from there.

    kernel   the package that brings it
    options  more of mmdebstrap's
    keyring  of the archive, where this distribution has it in a package that is not there by itself
    cpu      qemu's model where CPUs are emulated
    one_cpu  more than one emulated CPU end in a panic there, while the kernel patches its code
    """

    name: str
    title: str
    suite: str
    backports: bool = False
    kernel: str = "linux-image-amd64"
    options: tuple[str, ...] = ()
    keyring: str = ""
    cpu: str = "max"
    one_cpu: bool = False


SYSTEMS = {
    system.name: system
    for system in (
        System("debian12", "Debian 12", "bookworm"),
        System("debian13", "Debian 13", "trixie"),
        System(
            "debian13-7x", "Debian 13, backported kernel", "trixie", backports=True, cpu=_PLAIN, one_cpu=True
        ),
        System("sid", "Debian unstable", "sid", cpu=_PLAIN, one_cpu=True),
        System(
            "ubuntu24",
            "Ubuntu 24.04",
            "noble",
            kernel="linux-image-generic",
            options=("--components=main,universe", "--include=apt"),
            keyring="/usr/share/keyrings/ubuntu-archive-keyring.gpg",
        ),
    )
}

CGROUPS = {
    "pure": "",
    # systemd.unified_cgroup_hierarchy(7): version 1 controllers, version 2 beside them without any
    "hybrid": "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=0",
}
