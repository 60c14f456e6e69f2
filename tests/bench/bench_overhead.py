"""What capture costs: paired, rotated, medians with their spread. `nox -s bench` prints the tables.

Every round runs all conditions of a workload, each round in another order; ratios are taken within a
round, so that load which comes and goes hits both sides. The tables are left in out/bench/overhead.md.
"""

import os
import platform
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.bench import Bench
from harness.capture.records import decode
from harness.capture.session import CaptureSession
from harness.engine.daemon import ensure_engine
from harness.engine.images import BuiltImage, ensure_image
from harness.evidence.assemble import assemble
from harness.evidence.image import RunImage
from harness.evidence.model import CaptureAccounting, KernelRecord, Kind, Role
from harness.gates.catalog import find_fixture
from harness.host.cgroup import Slice
from harness.host.state import RunFolder, State, default_state
from harness.plan import FIXTURES, Plan, plan_fixture
from harness.recorder.channel import Recorder
from harness.run import READY, Measured, _channels, _created, _end_slice, _folders, measure

pytestmark = [pytest.mark.bench, pytest.mark.linux, pytest.mark.timeout(3600)]

REPORT = Path(__file__).resolve().parents[2] / "out" / "bench" / "overhead.md"
ROUNDS = 11
W1_OPENS, W1_FILES = 100_003, 997  # primes
W2_STARTS = 20
FLOOD_SECONDS = 5.0
PYTHON = "/usr/bin/python3"
UNWATCHED = "same containers, nothing watched"
BASE, INSIDE, OUTSIDE = "no capture", "inside the slice", "outside the slice"

W1 = f"""
names = [FOLDER + f"/{{i}}" for i in range({W1_FILES})]
begun, used = time.perf_counter(), os.times()
for i in range({W1_OPENS}):
    fd = os.open(names[i % {W1_FILES}], os.O_RDONLY)
    os.read(fd, 64)
    os.close(fd)
print(time.perf_counter() - begun, sum(os.times()[:4]) - sum(used[:4]))
"""
W2 = f"""
begun, used = time.perf_counter(), os.times()
for i in range({W2_STARTS}):
    child = os.posix_spawn({PYTHON!r}, [{PYTHON!r}, "-I", "-c", "import json, http.client, ssl"], {{}})
    assert os.waitpid(child, 0)[1] == 0
print(time.perf_counter() - begun, sum(os.times()[:4]) - sum(used[:4]))
"""
FLOOD = f"""
end, count, name = time.monotonic() + {FLOOD_SECONDS}, 0, FOLDER + "/0"
while time.monotonic() < end:
    for i in range(200): os.close(os.open(name, os.O_RDONLY))
    count += 200
print(count, 0)
"""

WALL = ("", "| workload | condition | wall, s | ratio in the same round |", "|---|---|---|---|")
BOTH = ("", f"{WALL[1]} processor, s | ratio in the same round |", f"{WALL[2]}---|---|")
Timing = tuple[float, ...]  # seconds: on the wall, and, where it can be told apart, of processors
Timings = dict[str, list[Timing]]  # by condition, one a round


@pytest.fixture(scope="module")
def report() -> Iterator[list[str]]:
    """Lines of the report, written and printed at the end."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    host = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    lines = [
        f"Measured {now} on {host}, load average {os.getloadavg()[0]:.1f} at the start; {ROUNDS} rounds."
    ]
    yield lines
    text = "\n".join(lines) + "\n"
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(text, encoding="utf-8")
    print("\n\n" + text)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that W1 reads from."""
    folder = tmp_path_factory.mktemp("w1")
    for number in range(W1_FILES):
        (folder / str(number)).write_text("x" * 64)
    return folder


@contextmanager
def empty_slice() -> Iterator[Slice]:
    made = Slice.create(f"bench_{uuid.uuid4().hex[:12]}")
    try:
        yield made
    finally:
        _end_slice(made)


@contextmanager
def armed(slice_: Slice, spool: Path) -> Iterator[CaptureSession]:
    """A capture of its own that watches the slice; the block disarms it."""
    with CaptureSession() as session:
        session.arm(
            run=slice_.path,
            subject=slice_.role_path(Role.SUBJECT),
            tools=slice_.role_path(Role.TOOLS),
            sentinel=slice_.role_path(Role.HARNESS),
            spool=spool,
        )
        yield session


def start(
    code: str, folder: Path, slice_: Slice | None, role: Role = Role.SUBJECT
) -> "subprocess.Popen[str]":
    """Run Python code, in the slice if one is given."""
    head = f"import os, time\nFOLDER = {str(folder)!r}\n"
    if slice_ is not None:
        procs = slice_.role_path(role) / "cgroup.procs"
        head += f"os.write(os.open({str(procs)!r}, os.O_WRONLY), b'0')\n"
    return subprocess.Popen([PYTHON, "-I", "-S", "-c", head + code], stdout=subprocess.PIPE, text=True)


def printed(process: "subprocess.Popen[str]") -> Timing:
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    wall, processor = out.split()
    return float(wall), float(processor)


def rotated(conditions: Mapping[str, Callable[[], Timing]]) -> Timings:
    """Every condition once a round, the first of a round being another one each time."""
    names: list[str] = list(conditions)
    seconds: Timings = {}
    for number in range(ROUNDS):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            seconds.setdefault(name, []).append(conditions[name]())
    return seconds


def spread(values: Sequence[float], form: str) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} [{low:{form}}..{high:{form}}]"


def rows(workload: str, timings: Timings, base: str) -> list[str]:
    """One line a condition: each of its times, and that time's ratio to the base of the same round."""
    lines = []
    for name, found in timings.items():
        cells = [workload, name]
        for values, firsts in zip(zip(*found, strict=True), zip(*timings[base], strict=True), strict=True):
            ratios = [value / first for value, first in zip(values, firsts, strict=True)]
            cells += [spread(values, ".3f"), "1" if name == base else spread(ratios, ".2f")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def whole(accounting: CaptureAccounting) -> None:
    """Nothing of what was timed was lost."""
    submitted = sum(kind.submitted for kind in accounting.kinds.values())
    assert submitted == accounting.received == accounting.decoded
    assert not sum(kind.dropped for kind in accounting.kinds.values())
    assert accounting.sentinels_seen == accounting.sentinels_expected


def test_two_workloads(report: list[str], files: Path, tmp_path: Path) -> None:
    report += [
        "",
        f"W1: {W1_OPENS} times open, read, close in Python, over {W1_FILES} files.",
        f"W2: {W2_STARTS} times `python3 -I -c 'import json, http.client, ssl'`.",
        *BOTH,
    ]
    for name, code, least in (("W1", W1, W1_OPENS), ("W2", W2, W2_STARTS)):
        report += rows(name, rotated(conditions(code, least, files, tmp_path / "spool")), BASE)


def conditions(code: str, least: int, files: Path, spool: Path) -> dict[str, Callable[[], Timing]]:
    """Run `code` in three ways; inside, at least `least` opens must be seen, outside none."""
    opens = 0

    def count(record: KernelRecord) -> bool:
        nonlocal opens
        opens += record.kind is Kind.OPEN and record.role is Role.SUBJECT
        return False

    def base() -> Timing:
        with empty_slice() as slice_:
            return printed(start(code, files, slice_))

    def captured(*, inside: bool) -> Timing:
        nonlocal opens
        with empty_slice() as slice_, armed(slice_, spool) as session:
            opens = 0
            timing = printed(start(code, files, slice_ if inside else None))
            _, accounting = session.disarm(keep=count)
        whole(accounting)
        assert opens >= least or not inside
        assert opens == 0 or inside
        return timing

    return {BASE: base, INSIDE: lambda: captured(inside=True), OUTSIDE: lambda: captured(inside=False)}


def test_the_consumer_and_the_decoder(report: list[str], files: Path, tmp_path: Path) -> None:
    rates, cpu, decoding, records_each = [], [], [], []
    for _ in range(ROUNDS):
        with empty_slice() as slice_, armed(slice_, tmp_path / "spool") as session:
            before = cpu_seconds(session.pid)
            producers = [start(FLOOD, files, slice_, role) for role in (Role.SUBJECT, Role.TOOLS)]
            for process in producers:
                printed(process)
            spent = cpu_seconds(session.pid) - before
            _, accounting = session.disarm(keep=lambda _: False)
        whole(accounting)
        data = (tmp_path / "spool").read_bytes()[: 64 << 20]
        begun = time.process_time()
        decoded = decode(data, keep=lambda _: False)
        decoding.append((time.process_time() - begun) / decoded.total * 1e6)
        records_each.append(accounting.received)
        rates.append(accounting.received / FLOOD_SECONDS / 1000)
        cpu.append(spent / accounting.received * 1e6)
    report += [
        "",
        f"Consumer: two unpaced producers for {FLOOD_SECONDS:g} s,",
        f"{statistics.median(records_each):,.0f} records a round, none dropped.",
        "",
        "| what | median [min..max] |",
        "|---|---|",
        f"| records drained, thousands a second | {spread(rates, '.0f')} |",
        f"| processor time of the capture process, µs a record | {spread(cpu, '.2f')} |",
        f"| decoding after the run, µs a record | {spread(decoding, '.2f')} |",
    ]


def test_a_whole_run(report: list[str]) -> None:
    state = default_state().prepare()
    with closing(ensure_engine(state)) as client:
        image = ensure_image(client, "openai-agents", state=state.root, fixtures=FIXTURES, progress=print)
    agent: Timings = {}
    last: list[Measured] = []

    def with_capture() -> Timing:
        with Bench(state, print) as bench:
            _ = bench.capture.facts  # compiled once for many runs: not part of one
            begun = time.monotonic()
            measured = measure(bench, s5_plan(image))
            seconds = time.monotonic() - begun
        assert measured.assembled.unclean == ()
        agent.setdefault("measured", []).append((agent_seconds(measured.phases),))
        last[:] = [measured]
        return (seconds,)

    def without() -> Timing:
        seconds, its_agent = unmeasured(state, s5_plan(image))
        agent.setdefault(UNWATCHED, []).append((its_agent,))
        return (seconds,)

    seconds = rotated({UNWATCHED: without, "measured": with_capture})
    agent = {name: agent[name] for name in seconds}
    (measured,) = last
    records = len(measured.observation.records)
    evidence = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        assemble(measured.observation, measured.plan.context())
        evidence.append((time.process_time() - begun) / records * 1e6)
    report += [
        "",
        "S5: one run of the fixture `openai-agents`, both containers. The whole run is from its first folder",
        "to its last container's removal, and for the measured one also evidence; the agent's time is from",
        "the call that starts its container until its cgroup is empty.",
        *WALL,
        *rows("whole run", seconds, UNWATCHED),
        *rows("agent", agent, UNWATCHED),
        "",
        f"Evidence (classify, correlate, write) of {records} records: {spread(evidence, '.1f')} µs a record.",
    ]


def s5_plan(image: BuiltImage) -> Plan:
    return plan_fixture(
        find_fixture("openai-agents"),
        RunImage(image.tag, image.id, image.runtime_roots, files=image.contents(), search=image.search),
        run_id=f"bench_{uuid.uuid4().hex[:12]}",
    )


def agent_seconds(phases: Mapping[str, float]) -> float:
    return (phases["subject_started"] + phases["subject_ran"]) / 1000


def unmeasured(state: State, plan: Plan) -> tuple[float, float]:
    """The same containers through the same code without capture and evidence: seconds, agent's seconds."""
    bench = Bench(state, print)  # not entered: it would load the program
    with ExitStack() as stack:
        bench.client = ensure_engine(bench.state)
        stack.callback(bench.client.close)
        begun = time.monotonic()
        with ExitStack() as run:
            folder = RunFolder.create(bench.state, plan.spec.run_id)
            run.callback(folder.remove)
            slice_ = Slice.create(plan.spec.run_id)
            run.callback(_end_slice, slice_)
            places = _folders(folder, plan)
            recorder = run.enter_context(Recorder(_channels(places)))
            made = {}
            for container in _created(bench, plan, slice_, places, "assay"):
                run.callback(container.remove)
                made[container.spec.role] = container
            made[Role.TOOLS].start()
            assert recorder.wait_for("decisions", READY, 30.0)
            started = time.monotonic()
            made[Role.SUBJECT].start()
            assert slice_.wait_empty(Role.SUBJECT, timeout_s=60.0)
            its_agent = time.monotonic() - started
            recorder.hang_up("decisions")
            assert slice_.wait_empty(timeout_s=10.0)
            assert {role: container.wait(10.0) for role, container in made.items()} == dict.fromkeys(made, 0)
        return time.monotonic() - begun, its_agent


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
