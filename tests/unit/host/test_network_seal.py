"""The verdict over two snapshots; the snapshots themselves are tested on real namespaces."""

import pytest

from harness.evidence.model import Role
from harness.host.network import NetworkSnapshot, seal

CLEAN = NetworkSnapshot(Role.TOOLS, links=("lo",))


def test_clean() -> None:
    assert seal(Role.TOOLS, CLEAN, CLEAN).problems == ()


@pytest.mark.parametrize("at_start", [True, False])
@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (NetworkSnapshot(Role.TOOLS, links=("eth0", "lo")), "network_foreign_link: eth0"),
        (NetworkSnapshot(Role.TOOLS, links=("lo",), foreign_routes=("r",)), "network_foreign_route: r"),
        (NetworkSnapshot(Role.TOOLS), "network_unreadable: no loopback link was listed"),
        (NetworkSnapshot(Role.TOOLS, problems=("network_unreadable: x",)), "network_unreadable: x"),
    ],
)
def test_every_problem_is_reported_once(broken: NetworkSnapshot, problem: str, at_start: bool) -> None:
    start, end = (broken, CLEAN) if at_start else (CLEAN, broken)
    assert seal(Role.TOOLS, start, end).problems == (problem,)
    assert seal(Role.TOOLS, broken, broken).problems == (problem,)


def test_declared_packets_are_counted_and_nothing_else_is_let_pass() -> None:
    busy = NetworkSnapshot(Role.SUBJECT, links=("lo",), packets=2)
    found = seal(Role.SUBJECT, CLEAN, busy, declared="loopback")
    assert (found.declared, found.packets, found.problems) == ("loopback", 2, ())
    open_ = NetworkSnapshot(Role.SUBJECT, links=("eth0", "lo"), foreign_routes=("r",), packets=2)
    assert seal(Role.SUBJECT, CLEAN, open_, declared="loopback").problems == (
        "network_foreign_link: eth0",
        "network_foreign_route: r",
    )


def test_packets_count_at_the_end() -> None:
    found = seal(Role.TOOLS, CLEAN, NetworkSnapshot(Role.TOOLS, links=("lo",), packets=2))
    assert found.packets == 2
    assert found.problems == ("network_packets: 2",)
