"""Kernel struct offsets from BTF: pure Python, no bpftool, no headers.

Headers on a host often belong to another kernel, and a program built with their offsets loads and
reads garbage. So every offset comes from /sys/kernel/btf/vmlinux (format: the kernel's
Documentation/bpf/btf.rst) and reaches the compiler as a -D option.
"""

import struct
from pathlib import Path

from harness.errors import EnvironmentUnfitError

VMLINUX = Path("/sys/kernel/btf/vmlinux")

# (struct, member path): what bpf/capture.c reads.
MEMBERS = (
    ("task_struct", "files"),
    ("task_struct", "fs"),
    ("task_struct", "mm"),
    ("task_struct", "tgid"),
    ("task_struct", "thread_pid"),
    ("task_struct", "group_leader"),
    ("task_struct", "signal"),
    ("task_struct", "exit_code"),
    ("task_struct", "thread_info.status"),
    ("signal_struct", "live.counter"),
    ("files_struct", "fdt"),
    ("fdtable", "fd"),
    ("fdtable", "max_fds"),
    ("file", "f_path"),
    ("file", "f_inode"),
    ("file", "f_flags"),
    ("file", "f_mode"),
    ("file", "private_data"),
    ("socket", "sk"),
    ("sock", "__sk_common.skc_family"),
    ("unix_sock", "addr"),
    ("unix_sock", "path"),
    ("unix_sock", "peer"),
    ("unix_address", "len"),
    ("unix_address", "name"),
    ("fs_struct", "root"),
    ("fs_struct", "pwd"),
    ("dentry", "d_parent"),
    ("dentry", "d_hash.pprev"),
    ("mount", "mnt"),
    ("mount", "mnt_parent"),
    ("mount", "mnt_mountpoint"),
    ("vfsmount", "mnt_root"),
    ("inode", "i_mode"),
    ("linux_binprm", "file"),
    ("linux_binprm", "filename"),
    ("mm_struct", "arg_start"),
    ("mm_struct", "arg_end"),
    ("pid", "level"),
    ("pid", "numbers"),
    ("upid", "nr"),
    ("pt_regs", "ax"),
    ("pt_regs", "orig_ax"),
    ("pt_regs", "di"),
    ("pt_regs", "si"),
    ("pt_regs", "dx"),
    ("pt_regs", "r10"),
    ("pt_regs", "r8"),
    ("pt_regs", "r9"),
)

_STRUCT, _UNION = 4, 5
_SKIPPED = frozenset({8, 9, 10, 11, 18})  # typedef, volatile, const, restrict, type_tag
# Bytes after the 12-byte type header: fixed part and part per vlen.
_EXTRA = {1: (4, 0), 3: (12, 0), 14: (4, 0), 17: (4, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8)}
_EXTRA |= {13: (0, 8), 15: (0, 12), 19: (0, 12)}


class Btf:
    """Types of one BTF blob. Raises EnvironmentUnfitError if it cannot be read."""

    def __init__(self, path: Path = VMLINUX) -> None:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise EnvironmentUnfitError(
                f"no kernel BTF: {error.strerror}",
                place=str(path),
                hint="boot a kernel built with CONFIG_DEBUG_INFO_BTF=y",
            ) from None
        magic, _, _, header, type_off, type_len, str_off, str_len = struct.unpack_from("<HBBIIIII", data, 0)
        if magic != 0xEB9F:
            raise EnvironmentUnfitError("not BTF", place=str(path), hint="is this the running kernel's file?")
        self._data = data
        self._strings = data[header + str_off : header + str_off + str_len]
        self._types: list[tuple[int, int, int, int, int]] = [(0, 0, 0, 0, 0)]  # kind, vlen, flag, size, at
        self._structs: dict[str, int] = {}
        at, end = header + type_off, header + type_off + type_len
        while at < end:
            name, info, size = struct.unpack_from("<III", data, at)
            kind, vlen = (info >> 24) & 31, info & 0xFFFF
            at += 12
            if kind == _STRUCT and name:
                self._structs.setdefault(self._name(name), len(self._types))
            self._types.append((kind, vlen, info >> 31, size, at))
            fixed, each = _EXTRA.get(kind, (0, 0))
            at += fixed + each * vlen

    def _name(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _strip(self, type_id: int) -> int:
        while self._types[type_id][0] in _SKIPPED:
            type_id = self._types[type_id][3]
        return type_id

    def _member(self, type_id: int, wanted: str) -> tuple[int, int] | None:
        _, vlen, bitfields, _, at = self._types[type_id]
        for i in range(vlen):
            name, member_type, bits = struct.unpack_from("<III", self._data, at + 12 * i)
            offset = (bits & 0xFFFFFF if bitfields else bits) // 8
            inner = self._strip(member_type)
            if name and self._name(name) == wanted:
                return offset, inner
            if not name and self._types[inner][0] in (_STRUCT, _UNION):
                found = self._member(inner, wanted)
                if found:
                    return offset + found[0], found[1]
        return None

    def offset(self, struct_name: str, path: str) -> int:
        """Byte offset of a dotted member path; EnvironmentUnfitError if this kernel has none."""
        type_id = self._structs.get(struct_name, 0)
        total = 0
        for part in path.split("."):
            found = self._member(type_id, part) if type_id else None
            if found is None:
                raise EnvironmentUnfitError(
                    f"this kernel has no {struct_name}.{path}",
                    place=str(VMLINUX),
                    hint="the kernel is older or newer than capture.c knows; see docs/limits.md",
                )
            total, type_id = total + found[0], found[1]
        return total

    def size(self, struct_name: str) -> int:
        """Size of a struct in bytes."""
        return self._types[self._structs[struct_name]][3]


def offset_definitions(btf: Btf) -> dict[str, int]:
    """The -D names and values that bpf/capture.c is compiled with."""
    defines = {f"OFF_{name}__{path.replace('.', '_')}": btf.offset(name, path) for name, path in MEMBERS}
    defines["SIZE_upid"] = btf.size("upid")
    parent, length, name = (btf.offset("dentry", m) for m in ("d_parent", "d_name.hash_len", "d_name.name"))
    if (length - parent, name - parent) != (8, 16):
        raise EnvironmentUnfitError(
            "struct dentry is laid out differently here",
            place=str(VMLINUX),
            hint="capture.c reads d_parent, d_name.hash_len and d_name.name as one block",
        )
    if (btf.offset("path", "mnt"), btf.offset("path", "dentry")) != (0, 8):
        raise EnvironmentUnfitError(
            "struct path is laid out differently here",
            place=str(VMLINUX),
            hint="capture.c reads mnt and dentry side by side",
        )
    return defines
