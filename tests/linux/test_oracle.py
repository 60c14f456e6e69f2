"""Completeness: eBPF and strace watch the same execution and must tell the same, call for call."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from attrs import frozen

from harness.bench import Bench
from harness.engine.daemon import engine_status
from harness.evidence.model import Flag, KernelRecord, Kind, Role
from harness.evidence.syscalls import TWO_NAMES
from harness.gates.catalog import find_fixture
from harness.host.state import State
from harness.plan import Plan, plan_fixture
from harness.run import Measured, measure
from tests.faults.agents import image_of
from tests.linux.conftest import RUN_PREFIX
from tests.linux.strace import Call, below, calls_of, parse, traced, unescaped

pytestmark = pytest.mark.linux

# x86-64, arch/x86/entry/syscalls/syscall_64.tbl
NAMES = {
    2: "open", 85: "creat", 257: "openat", 437: "openat2", 59: "execve", 322: "execveat",
    87: "unlink", 263: "unlinkat", 84: "rmdir", 82: "rename", 264: "renameat", 316: "renameat2",
    83: "mkdir", 258: "mkdirat", 86: "link", 265: "linkat", 88: "symlink", 266: "symlinkat",
}  # fmt: skip


@frozen
class Event:
    """What both witnesses tell of a call.

    result   returned descriptor, 0, or -errno
    names    an open's path, or the names as the program passed them; of an execution the name, then argv
    bases    the directories that relative names of *at calls start from
    deleted  an opened file had no name any more
    """

    call: str
    result: int
    names: tuple[bytes, ...]
    bases: tuple[bytes, ...] = ()
    deleted: bool = False


Threads = Mapping[int, list[Event]]


def seen_by_ebpf(records: Iterable[KernelRecord]) -> dict[int, list[Event]]:
    """Events after the start boundary, by host thread, in ring order."""
    threads: dict[int, list[Event]] = {}
    held: dict[int, KernelRecord] = {}  # the first of two names, by thread
    for record in records:
        if record.setup or record.role is Role.HARNESS or record.syscall not in NAMES:
            continue
        events = threads.setdefault(record.tid, [])
        if record.syscall in TWO_NAMES and not record.part:
            held[record.tid] = record
        else:
            events.append(_event(record, held.pop(record.tid, None) if record.part else None))
    return threads


def _event(record: KernelRecord, first: KernelRecord | None) -> Event:
    name = NAMES[record.syscall]
    if record.kind is Kind.OPEN and record.result >= 0:
        gone = bool(record.flags & Flag.UNLINKED)
        return Event(name, record.result, (record.walked,), deleted=gone)
    if record.kind is Kind.EXEC and record.result >= 0:
        called, _, argv = record.raw.partition(b"\0")
        return Event("execve", 0, (called, *argv.removesuffix(b"\0").split(b"\0")))
    both = [record] if first is None else [first, record]
    if name.startswith("symlink"):
        both.reverse()  # the record of the link comes first, the call takes its text first
    names = tuple(part.raw for part in both)
    at = name.endswith(("at", "at2"))
    relative = [part for part in both if at and part.walked and not part.raw.startswith(b"/")]
    if name.startswith("symlink"):
        relative = relative[1:]  # the text of a link starts nowhere
    return Event(name, record.result, names, tuple(part.walked for part in relative))


def seen_by_strace(threads: Mapping[int, list[Call]]) -> dict[int, list[Event]]:
    """The same of strace's files."""
    return {thread: [_traced(call) for call in calls] for thread, calls in threads.items() if calls}


def _traced(call: Call) -> Event:
    if call.path is not None:
        return Event(call.name, call.result, (call.path,), deleted=call.deleted)
    if call.name.startswith("exec"):
        names = call.texts if call.result == 0 else call.texts[:1]
        return Event("execve" if call.result == 0 else call.name, call.result, names)
    named = call.texts[1:] if call.name.startswith("symlink") else call.texts
    pairs = zip(call.bases, named, strict=True) if call.bases else ()
    bases = tuple(base for base, name in pairs if not name.startswith(b"/"))
    return Event(call.name, call.result, call.texts, bases)


def differences(ebpf: Threads, strace: Threads) -> list[str]:
    """What one witness told and the other did not, thread by thread; empty when they agree in order too."""
    found = []
    for thread in sorted({*ebpf, *strace}):
        ours, theirs = ebpf.get(thread, []), strace.get(thread, [])
        found += [f"{thread}: only eBPF: {event}" for event in (Counter(ours) - Counter(theirs)).elements()]
        found += [f"{thread}: only strace: {event}" for event in (Counter(theirs) - Counter(ours)).elements()]
        if Counter(ours) == Counter(theirs) and ours != theirs:
            found.append(f"{thread}: in another order")
    return found


def successes(threads: Threads) -> Counter[str]:
    """How often each call succeeded; variants of one operation count together."""
    return Counter(
        re.sub(r"at2?$", "", event.call)
        for events in threads.values()
        for event in events
        if event.result >= 0
    )


def containerd(state: State) -> int:
    """The engine's own: the child of its dockerd."""
    parent = engine_status(state).pid
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue  # it has ended
        if text.startswith("Name:\tcontainerd\n") and f"\nPPid:\t{parent}\n" in text:
            return int(status.parent.name)
    raise AssertionError("the engine has no containerd")


def both_witnesses(bench: Bench, plan: Plan, folder: Path) -> tuple[Measured, Threads, Threads]:
    """One run of the plan, seen by eBPF and by strace."""
    with traced(containerd(bench.state), folder):
        measured = measure(bench, plan)
    assert measured.assembled.unclean == (), measured.output
    assert measured.observation.subject.success, measured.output
    calls = calls_of(folder)
    oracle = below(calls, plan.subject.command)
    if plan.tools is not None:
        oracle |= below(calls, plan.proxy_command)
    return measured, seen_by_ebpf(measured.observation.records), seen_by_strace(oracle)


def test_ebpf_and_strace_tell_the_same_of_an_agent_with_tools(bench: Bench, tmp_path: Path) -> None:
    fixture = find_fixture("openai-agents")
    image = image_of(bench, fixture.file.image)
    plan = plan_fixture(fixture, image, run_id=f"{RUN_PREFIX}oracle")
    measured, ebpf, strace = both_witnesses(bench, plan, tmp_path)
    assert differences(ebpf, strace) == []
    counted = successes(strace)
    assert counted["open"] >= 499
    assert counted["execve"] >= 5  # agent, bridge twice, proxy, server
    assert len(strace) >= 5
    roles = {record.role for record in measured.observation.records if record.tid in ebpf}
    assert roles == {Role.SUBJECT, Role.TOOLS}
    assert_it_would_be_noticed(measured, ebpf, strace)


def assert_it_would_be_noticed(measured: Measured, ebpf: Threads, strace: Threads) -> None:
    """One record less on either side, two exchanged, or one changed, and the comparison says so."""
    records = measured.observation.records
    compared = [r for r in records if not r.setup and r.role is not Role.HARNESS and r.syscall in NAMES]
    for lost in (compared[0], compared[len(compared) // 2], compared[-1]):
        alone = differences(seen_by_ebpf(r for r in records if r is not lost), strace)
        assert any(line.startswith(f"{lost.tid}: only strace") for line in alone)
    thread = max(strace, key=lambda tid: len(strace[tid]))
    less = dict(strace) | {thread: strace[thread][1:]}
    assert differences(ebpf, less) == [f"{thread}: only eBPF: {strace[thread][0]}"]
    turned = dict(ebpf) | {thread: ebpf[thread][::-1]}
    assert differences(turned, strace) == [f"{thread}: in another order"]
    unknown = {tid: events for tid, events in ebpf.items() if tid != thread}
    assert len(differences(unknown, strace)) == len(strace[thread])


def test_what_strace_writes_is_read_back() -> None:
    lines = [
        rb'openat(3</a \74b\76>, "x) = 5 <\n\"\\\3037", O_RDONLY) = 4</a = 6) \74\303\277>(deleted)',
        rb'execve("/bin/sh", ["sh", "-c", ""], 0x7f /* 2 vars */) = 0',
        b"--- SIGCHLD {si_signo=SIGCHLD} ---",
        rb'renameat2(AT_FDCWD</w>, "a", 3</d>, "/b", RENAME_NOREPLACE) = -1 EEXIST (File exists)',
        rb'mkdir("a", 0777 <unfinished ...>',
        rb"<... mkdir resumed>)                = ? ERESTARTSYS (To be restarted)",
        rb"clone(child_stack=NULL, flags=CLONE_VM|SIGCHLD) = 7 /* 24347 in strace's PID NS */",
        b"???( <unfinished ...>",
        b'openat(AT_FDCWD</w>, "b", O_RDONLY) = ?',
        b'unlink("c" <unfinished ...>',
        b"<... unlink resumed>)                    = ?",
        b"+++ exited with 0 +++",
    ]
    opened, executed, moved, made, cloned = parse(lines)
    assert opened == Call(
        "openat", (b'x) = 5 <\n"\\\xc37',), (b"/a <b>",), 4, b"/a = 6) <\xc3\xbf", deleted=True
    )
    assert executed == Call("execve", (b"/bin/sh", b"sh", b"-c", b""), (), 0)
    assert moved == Call("renameat2", (b"a", b"/b"), (b"/w", b"/d"), -17)
    assert made == Call("mkdir", (b"a",), (), -512)
    assert (cloned.result, cloned.thread) == (7, 24347)
    assert unescaped(rb"\1\0017\11") == b"\1\0017\t"
