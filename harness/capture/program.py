"""The loaded kernel program: its maps and hooks, pointed at one slice after another."""

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from attrs import astuple, evolve, frozen

from harness.capture import bpf
from harness.capture.bpf import Map
from harness.capture.built import btf_digest, built, with_descriptors
from harness.capture.records import LAYOUT
from harness.capture.syscalls import X86_64
from harness.evidence.model import Kind, KindCounters

TRACEPOINTS = (
    "sys_exit",
    "sched_process_exec",
    "sched_process_fork",
    "sched_process_exit",
    "cgroup_attach_task",
)
_MAPS = ("scratches", "counters", "rules", "slice", "started", "members", "ring", "programs")
_TAIL_CALLS = ("finish", "second")  # by index of the `programs` map
_HOOKS = {  # function -> enum bpf_attach_type
    "net_connect4": 10,
    "net_connect6": 11,
    "net_sendmsg4": 14,
    "net_sendmsg6": 15,
    "net_bind4": 8,
    "net_bind6": 9,
}
_RAW_TRACEPOINT, _CGROUP_SOCK_ADDR = 17, 18  # enum bpf_prog_type


@frozen
class BuildFacts:
    """How the program was made. `digest` covers all instructions and maps, but for the ring's size."""

    digest: str
    btf_digest: str
    build_seconds: float
    load_seconds: float


class Program:
    """The loaded BPF program; one per capture process. Needs CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN.

    All of it vanishes with this process, but for the cgroup hooks: these are legacy attachments and are
    taken off by `detach` or by the removal of the cgroup. `kept_in`: see harness.capture.built.
    """

    def __init__(self, ring_bytes: int, kept_in: Path | None = None) -> None:
        begun = time.monotonic()
        found = built(_MAPS, (*TRACEPOINTS, *_TAIL_CALLS, *_HOOKS), kept_in)
        made = time.monotonic()
        bpf.lift_memory_limit()
        sized = [evolve(kind, entries=ring_bytes) if kind.name == "ring" else kind for kind in found.maps]
        self._maps = {kind.name: Map.create(kind) for kind in sized}
        descriptors = [self._maps[kind.name].descriptor for kind in found.maps]
        code = {name: with_descriptors(one, descriptors) for name, one in found.functions.items()}

        for number, rule in X86_64.items():
            self._maps["rules"].update(_u32(number), rule.packed())
        traced = {name: bpf.load_program(_RAW_TRACEPOINT, name, code[name]) for name in TRACEPOINTS}
        walks = [bpf.load_program(_RAW_TRACEPOINT, name, code[name]) for name in _TAIL_CALLS]
        for index, descriptor in enumerate(walks):
            self._maps["programs"].update(_u32(index), _u32(descriptor))
        self._hooks = {
            kind: bpf.load_program(_CGROUP_SOCK_ADDR, name, code[name], expected_attach=kind)
            for name, kind in _HOOKS.items()
        }
        self._programs = [*traced.values(), *walks, *self._hooks.values()]
        self._links = [bpf.open_raw_tracepoint(name, program) for name, program in traced.items()]
        self.facts = BuildFacts(
            digest=found.digest,
            btf_digest=btf_digest(),
            build_seconds=made - begun,
            load_seconds=time.monotonic() - made,
        )

    @property
    def ring_descriptor(self) -> int:
        """Descriptor of the ring buffer map, to be mapped by capture.ring."""
        return self._maps["ring"].descriptor

    def attach(self, run: Path, subject: Path, tools: Path) -> int:
        """Point at the cgroups of an empty slice and hook its network; returns its descriptor."""
        for role in range(4):
            self._maps["started"].update(_u32(role), _u32(0))
        self._maps["members"].clear()
        for index, path in enumerate((run, subject, tools)):
            place = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._maps["slice"].update(_u32(index), _u32(place))
            os.close(place)  # the map holds the cgroup itself
        descriptor = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for kind, program in self._hooks.items():
            bpf.attach_to_cgroup(program, descriptor, kind)
        return descriptor

    def detach(self, descriptor: int) -> None:
        """Take the network hooks off the slice and forget its processes."""
        for kind, program in self._hooks.items():
            bpf.detach_from_cgroup(program, descriptor, kind)
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


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)
