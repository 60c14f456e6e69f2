"""Which engines are tried, and what must come of it: the table of docs/engines.md, one row each."""

from attrs import evolve, frozen

DOCKER, PODMAN = "docker", "podman"


@frozen
class Row:
    """An engine of a distribution's suite, started in one way.

    version     what its version begins with
    containerd  Docker's containerd image store, instead of a graph driver
    hybrid      it sees the host's version 1 hierarchies too, instead of cgroup v2 alone
    driver      its cgroup driver
    user        who runs it, "root" if not said
    refused     in the reason for which doctor and run refuse it, "" if everything must pass
    """

    suite: str
    product: str
    version: str
    runtime: str
    containerd: bool = False
    hybrid: bool = False
    driver: str = "cgroupfs"
    user: int = 0
    refused: str = ""

    @property
    def name(self) -> str:
        """For people, and unique."""
        parts = [self.product, self.version, self.runtime]
        parts += ["containerd store"] * self.containerd + ["version 1 controllers"] * self.hybrid
        parts += ["systemd driver"] * (self.driver == "systemd") + ["rootless"] * bool(self.user)
        return ", ".join(parts) + (" (refused)" if self.refused else "")

    @property
    def line(self) -> str:
        """Its line in the table of docs/engines.md."""
        name = f"{self.product} {self.version}{', rootless' if self.user else ''}"
        store = "containerd" if self.containerd else "graph driver" if self.product == DOCKER else "podman's"
        cgroups = "cgroup v2, version 1 controllers" if self.hybrid else "cgroup v2"
        cells = [name, self.suite, self.runtime, store, cgroups, self.driver]
        cells.append(f"refused: {self.refused}" if self.refused else "passes")
        return f"| {' | '.join(f'**{cell}**' if self == CONTAINERD else cell for cell in cells)} |"


CONTAINERD = Row("trixie", DOCKER, "26.1", "runc", containerd=True)

SYSTEMD = Row("trixie", DOCKER, "26.1", "runc", driver="systemd")
PODMAN_SYSTEMD = evolve(SYSTEMD, product=PODMAN, version="5.4")

ROWS = (
    Row("bookworm", DOCKER, "20.10", "runc"),
    Row("bookworm", DOCKER, "20.10", "runc", hybrid=True),
    Row("trixie", DOCKER, "26.1", "runc"),
    CONTAINERD,
    Row("sid", DOCKER, "28.5", "runc"),
    Row("sid", DOCKER, "28.5", "runc", containerd=True),
    Row("bookworm", PODMAN, "4.3", "runc"),
    Row("trixie", PODMAN, "5.4", "runc"),
    Row("trixie", PODMAN, "5.4", "crun"),
    Row("sid", PODMAN, "5.8", "runc"),
    Row("sid", PODMAN, "5.8", "crun"),
    Row("trixie", DOCKER, "26.1", "crun", refused="controller io"),
    SYSTEMD,
    PODMAN_SYSTEMD,
    evolve(SYSTEMD, refused="systemd, which does not run here"),
    Row("trixie", PODMAN, "5.4", "crun", user=1000, refused="rootless"),
)
