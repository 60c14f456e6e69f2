"""What says how large the host is gets counted by place; nothing else can hide among it."""

import json
from collections.abc import Callable

import pytest
from attrs import evolve

from harness.evidence.assemble import assemble
from harness.evidence.classify import EventClass
from harness.evidence.host_view import PLACES, place_at
from harness.evidence.model import Flag, Role
from tests.unit.evidence.build import Run, Trace, context

BOOKS = "companion/accounting.json"


def class_of(trace: Trace) -> EventClass:
    ((_, found),) = trace.classified().operations
    return found


def archive(looks: Callable[[Trace], None]) -> dict[str, bytes]:
    """The members of an S5-like run in which the agent looks around as well."""
    trace = Trace()
    trace.records += Run(1).observation().records
    looks(trace)
    assembled = assemble(evolve(Run(1).observation(), records=tuple(trace.records)), context())
    return assembled.v0 | assembled.companion


def node_on_pure(trace: Trace) -> None:
    """Node looks for its limit where its cgroup is, and looks at the memory as often as it likes."""
    for name in ("/proc/meminfo", "/proc/1/cgroup", "/proc/meminfo", "/sys/fs/cgroup/memory.max"):
        trace.opened(name)


def node_on_hybrid(trace: Trace) -> None:
    for name in ("/proc/meminfo", "/proc/1/cgroup"):
        trace.opened(name)
    for name in ("limit", "soft_limit"):
        trace.failed_open(f"/sys/fs/cgroup/memory/memory.{name}_in_bytes")


def test_two_hosts_give_the_same_bytes_and_the_books_say_what_was_looked_at() -> None:
    pure, hybrid = archive(node_on_pure), archive(node_on_hybrid)
    without = archive(lambda _: None)
    assert {name for name in pure if pure[name] != hybrid[name]} == {BOOKS}
    assert not [
        name for name in pure if name != BOOKS and (b"meminfo" in pure[name] or b"cgroup/" in pure[name])
    ]
    before = looks_of(without)
    assert {place: n - before.get(place, 0) for place, n in looks_of(pure).items()} == {
        "/proc/meminfo": 2,
        "/proc/self/cgroup": 1,
        "/proc/self/maps": 0,
        "/sys/fs/cgroup/*": 1,
    }
    assert looks_of(hybrid)["/sys/fs/cgroup/*"] == before["/sys/fs/cgroup/*"] + 2
    for members in (pure, hybrid, without):
        classes = json.loads(members[BOOKS])["records"]["classes"]
        assert classes["host_view"] == sum(looks_of(members).values())


def looks_of(members: dict[str, bytes]) -> dict[str, int]:
    found: dict[str, int] = json.loads(members[BOOKS])["host_view"]
    return found


@pytest.mark.parametrize("role", [Role.SUBJECT, Role.TOOLS])
@pytest.mark.parametrize(
    "path",
    ["/proc/cpuinfo", "/proc/1/mountinfo", "/proc/1/task/1/stat", "/proc/sys/vm/overcommit_memory",
     "/sys/devices/system/cpu/online", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage/enabled"],
)  # fmt: skip
def test_a_look_is_one_whether_it_is_found_or_not(role: Role, path: str) -> None:
    for found in (True, False):
        trace = Trace()
        if found:
            trace.opened(path, role=role)
        else:
            trace.failed_open(path, role=role)
        assert class_of(trace) is EventClass.HOST_VIEW


@pytest.mark.parametrize(
    "path",
    ["/workspace/proc/meminfo", "/workspace/sys/fs/cgroup/memory.max", "/sys/fs/cgroupx/memory.max", "/sys",
     "/proc/meminfo/x", "/proc/meminfo2", "/proc/kcore", "/proc/1/environ", "/proc/1/mem", "/proc/1/root/x",
     "/proc/1/cwd/cgroup", "/proc/7/cgroup", "/proc/sys/kernel/core_pattern", "detached:/proc/meminfo",
     "/sys/class/net", "/sys/firmware/dmi"],
)  # fmt: skip
def test_what_is_not_of_the_set_is_told(path: str) -> None:
    trace = Trace()
    if path.startswith("detached:"):
        trace.opened(path.removeprefix("detached:"), flags=Flag.OBJECT | Flag.DETACHED)
    else:
        trace.opened(path)
    assert class_of(trace) is not EventClass.HOST_VIEW


@pytest.mark.parametrize("how", [0o1, 0o2, 0o101, 0o1000, 0o10000000], ids=oct)
def test_writing_and_handles_are_told(how: int) -> None:
    """The JVM opens its coredump_filter for writing, and a write to a cgroup file would change the host."""
    for path in ("/proc/meminfo", "/sys/fs/cgroup/cgroup.procs", "/proc/1/oom_score_adj"):
        trace = Trace()
        trace.opened(path, how)
        trace.failed_open(path, 13, how)
        assert EventClass.HOST_VIEW not in [found for _, found in trace.classified().operations]


def test_other_operations_are_told() -> None:
    trace = Trace()
    for syscall in (87, 83, 90):  # unlink, mkdir, chmod
        trace.named(syscall, "/sys/fs/cgroup/x", -30)
    assert [found for _, found in trace.classified().operations] == [EventClass.EVIDENCE] * 3


@pytest.mark.parametrize(
    "name",
    ["/proc/self/cwd/../cgroup", "/proc/self/root/../meminfo", "/workspace/../proc/meminfo",
     "/sys/fs/cgroup/../cgroup/x", "/proc/self/cwd/meminfo"],
)  # fmt: skip
def test_a_name_that_may_lead_elsewhere_is_told(name: str) -> None:
    """What failed has no file, so a name that goes through a link or back up again proves nothing."""
    trace = Trace()
    trace.failed_open(name)
    assert class_of(trace) is not EventClass.HOST_VIEW


def test_a_relative_name_that_failed_is_told() -> None:
    trace = Trace()
    trace.failed_open("meminfo", walked=b"/proc")
    assert class_of(trace) is not EventClass.HOST_VIEW


def test_every_place_is_one() -> None:
    assert [place_at(place.encode()) for place in PLACES] == list(PLACES)
    assert list(PLACES) == sorted(set(PLACES))
