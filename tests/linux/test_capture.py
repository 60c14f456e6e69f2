"""The kernel witness against known workloads: exact counts of a prime number of events."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.capture.hooks import CallHook, call_hook
from harness.capture.session import CaptureOptions, CaptureSession
from harness.evidence.model import CaptureAccounting, Flag, KernelRecord, Kind, Role
from harness.host.state import default_state

pytestmark = pytest.mark.linux

KEPT = default_state().kernel_program  # compiled once for all that use this state
CGROUP = Path("/sys/fs/cgroup")
if not (CGROUP / "cgroup.procs").exists():
    CGROUP /= "unified"


class Slice:
    """A bare slice without containers: its processes never pass a start boundary."""

    def __init__(self, folder: Path) -> None:
        for left in CGROUP.glob("assay-test-*"):
            if not Path(f"/proc/{left.name.rpartition('-')[2]}").exists():  # its session was killed
                _remove(left)
        self.run = CGROUP / f"assay-test-{os.getpid()}"
        self.spool = folder / "kernel.raw"
        for name in ("", "subject", "tools", "harness"):
            (self.run / name).mkdir()

    def arm(self, session: CaptureSession) -> None:
        session.arm(self.run, self.run / "subject", self.run / "tools", self.run / "harness", self.spool)

    def start(self, code: str, role: str = "subject") -> "subprocess.Popen[str]":
        procs = str(self.run / role / "cgroup.procs")
        enter = f"import os; os.write(os.open({procs!r}, os.O_WRONLY), b'0')\n"
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", enter + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run_code(self, code: str, role: str = "subject") -> str:
        process = self.start(code, role)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        return out

    def remove(self) -> None:
        _remove(self.run)


def _remove(run: Path) -> None:
    for name in ("subject", "tools", "harness", ""):
        deadline = time.monotonic() + 60
        while (run / name).exists():
            try:
                (run / name).rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


@pytest.fixture
def slice_(tmp_path: Path) -> Iterator[Slice]:
    slice_ = Slice(tmp_path)
    yield slice_
    slice_.remove()


@pytest.fixture(scope="module", params=CallHook, ids=["raw", "classic"])
def session(request: pytest.FixtureRequest) -> Iterator[CaptureSession]:
    """Both hooks at sys_exit, where both lose nothing; otherwise the one that this kernel gets."""
    hook: CallHook | None = request.param
    if hook is CallHook.RAW_TRACEPOINT and call_hook() is not hook:
        hook = None  # it can be preempted here
    with CaptureSession(CaptureOptions(hook=hook), kept_in=KEPT) as session:
        yield session


def whole(accounting: CaptureAccounting) -> None:
    """Every identity of one window."""
    for kind, c in accounting.kinds.items():
        assert c.seen == c.submitted + c.dropped + c.oversized + c.fault, kind
    submitted = sum(c.submitted for c in accounting.kinds.values())
    assert submitted == accounting.received == accounting.decoded
    assert accounting.decode_errors == accounting.recursion_misses == 0
    assert accounting.sentinels_seen == accounting.sentinels_expected == 46
    assert accounting.errors == ()


def paths(records: tuple[KernelRecord, ...], prefix: bytes) -> Counter[bytes]:
    return Counter(
        r.walked
        for r in records
        if r.kind is Kind.OPEN and r.flags & Flag.OBJECT and r.walked.startswith(prefix)
    )


def test_known_workload_gives_exact_counts(session: CaptureSession, slice_: Slice, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("x")
    slice_.arm(session)
    slice_.run_code(
        f"""
for i in range(997): os.close(os.open({str(target)!r}, os.O_RDONLY))
for i in range(499):
    try: os.open({str(target)!r} + '.missing', os.O_RDONLY)
    except FileNotFoundError: pass
for i in range(101):
    os.rename({str(target)!r}, {str(target)!r} + '2')
    os.rename({str(target)!r} + '2', {str(target)!r})
for i in range(53): os.mkdir({str(tmp_path)!r} + '/d'); os.rmdir({str(tmp_path)!r} + '/d')
"""
    )
    records, accounting = session.disarm()
    whole(accounting)
    assert paths(records, os.fsencode(target))[os.fsencode(target)] == 997
    names = Counter((r.syscall, r.part, r.raw, r.result) for r in records if not r.flags & Flag.OBJECT)
    raw = os.fsencode(target)
    assert names[257, 0, raw + b".missing", -2] == 499
    assert names[82, 0, raw, 0] == names[82, 1, raw + b"2", 0] == 101
    assert names[82, 0, raw + b"2", 0] == names[82, 1, raw, 0] == 101
    assert names[83, 0, os.fsencode(tmp_path) + b"/d", 0] == 53
    assert {r.role for r in records if raw in r.raw} == {Role.SUBJECT}


def test_paths_are_what_was_really_opened(session: CaptureSession, slice_: Slice, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "link").symlink_to("real")
    deep = tmp_path.joinpath(*(f"component-{i}" for i in range(90)))
    deep.mkdir(parents=True)
    slice_.arm(session)
    slice_.run_code(
        f"""
os.chdir({str(tmp_path)!r})
os.open('link/../link/./file', os.O_RDONLY)
os.open('file', os.O_RDONLY, dir_fd=os.open('real', os.O_RDONLY))
os.open('made', os.O_CREAT | os.O_WRONLY)
fd = os.open('gone', os.O_CREAT | os.O_RDWR); os.unlink('gone'); os.open(f'/proc/self/fd/{{fd}}', os.O_RDONLY)
os.open({str(deep)!r}, os.O_RDONLY)
os.fchmod(fd, 0o600)
try: os.open('nowhere', os.O_RDONLY)
except FileNotFoundError: pass
"""
    )
    records, accounting = session.disarm()
    whole(accounting)
    base = os.fsencode(tmp_path)
    assert paths(records, base + b"/real/file") == {base + b"/real/file": 2}
    assert paths(records, base + b"/component-0") == {os.fsencode(deep): 1}
    made = [r for r in records if r.walked == base + b"/made"]
    assert [bool(r.flags & Flag.CREATED) for r in made] == [True]
    gone = [r for r in records if r.kind is Kind.OPEN and r.walked == base + b"/gone"]
    assert [bool(r.flags & Flag.UNLINKED) for r in gone] == [False, True]
    assert [r.walked for r in records if r.syscall == 91] == [base + b"/gone"]
    assert [(r.walked, r.result) for r in records if r.raw == b"nowhere"] == [(base, -2)]
    assert not any(c.truncated for c in accounting.kinds.values())


@pytest.mark.breaks("counter:truncated")
def test_a_path_that_does_not_fit_is_flagged(session: CaptureSession, slice_: Slice, tmp_path: Path) -> None:
    slice_.arm(session)
    slice_.run_code(
        f"""
os.chdir({str(tmp_path)!r})
for i in range(150): os.mkdir('d'); os.chdir('d')
os.open('f', os.O_CREAT | os.O_WRONLY)
"""
    )
    records, accounting = session.disarm()
    whole(accounting)
    assert any(r.flags & Flag.TRUNCATED for r in records)
    assert sum(c.truncated for c in accounting.kinds.values()) > 0


def test_execution_process_tree_and_network(session: CaptureSession, slice_: Slice, tmp_path: Path) -> None:
    bound = socket.socket()  # nobody else has its port, and nobody listens there
    bound.bind(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    env, true = (os.fsencode(Path(f"/usr/bin/{name}").resolve()) for name in ("env", "true"))
    slice_.arm(session)
    slice_.run_code(
        f"""
import _socket
there = ('127.0.0.1', {port})
pid = os.posix_spawn('/usr/bin/env', ['env', 'true'], {{'PATH': '/nowhere:/usr/bin'}})
os.waitpid(pid, 0)
s = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
try: s.connect(there)
except ConnectionRefusedError: pass
u = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
u.sendto(b'x', there)
"""
    )
    slice_.run_code(
        """
import _socket
for family, address in ((_socket.AF_INET, '127.0.0.1'), (_socket.AF_INET6, '::1')):
    _socket.socket(family, _socket.SOCK_STREAM).bind((address, 0))
""",
        "tools",
    )
    bound.close()
    records, accounting = session.disarm()
    whole(accounting)
    execs = [(r.walked, r.raw, r.result) for r in records if r.kind is Kind.EXEC]
    assert (env, b"/usr/bin/env\0env\0true\0", 0) in execs
    assert (b"", b"/nowhere/true", -2) in execs
    assert (true, b"/usr/bin/true\0true\0", 0) in execs
    net = [(r.role, r.args[0], r.args[1], r.raw) for r in records if r.kind is Kind.NET]
    assert net == [
        (Role.SUBJECT, 0, port, b"\x7f\0\0\x01"),
        (Role.SUBJECT, 1, port, b"\x7f\0\0\x01"),
        (Role.TOOLS, 2, 0, b"\x7f\0\0\x01"),
        (Role.TOOLS, 2, 0, bytes(15) + b"\x01"),
    ]
    # no container here, so no role ever passed its start boundary
    assert all(r.setup for r in records if r.role is not Role.HARNESS)
    assert [r.result for r in records if r.syscall == 42] == [-111]
    forks = [r for r in records if r.kind is Kind.FORK and r.args[1] == 1]
    exits = [r for r in records if r.kind is Kind.EXIT and r.role is Role.SUBJECT and r.args[1] == 1]
    assert len(forks) == 1
    assert len(exits) == 2


@pytest.mark.breaks("unclean:left_slice")
def test_leaving_the_slice_trips_the_wire(session: CaptureSession, slice_: Slice) -> None:
    slice_.arm(session)
    out = slice_.run_code(
        f"""
import _posixsubprocess
child = os.fork()
if child == 0:
    os.write(os.open({str(CGROUP / "cgroup.procs")!r}, os.O_WRONLY), b'0')
    os._exit(0)
os.waitpid(child, 0)
print(child)
"""
    )
    records, accounting = session.disarm()
    whole(accounting)
    assert [(r.pid, r.raw) for r in records if r.kind is Kind.ATTACH] == [(int(out), b"/")]


@pytest.mark.breaks("unclean:compat_syscall", "unclean:io_uring_used")
def test_what_seccomp_would_have_refused_is_seen(session: CaptureSession, slice_: Slice, probe: Path) -> None:
    """The tripwires behind the seal: here are no containers, so nothing stands in the way of these calls."""
    slice_.arm(session)
    setup = "import ctypes; print(ctypes.CDLL(None).syscall(425, 4, ctypes.create_string_buffer(120)))"
    assert int(slice_.run_code(setup)) >= 0
    for call in ("int80", "x32"):
        slice_.run_code(f"os.execv({str(probe)!r}, ['probe', {call!r}])")
    records, accounting = session.disarm()
    whole(accounting)
    assert [r.result >= 0 for r in records if r.kind is Kind.URING and r.syscall == 425] == [True]
    assert len({r.pid for r in records if r.kind is Kind.COMPAT}) == 2


PRODUCER = """
os.read(0, 1)
for _ in range({opens}): os.close(os.open({path!r}, os.O_RDONLY))
os.write(1, b"x")
os.read(0, 1)
os._exit(0)
"""


def flood(session: CaptureSession, slice_: Slice, target: Path, opens: int) -> tuple[int, CaptureAccounting]:
    """Two unpaced producers of `opens` each; how many of these came through, and the accounting.

    Neither starts or ends while the other is at it: so only their opens can be among what is dropped.
    """
    found = 0

    def count(record: KernelRecord) -> bool:
        nonlocal found
        found += record.kind is Kind.OPEN and record.walked == name and bool(record.flags & Flag.OBJECT)
        return False

    name = os.fsencode(target)
    slice_.arm(session)
    code = PRODUCER.format(opens=opens, path=str(target))
    producers = [slice_.start(code, role) for role in ("subject", "tools")]
    pipes = [(p.stdin, p.stdout) for p in producers if p.stdin and p.stdout]
    for begin, _ in pipes:
        begin.write("x")
        begin.flush()
    assert [done.read(1) for _, done in pipes] == ["x", "x"]
    for producer in producers:
        producer.communicate("x", timeout=120)
    _, accounting = session.disarm(keep=count)
    return found, accounting


EACH = 30_011  # opens of a producer: some 4 MB of records, many times what the small rings hold


def test_two_unpaced_producers_lose_nothing(session: CaptureSession, slice_: Slice, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    found, accounting = flood(session, slice_, tmp_path / "target", 2 * EACH)
    whole(accounting)
    assert found == 4 * EACH
    assert accounting.kinds[Kind.OPEN].seen >= found
    assert accounting.kinds[Kind.OPEN].dropped == 0


SMALL_RING = 1 << 20


def test_back_pressure_saves_a_slow_consumer(slice_: Slice, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    options = CaptureOptions(ring_bytes=SMALL_RING, lazy=True)
    with CaptureSession(options, kept_in=KEPT) as session:
        found, accounting = flood(session, slice_, tmp_path / "target", EACH)
    whole(accounting)
    assert found == 2 * EACH
    assert accounting.kinds[Kind.OPEN].dropped == 0
    # a freeze comes at half of the ring, and an end of it near its bottom
    assert accounting.freezes >= accounting.received_bytes // SMALL_RING > 3
    assert accounting.frozen_ns > 0


def test_without_back_pressure_the_loss_is_counted_exactly(slice_: Slice, tmp_path: Path) -> None:
    """The same, but nothing freezes the slice: what comes through is what the ring holds."""
    (tmp_path / "target").write_text("x")
    options = CaptureOptions(ring_bytes=SMALL_RING, lazy=True, backpressure=False)
    with CaptureSession(options, kept_in=KEPT) as session:
        found, accounting = flood(session, slice_, tmp_path / "target", EACH)
    counters = accounting.kinds[Kind.OPEN]
    assert 0 < found < 2 * EACH
    lost_sentinels = accounting.sentinels_expected - accounting.sentinels_seen
    assert lost_sentinels == 23  # the closing ones: the ring is full until then
    assert counters.dropped == 2 * EACH - found + lost_sentinels
    assert counters.seen == counters.submitted + counters.dropped
    assert sum(c.submitted for c in accounting.kinds.values()) == accounting.received


def test_a_dead_capture_process_is_said_not_hidden(slice_: Slice) -> None:
    with CaptureSession(kept_in=KEPT) as session:
        slice_.arm(session)
        os.kill(session.pid, signal.SIGKILL)
        slice_.run_code("pass")
        _, accounting = session.disarm()
    assert accounting.errors == ("capture_process_died",)
    assert accounting.sentinels_seen < accounting.sentinels_expected


def test_program_digest_does_not_depend_on_the_load(session: CaptureSession) -> None:
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(17)]
    try:
        with CaptureSession(CaptureOptions()) as other:
            assert other.facts["digest"] == session.facts["digest"]
    finally:
        for descriptor in held:
            os.close(descriptor)
