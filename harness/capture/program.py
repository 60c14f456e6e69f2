"""The only module that knows bcc: compile bpf/capture.c, load and attach it, read its counters."""

import ctypes
import hashlib
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import astuple, frozen

from harness.capture.records import LAYOUT
from harness.capture.syscalls import X86_64
from harness.evidence.model import Kind, KindCounters
from harness.host.btf import VMLINUX, Btf, offset_definitions

BPF_FOLDER = Path(__file__).resolve().parents[2] / "bpf"
PAGE = 4096
MAX_DEPTH = 128  # path components; a deeper path is flagged as truncated
TRACEPOINTS = (
    b"sys_exit",
    b"sched_process_exec",
    b"sched_process_fork",
    b"sched_process_exit",
    b"cgroup_attach_task",
)
_TAIL_CALLS = (b"finish", b"second")  # by index of the `programs` map
_HOOKS = {  # function -> enum bpf_attach_type
    b"net_connect4": 10,
    b"net_connect6": 11,
    b"net_sendmsg4": 14,
    b"net_sendmsg6": 15,
    b"net_bind4": 8,
    b"net_bind6": 9,
}
_CGROUP_SOCK_ADDR = 18  # enum bpf_prog_type
_ALLOW_MULTI = 2  # BPF_F_ALLOW_MULTI
# include/uapi/linux/bpf.h: bpf(2) command and offsets in struct bpf_prog_info.
_SYS_BPF, _OBJ_GET_INFO_BY_FD = 321, 15
_RECURSION_MISSES_AT, _PROG_INFO_SIZE = 216, 232


@frozen
class BuildFacts:
    """How the program was made. `digest` covers all instructions, map descriptors zeroed."""

    digest: str
    btf_digest: str
    compile_seconds: float
    load_seconds: float


class Program:
    """The loaded BPF program; one per capture process. Needs CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN.

    Raw tracepoints vanish with this process; the cgroup hooks are legacy attachments and are taken
    off by `detach` or by the removal of the cgroup.
    """

    def __init__(self, ring_bytes: int) -> None:
        import bcc  # the system's package; the one of that name in the Python index is another thing

        defines = offset_definitions(Btf())
        defines |= {"RING_PAGES": ring_bytes // PAGE, "MAX_DEPTH": MAX_DEPTH}
        flags = [f"-I{BPF_FOLDER}", *(f"-D{name}={value}" for name, value in defines.items())]
        begun = time.monotonic()
        self._bpf: Any = bcc.BPF(src_file=str(BPF_FOLDER / "capture.c").encode(), cflags=flags)
        compiled = time.monotonic()
        if sorted(self._bpf.raw_tracepoint_fds) != sorted(TRACEPOINTS):
            raise RuntimeError(f"attached {sorted(self._bpf.raw_tracepoint_fds)}, wanted {TRACEPOINTS}")
        functions = [
            self._bpf.load_func(b"raw_tracepoint__" + n, bcc.BPF.RAW_TRACEPOINT) for n in TRACEPOINTS
        ]
        for index, name in enumerate(_TAIL_CALLS):
            function = self._bpf.load_func(name, bcc.BPF.RAW_TRACEPOINT)
            self._bpf[b"programs"][ctypes.c_int(index)] = ctypes.c_int(function.fd)
            functions.append(function)
        self._hooks = {
            kind: self._bpf.load_func(name, _CGROUP_SOCK_ADDR, None, kind) for name, kind in _HOOKS.items()
        }
        self._descriptors = [function.fd for function in (*functions, *self._hooks.values())]
        rules = self._bpf[b"rules"]
        for number, rule in X86_64.items():
            rules[ctypes.c_int(number)] = rules.Leaf.from_buffer_copy(rule.packed())
        self.facts = BuildFacts(
            digest=self._digest(),
            btf_digest="sha256:" + hashlib.sha256(VMLINUX.read_bytes()).hexdigest(),
            compile_seconds=compiled - begun,
            load_seconds=time.monotonic() - compiled,
        )

    def _digest(self) -> str:
        whole = hashlib.sha256()
        for name in sorted((*(b"raw_tracepoint__" + n for n in TRACEPOINTS), *_TAIL_CALLS, *_HOOKS)):
            whole.update(name + b"\0" + _without_descriptors(self._bpf.dump_func(name)))
        return "sha256:" + whole.hexdigest()

    @property
    def ring_descriptor(self) -> int:
        """Descriptor of the ring buffer map, to be mapped by capture.ring."""
        return int(self._bpf[b"ring"].map_fd)

    def attach(self, run: Path, subject: Path, tools: Path) -> int:
        """Point at the cgroups of an empty slice and hook its network; returns its descriptor."""
        slices, started = self._bpf[b"slice"], self._bpf[b"started"]
        for role in range(4):
            started[ctypes.c_int(role)] = ctypes.c_uint(0)
        self._bpf[b"members"].clear()
        for index, path in enumerate((run, subject, tools)):
            slices[index] = str(path)
        descriptor = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
        for kind, function in self._hooks.items():
            self._bpf.attach_func(function, descriptor, kind, _ALLOW_MULTI)
        return descriptor

    def detach(self, descriptor: int) -> None:
        """Take the network hooks off the slice and forget its processes."""
        for kind, function in self._hooks.items():
            self._bpf.detach_func(function, descriptor, kind)
        os.close(descriptor)
        self._bpf[b"members"].clear()

    def counters(self) -> dict[Kind, KindCounters]:
        """All kernel counters since the load, summed over CPUs, by kind."""
        table = self._bpf[b"counters"]
        values = [
            sum(table[ctypes.c_int(i)]) for i in range(LAYOUT.constants["KINDS"] * LAYOUT.constants["COUNTS"])
        ]
        width = LAYOUT.constants["COUNTS"]
        return {
            kind: KindCounters(*values[number * width : number * width + 7])
            for number, kind in LAYOUT.kinds.items()
        }

    def recursion_misses(self) -> int:
        """Events that the kernel skipped because a program was already running on that CPU."""
        return sum(_recursion_misses(descriptor) for descriptor in self._descriptors)

    def close(self) -> None:
        """Unload everything."""
        self._bpf.cleanup()


def counters_between(
    before: Mapping[Kind, KindCounters], after: Mapping[Kind, KindCounters]
) -> dict[Kind, KindCounters]:
    """Counters of one window, by difference."""
    return {
        kind: KindCounters(*(b - a for a, b in zip(astuple(before[kind]), astuple(after[kind]), strict=True)))
        for kind in after
    }


def _recursion_misses(descriptor: int) -> int:
    info = ctypes.create_string_buffer(_PROG_INFO_SIZE)
    attribute = ctypes.create_string_buffer(
        struct.pack("=IIQ", descriptor, _PROG_INFO_SIZE, ctypes.addressof(info)), 16
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_SYS_BPF, _OBJ_GET_INFO_BY_FD, attribute, 16):
        raise OSError(ctypes.get_errno(), "bpf(BPF_OBJ_GET_INFO_BY_FD)")
    return int(struct.unpack_from("=Q", info, _RECURSION_MISSES_AT)[0])


def _without_descriptors(instructions: bytes) -> bytes:
    """Zero what differs between loads: immediates of map loads (BPF_LD_IMM64 with a pseudo source)."""
    out, at = bytearray(instructions), 0
    while at < len(out):
        wide = out[at] == 0x18
        if wide and (out[at + 1] >> 4) in (1, 5):
            out[at + 4 : at + 8] = out[at + 12 : at + 16] = bytes(4)
        at += 16 if wide else 8
    return bytes(out)
