"""Looks at the policy proxy's process from the host: is it what its servers cannot touch?"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import frozen

PROC = Path("/proc")
_CAPABILITIES = 1 << 5 | 1 << 6 | 1 << 7  # KILL, SETGID, SETUID (linux/capability.h)
_FILTER = "2"  # Seccomp, proc_pid_status(5)


@frozen
class _Process:
    """`status` as in proc_pid_status(5); `owner` of its entries in /proc."""

    status: dict[str, str]
    owner: int

    def number(self, field: str) -> int:
        return int(self.status[field], 16)

    @property
    def first(self) -> bool:
        """Is it the first of its pid namespace?"""
        return self.status["NSpid"].split()[-1] == "1"


def proxy_problems(pids: Iterable[int], user: int, *, proc: Path = PROC) -> Iterator[str]:
    """Codes of what is wrong with the first process of a container among `pids`, which are the host's.

    proxy_not_seen      there is none
    proxy_not_apart     it is another user than `user`, or may do more than change users and kill
    proxy_not_hidden    who is its user may look into it: its /proc entries are not root's
    proxy_not_confined  it may gain privileges, or no seccomp profile holds
    """
    found = [process for pid in pids if (process := _look(proc / str(pid))) and process.first]
    if not found:
        yield "proxy_not_seen"
        return
    proxy = found[0]
    ids = [int(number) for number in proxy.status["Uid"].split()]  # real, effective, saved, of files
    more = (proxy.number("CapPrm") | proxy.number("CapBnd")) & ~_CAPABILITIES
    if ids != [user, user, 0, user] or proxy.number("CapEff") or more:
        yield "proxy_not_apart"
    if proxy.owner != 0:
        yield "proxy_not_hidden"
    if (proxy.status["NoNewPrivs"], proxy.status["Seccomp"]) != ("1", _FILTER):
        yield "proxy_not_confined"


def _look(folder: Path) -> _Process | None:
    """None if the process has gone."""
    try:
        text = (folder / "status").read_text(encoding="utf-8", errors="replace")
        owner = (folder / "mem").stat().st_uid
    except OSError:
        return None
    parts = (line.partition(":") for line in text.splitlines())
    return _Process({key: value.strip() for key, _, value in parts}, owner)
