"""The kernel program is compiled once and kept; what is not as it was kept is compiled again."""

import errno
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from harness.capture import bpf, built
from harness.capture.bpf import Map, MapKind
from harness.capture.hooks import AFTER_CALL, FUNCTIONS, CallHook, network_functions
from harness.capture.program import _MAPS, Program
from harness.capture.session import CaptureSession
from harness.errors import EnvironmentUnfitError
from harness.evidence.model import Kind, Role
from harness.host.btf import Btf
from harness.host.cgroup import Slice
from harness.plan import FIXTURES
from tests.faults.midrun import until

pytestmark = pytest.mark.linux

RING = 1 << 20
NAMES = (_MAPS, FUNCTIONS)


@pytest.fixture(scope="module")
def compiled() -> built.Built:
    return built.built(*NAMES, None)


@pytest.fixture
def kept(compiled: built.Built, tmp_path: Path) -> Path:
    """The one file in which the compiled program is kept, in the folder that it is kept in."""
    place = tmp_path / "bpf" / f"{built._key(*NAMES)}.json"
    built._keep(compiled, place)
    assert list(place.parent.iterdir()) == [place]
    return place


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch, compiled: built.Built) -> list[str]:
    """One entry for each time that something was compiled; the real thing, but only once."""
    times: list[str] = []

    def compile_(*_: object) -> built.Built:
        times.append("compiled")
        return compiled

    monkeypatch.setattr(built, "_compile", compile_)
    return times


def test_what_is_kept_is_what_was_compiled(
    kept: Path, compiled: built.Built, compilations: list[str]
) -> None:
    assert built.built(*NAMES, kept.parent) == compiled
    assert compilations == []
    assert {kind.name for kind in compiled.maps} == set(_MAPS)
    assert set(compiled.functions) == set(FUNCTIONS)


LOAD = """
import sys
from pathlib import Path
sys.modules["bcc.libbcc"] = None  # whoever imports bcc fails
from harness.capture.program import Program
program = Program(1 << 20, Path(sys.argv[1]))
print(program.facts.digest, sum(counters.seen for counters in program.counters().values()))
"""


def test_a_kept_program_is_loaded_without_the_compiler(kept: Path, compiled: built.Built) -> None:
    def load() -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"PYTHONPATH": str(FIXTURES.parent)}
        command = [sys.executable, "-c", LOAD, str(kept.parent)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    done = load()
    assert (done.stdout, done.stderr) == (f"{compiled.digest} 0\n", "")
    kept.unlink()
    done = load()
    assert done.returncode == 1
    assert "bcc.libbcc" in done.stderr


@pytest.mark.parametrize("at", [0, 40, 100, -100])
def test_one_other_byte_and_it_is_compiled_again(
    kept: Path, compiled: built.Built, compilations: list[str], at: int
) -> None:
    before = kept.read_bytes()
    data = bytearray(before)
    data[at] ^= 1
    kept.write_bytes(data)
    assert built.built(*NAMES, kept.parent) == compiled
    assert compilations == ["compiled"]
    assert kept.read_bytes() == before


def test_half_a_file_and_none_are_compiled_again(
    kept: Path, compiled: built.Built, compilations: list[str]
) -> None:
    kept.write_bytes(kept.read_bytes()[:1000])
    assert built.built(*NAMES, kept.parent) == compiled
    kept.write_bytes(b"\xff")
    assert built.built(*NAMES, kept.parent) == compiled
    shutil.rmtree(kept.parent)
    assert built.built(*NAMES, kept.parent) == compiled
    assert built.built(*NAMES, kept.parent) == compiled
    assert len(compilations) == 3


@pytest.mark.parametrize("what", ["source", "record", "kernel types", "kernel", "headers", "compiler"])
def test_for_anything_else_it_is_compiled_again(
    kept: Path, compilations: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    if what in ("source", "record"):
        folder = Path(shutil.copytree(built.BPF_FOLDER, tmp_path / "copy"))
        file = folder / {"source": "capture.c", "record": "record.h"}[what]
        file.write_text(file.read_text() + "/* more */")
        monkeypatch.setattr(built, "BPF_FOLDER", folder)
    elif what == "kernel types":
        monkeypatch.setattr(built, "btf_digest", lambda: "sha256:of another kernel")
    elif what == "kernel":
        real = os.uname()
        monkeypatch.setattr(os, "uname", lambda: os.uname_result((*real[:2], "1.2.3", *real[3:])))
    elif what == "headers":
        monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path))
    else:
        other = tmp_path / "bcc"
        other.mkdir()
        (other / "__init__.py").touch()
        (other / "version.py").write_text("__version__ = '99'")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "bcc", raising=False)
    built.built(*NAMES, kept.parent)
    assert compilations == ["compiled"]
    assert kept.exists()


def test_a_folder_that_takes_nothing_costs_a_compilation_and_nothing_else(
    compiled: built.Built, compilations: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "no" / "such"):
        assert built.built(*NAMES, folder) == compiled
    assert len(compilations) == 2


def test_only_so_many_are_kept(kept: Path, compiled: built.Built) -> None:
    for number in range(20):
        built._keep(compiled, kept.with_name(f"{number}.json"))
        os.utime(kept.with_name(f"{number}.json"), (number, number))
    assert len(list(kept.parent.iterdir())) == built._MOST + 1


def test_the_digest_tells_other_instructions_and_other_maps(compiled: built.Built) -> None:
    """It is what archives say of the program, whatever was kept."""
    changed = bytearray(compiled.functions["sys_exit"])
    changed[-8] ^= 1
    other_maps = built.with_descriptors(compiled.functions["finish"], [7] * len(_MAPS))
    for code in ({"sys_exit": bytes(changed)}, {"finish": other_maps}):
        assert evolve(compiled, functions={**compiled.functions, **code}).digest != compiled.digest
    fewer = (evolve(compiled.maps[0], entries=2), *compiled.maps[1:])
    assert evolve(compiled, maps=fewer).digest != compiled.digest


def test_maps_are_named_by_their_index(compiled: built.Built) -> None:
    """Each load of a map is found again, and nothing else is touched."""
    back = {100 + number: number for number in range(len(_MAPS))}
    for code in compiled.functions.values():
        there = built.with_descriptors(code, sorted(back))
        assert built._by_index(there, back) == code
        assert len(there) == len(code)
    assert built.with_descriptors(compiled.functions["finish"], sorted(back)) != compiled.functions["finish"]
    other_load = struct.pack("=BBhiQ", 0x18, 2 << 4, 0, 0, 0)
    other_call = struct.pack("=BBhi", 0x85, 1 << 4, 0, 0)
    for unknown, said in ((other_load, "only maps"), (other_call, "to be inlined")):
        with pytest.raises(RuntimeError, match=said):
            built.with_descriptors(unknown, [])


def test_what_the_verifier_says_is_told() -> None:
    leaves_nothing_in_r0 = struct.pack("=BBhi", 0x95, 0, 0, 0)
    with pytest.raises(bpf.ProgramRefusedError, match=r"bad: R0 !read_ok$") as refused:
        bpf.load_program(17, "bad", leaves_nothing_in_r0)
    assert refused.value.errno == errno.EACCES
    assert "\n" not in str(refused.value)
    assert "processed 1 insns" in refused.value.log


@pytest.fixture(params=[1, 6], ids=["hash", "one value a CPU"])
def table(request: pytest.FixtureRequest) -> Iterator[Map]:
    made = Map.create(MapKind("t", request.param, 4, 8, 4, 0))
    yield made
    os.close(made.descriptor)


def test_a_map_gives_back_what_was_put_in(table: Map) -> None:
    assert bpf.map_kind(table.descriptor) == table.kind
    if table.kind.type == 6:
        assert table.values(bytes(4)) == [bytes(8)] * bpf.possible_cpus()
        assert list(table.keys()) == [struct.pack("=I", number) for number in range(4)]
        return
    for number in range(3):
        table.update(struct.pack("=I", number), struct.pack("=Q", number + 7))
    assert sorted(table.keys()) == [struct.pack("=I", number) for number in range(3)]
    assert table.values(struct.pack("=I", 2)) == [struct.pack("=Q", 9)]
    table.delete(struct.pack("=I", 2))
    table.delete(struct.pack("=I", 2))
    with pytest.raises(FileNotFoundError):
        table.values(struct.pack("=I", 2))
    table.clear()
    assert list(table.keys()) == []


@pytest.mark.parametrize(("text", "count"), [("0", 1), ("0-3", 4), ("0,2-5", 6), ("0-1,8-9", 10)])
def test_possible_cpus(text: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "possible").write_text(f"{text}\n")
    monkeypatch.setattr(bpf, "_POSSIBLE", tmp_path / "possible")
    assert bpf.possible_cpus() == count


def test_closing_gives_everything_back(kept: Path) -> None:
    def held() -> set[str]:
        return {path.name for path in Path("/proc/self/fd").iterdir()}

    before = held()
    Program(RING, kept.parent).close()
    assert held() == before


PRINTS = (
    b"".join(  # calls bpf_trace_printk("x", 2), and with it whatever is hooked to the tracepoint of that name
        struct.pack("=BBhi", *one)
        for one in (
            (0x7A, 10, -8, ord("x")),  # the text, on the stack
            (0xBF, 0xA1, 0, 0),
            (0x07, 1, 0, -8),
            (0xB7, 2, 0, 2),
            (0x85, 0, 0, 6),  # BPF_FUNC_trace_printk
            (0xB7, 0, 0, 0),
            (0x95, 0, 0, 0),
        )
    )
)
_PROG_TEST_RUN = 10


@pytest.fixture
def printing() -> Iterator[None]:
    """Loading a program that prints turns the event on, perhaps a little later; it is left as it was."""
    switch = Path("/sys/kernel/tracing/events/bpf_trace/bpf_trace_printk/enable")
    before = switch.read_text()
    yield
    until(lambda: switch.read_text().startswith("1"))
    for _ in range(10):  # a worker of the kernel turns it on, once for each time that the verifier asks
        switch.write_text(before)
        time.sleep(0.1)


@pytest.mark.breaks("counter:recursion_misses")
@pytest.mark.usefixtures("printing")
def test_an_event_that_the_kernel_skips_is_counted() -> None:
    """A program hooked to what it does itself: the kernel does not run it within itself, and says so."""
    program = bpf.load_program(17, "prints", PRINTS)
    hook = bpf.open_raw_tracepoint("bpf_trace_printk", program)
    assert bpf.recursion_misses(program) == 0
    for number in range(1, 4):
        bpf._bpf(_PROG_TEST_RUN, struct.pack("=I76x", program))
        assert bpf.recursion_misses(program) == number
    os.close(hook)
    os.close(program)


def test_the_counter_is_where_this_kernel_has_it() -> None:
    types = Btf()
    assert types.offset("bpf_prog_info", "recursion_misses") == bpf._RECURSION_MISSES_AT
    assert types.size("bpf_prog_info") >= bpf._PROG_INFO_SIZE


@pytest.mark.breaks("counter:fault")
@pytest.mark.parametrize("hook", CallHook)
def test_a_record_that_cannot_be_finished_is_counted(kept: Path, run_slice: Slice, hook: CallHook) -> None:
    """Without the second half of the program every open is seen, and counted as given up."""
    program = Program(RING, kept.parent, hook=hook)
    subject = run_slice.role_path(Role.SUBJECT)
    places = program.attach(run_slice.path, subject, run_slice.role_path(Role.TOOLS))
    for index in range(len(AFTER_CALL)):
        program._maps["call_programs"].delete(struct.pack("=I", index))
    reads = f"echo $$ > {subject}/cgroup.procs; for i in 1 2 3 4 5 6 7; do read x < /dev/null; done; true"
    subprocess.run(["sh", "-c", reads], check=True)
    opens = program.counters()[Kind.OPEN]
    assert opens.seen == opens.fault >= 7
    assert opens.submitted == 0
    program.detach(places)
    program.close()


def test_a_kernel_that_does_not_count_what_it_skips_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the struct ended before the counter."""
    program = bpf.load_program(17, "ends", struct.pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))
    assert bpf.recursion_misses(program) == 0
    monkeypatch.setattr(bpf, "_PROG_INFO_SIZE", bpf._RECURSION_MISSES_AT)
    with pytest.raises(OSError, match="does not count"):
        bpf.recursion_misses(program)
    os.close(program)


def test_a_program_that_the_kernel_refuses_is_one_line_and_a_file(
    kept: Path, compiled: built.Built, tmp_path: Path
) -> None:
    """Nobody reads forty lines of a verifier's log on a terminal; who mends it wants all of them."""
    functions = {**compiled.functions, "sched_process_fork": struct.pack("=BBhi", 0x95, 0, 0, 0)}
    built._keep(evolve(compiled, functions=functions), kept)
    log = tmp_path / "capture.log"
    with (
        CaptureSession(kept_in=kept.parent, log=log) as session,
        pytest.raises(EnvironmentUnfitError) as caught,
    ):
        _ = session.facts
    assert "sched_process_fork: R0 !read_ok" in caught.value.message
    assert caught.value.exit_code == 5
    assert len(str(caught.value).splitlines()) == 2
    assert str(log) in caught.value.hint
    assert "processed 1 insns" in log.read_text()
    assert "Traceback" in log.read_text()


def test_a_log_that_cannot_be_written_hides_nothing(
    kept: Path, compiled: built.Built, tmp_path: Path
) -> None:
    functions = {**compiled.functions, "finish": struct.pack("=BBhi", 0x95, 0, 0, 0)}
    built._keep(evolve(compiled, functions=functions), kept)
    nowhere = tmp_path / "no" / "such"
    with (
        CaptureSession(kept_in=kept.parent, log=nowhere) as session,
        pytest.raises(EnvironmentUnfitError) as caught,
    ):
        _ = session.facts
    assert "finish: R0 !read_ok" in caught.value.message
    assert "could not be written" in caught.value.hint


# What Linux 5.15 lets programs of each type call, of what bpf/capture.c calls: include/uapi/linux/bpf.h has
# the numbers; kernel/trace/bpf_trace.c, kernel/bpf/helpers.c and net/core/filter.c say who may.
MAPS = {1: "map_lookup_elem", 2: "map_update_elem", 3: "map_delete_elem"}
ANYWHERE = MAPS | {
    5: "ktime_get_ns", 14: "get_current_pid_tgid", 16: "get_current_comm", 35: "get_current_task",
    113: "probe_read_kernel", 130: "ringbuf_output",
}  # fmt: skip
TRACING = ANYWHERE | {
    12: "tail_call", 37: "current_task_under_cgroup", 112: "probe_read_user", 114: "probe_read_user_str",
    115: "probe_read_kernel_str", 158: "get_current_task_btf", 175: "task_pt_regs",
}  # fmt: skip


def test_programs_call_only_what_the_oldest_kernel_lets_their_type_call(compiled: built.Built) -> None:
    """That a newer kernel loads them says nothing: 6.1 has no current_task_under_cgroup for sockets."""
    sockets = network_functions()
    for name, code in compiled.functions.items():
        calls = {
            struct.unpack_from("=i", code, at + 4)[0] for at in range(0, len(code), 8) if code[at] == 0x85
        }
        assert calls
        assert calls <= set(ANYWHERE if name in sockets else TRACING), name


def test_a_classic_tracepoint_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    program = bpf.load_program(bpf.TRACEPOINT, "ends", bpf._RETURN_0)
    (tmp_path / "id").write_text("4000000000\n")
    with pytest.raises(OSError, match=r"Invalid argument|No such"):
        bpf.open_tracepoint(tmp_path, program)
    os.close(program)
