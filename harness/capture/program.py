"""The loaded kernel program: its maps and hooks, pointed at one slice after another."""

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from attrs import astuple, evolve, frozen

from harness.capture import bpf, hooks
from harness.capture.bpf import Map
from harness.capture.built import btf_digest, built, with_descriptors
from harness.capture.hooks import CallHook
from harness.capture.records import LAYOUT
from harness.capture.syscalls import X86_64
from harness.evidence.model import Kind, KindCounters, Role

_MAPS = (
    *("scratches", "counters", "rules", "slice", "started", "members", "ring"),
    *("call_programs", "exec_programs"),
)


@frozen
class BuildFacts:
    """How the program was made. `digest` covers all instructions and maps, but for the ring's size.

    call_hook  raw_tracepoint or tracepoint: what runs the program when a system call returns
    """

    digest: str
    btf_digest: str
    call_hook: str
    build_seconds: float
    load_seconds: float


class Program:
    """The loaded BPF program; one per capture process. Needs CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN.

    All of it vanishes with this process, but for the cgroup hooks: these are legacy attachments and are
    taken off by `detach` or by the removal of the cgroup. `kept_in`: see harness.capture.built.
    """

    def __init__(self, ring_bytes: int, kept_in: Path | None = None, *, hook: CallHook | None = None) -> None:
        begun = time.monotonic()
        found = built(_MAPS, hooks.FUNCTIONS, kept_in)
        made = time.monotonic()
        hook = hook or hooks.call_hook()
        bpf.lift_memory_limit()
        sized = [evolve(kind, entries=ring_bytes) if kind.name == "ring" else kind for kind in found.maps]
        self._maps = {kind.name: Map.create(kind) for kind in sized}
        descriptors = [self._maps[kind.name].descriptor for kind in found.maps]
        code = {name: with_descriptors(one, descriptors) for name, one in found.functions.items()}

        for number, rule in X86_64.items():
            self._maps["rules"].update(_u32(number), rule.packed())
        called = bpf.load_program(hook.program_type, hook.value, code[hook.value])
        entered = bpf.load_program(bpf.TRACEPOINT, hooks.ENTER, code[hooks.ENTER])
        traced = {name: bpf.load_program(bpf.RAW_TRACEPOINT, name, code[name]) for name in hooks.RAW}
        tails = [
            self._tail_calls("call_programs", hooks.AFTER_CALL, hook.program_type, code),
            self._tail_calls("exec_programs", hooks.AFTER_EXEC, bpf.RAW_TRACEPOINT, code),
        ]
        self._network = [
            (role, kind, bpf.load_program(bpf.CGROUP_SOCK_ADDR, name, code[name], expected_attach=kind))
            for name, (role, kind) in hooks.network_functions().items()
        ]
        sockets = [program for _, _, program in self._network]
        self._programs = [called, entered, *traced.values(), *tails[0], *tails[1], *sockets]
        self._links = [bpf.open_raw_tracepoint(name, program) for name, program in traced.items()]
        self._links += [hook.attach(called), *hook.attach_enter(entered)]
        self.facts = BuildFacts(
            digest=found.digest,
            btf_digest=btf_digest(),
            call_hook=hook.told,
            build_seconds=made - begun,
            load_seconds=time.monotonic() - made,
        )

    def _tail_calls(
        self, array: str, names: tuple[str, ...], program_type: int, code: Mapping[str, bytes]
    ) -> list[int]:
        """Load them and put them in their array, which takes one type of program only."""
        programs = [bpf.load_program(program_type, name, code[name]) for name in names]
        for index, program in enumerate(programs):
            self._maps[array].update(_u32(index), _u32(program))
        return programs

    @property
    def ring_descriptor(self) -> int:
        """Descriptor of the ring buffer map, to be mapped by capture.ring."""
        return self._maps["ring"].descriptor

    def attach(self, run: Path, subject: Path, tools: Path) -> dict[Role, int]:
        """Point at the cgroups of an empty slice and hook its network; gives what `detach` takes."""
        for index in range(4):
            self._maps["started"].update(_u32(index), _u32(0))
        self._maps["members"].clear()
        for index, path in enumerate((run, subject, tools)):
            place = _opened(path)
            self._maps["slice"].update(_u32(index), _u32(place))
            os.close(place)  # the map holds the cgroup itself
        places = {Role.SUBJECT: _opened(subject), Role.TOOLS: _opened(tools)}
        for role, kind, program in self._network:
            bpf.attach_to_cgroup(program, places[role], kind)
        return places

    def detach(self, places: Mapping[Role, int]) -> None:
        """Take the network hooks off the slice and forget its processes."""
        for role, kind, program in self._network:
            bpf.detach_from_cgroup(program, places[role], kind)
        for descriptor in places.values():
            os.close(descriptor)
        self._maps["members"].clear()

    def counters(self) -> dict[Kind, KindCounters]:
        """All kernel counters since the load, summed over CPUs, by kind."""
        table, width = self._maps["counters"], LAYOUT.constants["COUNTS"]
        values = [
            sum(int.from_bytes(one, "little") for one in table.values(_u32(i)))
            for i in range(LAYOUT.constants["KINDS"] * width)
        ]
        return {
            kind: KindCounters(*values[number * width : number * width + 7])
            for number, kind in LAYOUT.kinds.items()
        }

    def recursion_misses(self) -> int:
        """Events that the kernel skipped because a program was already running on that CPU."""
        return sum(bpf.recursion_misses(program) for program in self._programs)

    def close(self) -> None:
        """Unload everything."""
        maps = [one.descriptor for one in self._maps.values()]
        for descriptor in (*self._links, *self._programs, *maps):
            os.close(descriptor)


def counters_between(
    before: Mapping[Kind, KindCounters], after: Mapping[Kind, KindCounters]
) -> dict[Kind, KindCounters]:
    """Counters of one window, by difference."""
    return {
        kind: KindCounters(*(b - a for a, b in zip(astuple(before[kind]), astuple(after[kind]), strict=True)))
        for kind in after
    }


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)
