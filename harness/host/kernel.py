"""What the running kernel is and offers: release, type information (BTF), headers, ring buffer.

Struct offsets come from BTF, never from headers; headers are only what bcc's compiler includes.
"""

import ctypes
import functools
import hashlib
import os
import platform
from pathlib import Path

from attrs import frozen

BTF = Path("/sys/kernel/btf/vmlinux")
TRACEFS = Path("/sys/kernel/tracing")
LOCKDOWN = Path("/sys/kernel/security/lockdown")
HEADERS_VARIABLE = "BCC_KERNEL_SOURCE"

# bpf(2): command BPF_MAP_CREATE, map type BPF_MAP_TYPE_RINGBUF; syscall numbers by architecture
_BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}
_BPF_MAP_CREATE = 0
_BPF_MAP_TYPE_RINGBUF = 27


@frozen
class KernelFacts:
    """Facts that belong into an archive: they say which kernel the evidence is about."""

    release: str
    machine: str
    btf_sha256: str  # empty when the kernel carries no BTF


def facts() -> KernelFacts:
    """The running kernel's facts; the digest is computed once in a process."""
    name = os.uname()
    return KernelFacts(name.release, name.machine, btf_sha256())


@functools.cache
def btf_sha256() -> str:
    """sha256 of /sys/kernel/btf/vmlinux as hex, empty when it cannot be read."""
    try:
        with BTF.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def headers() -> Path | None:
    """The header tree for bcc: $BCC_KERNEL_SOURCE, else the running kernel's own; None if neither."""
    named = os.environ.get(HEADERS_VARIABLE)
    candidates = [Path(named)] if named else [Path(f"/lib/modules/{platform.release()}/build")]
    return next((c for c in candidates if (c / "include" / "generated" / "autoconf.h").exists()), None)


def lockdown() -> str:
    """Lockdown mode: none, integrity or confidentiality (the last forbids BPF reads of kernel memory)."""
    try:
        text = LOCKDOWN.read_text(encoding="ascii")
    except OSError:
        return "none"
    return text.partition("[")[2].partition("]")[0] or "none"


def ring_buffer() -> str:
    """Empty when a BPF ring buffer can be made (the feature itself is tried), else the reason."""
    number = _BPF_SYSCALL.get(platform.machine())
    if number is None:
        return f"the number of bpf(2) on {platform.machine()} is not known"
    # union bpf_attr for BPF_MAP_CREATE: map_type, key_size, value_size, max_entries, then zeros
    attr = (ctypes.c_uint32 * 32)(_BPF_MAP_TYPE_RINGBUF, 0, 0, os.sysconf("SC_PAGESIZE"))
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(number, _BPF_MAP_CREATE, ctypes.byref(attr), ctypes.sizeof(attr))
    if descriptor < 0:
        return os.strerror(ctypes.get_errno())
    os.close(descriptor)
    return ""
