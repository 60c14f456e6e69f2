"""What bpf/capture.c compiles to, kept between starts: compiling takes far longer than all the rest.

The only module that knows bcc. What is kept is named by a digest of all that it follows from (source,
kernel types, compiler, headers), and used only if its own digest is the one that it was kept under.
"""

import base64
import ctypes
import functools
import hashlib
import importlib.util
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, astuple, evolve, frozen

from harness.capture.bpf import MapKind, map_kind
from harness.host import btf

BPF_FOLDER = Path(__file__).resolve().parents[2] / "bpf"
MAX_DEPTH = 128  # path components; a deeper path is flagged as truncated
_FORMAT = 1
_MOST = 8  # kept ones beside a new one: of other kernels and versions
_PROGRAMS = (Path(__file__), Path(btf.__file__))
_LD_IMM64, _CALL, _PSEUDO_MAP, _PSEUDO_CALL = 0x18, 0x85, 1, 1


@frozen
class Built:
    """Maps in a fixed order, and the instructions of each function; they name maps by their index."""

    maps: tuple[MapKind, ...]
    functions: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """Over all instructions and what the maps are made from, as archives tell it."""
        whole = hashlib.sha256(json.dumps([astuple(kind) for kind in self.maps]).encode())
        for name, instructions in sorted(self.functions.items()):
            whole.update(name.encode() + b"\0" + instructions)
        return "sha256:" + whole.hexdigest()


@functools.cache
def btf_digest() -> str:
    """Of the running kernel's types."""
    return "sha256:" + hashlib.sha256(btf.VMLINUX.read_bytes()).hexdigest()


def built(maps: tuple[str, ...], functions: tuple[str, ...], kept_in: Path | None) -> Built:
    """The program with these maps and functions: kept in the folder `kept_in`, or compiled and then kept.

    RuntimeError and whatever bcc raises if it does not compile; EnvironmentUnfitError if this kernel's
    types do not fit.
    """
    if kept_in is None:
        return _compile(maps, functions)
    place = kept_in / f"{_key(maps, functions)}.json"
    found = _read(place)
    if found is None:
        found = _compile(maps, functions)
        _keep(found, place)
    return found


def _key(maps: tuple[str, ...], functions: tuple[str, ...]) -> str:
    """Digest of everything that the compiled program follows from."""
    bcc = importlib.util.find_spec("bcc")
    version = Path(bcc.origin).with_name("version.py").read_bytes() if bcc and bcc.origin else b""
    headers = os.environ.get("BCC_KERNEL_SOURCE", "")
    parts = [
        str((_FORMAT, MAX_DEPTH, maps, functions, os.uname().release, os.uname().machine, headers)).encode(),
        btf_digest().encode(),
        version,
        *(path.read_bytes() for path in (*sorted(BPF_FOLDER.glob("*.[ch]")), *_PROGRAMS)),
        *_read_if_there(Path(headers, "include/generated/autoconf.h") if headers else None),
    ]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _read_if_there(path: Path | None) -> list[bytes]:
    return [path.read_bytes()] if path is not None and path.is_file() else []


def _compile(maps: tuple[str, ...], functions: tuple[str, ...]) -> Built:
    import bcc  # the system's package; the one of that name in the Python index is another thing

    defines = btf.offset_definitions(btf.Btf()) | {"RING_PAGES": 1, "MAX_DEPTH": MAX_DEPTH}
    flags = [f"-I{BPF_FOLDER}", *(f"-D{name}={value}" for name, value in defines.items())]
    compiled: Any = bcc.BPF(src_file=str(BPF_FOLDER / "capture.c").encode(), cflags=flags)
    try:
        # with types of its own, because bcc cannot decode all of ours; only the descriptor is wanted
        tables = [compiled.get_table(name.encode(), ctypes.c_uint, ctypes.c_uint) for name in maps]
        descriptors = {int(table.map_fd): at for at, table in enumerate(tables)}
        # by its name in the source: the kernel's copy of it is cut
        kinds = tuple(evolve(map_kind(fd), name=name) for fd, name in zip(descriptors, maps, strict=True))
        code = {name: _by_index(compiled.dump_func(name.encode()), descriptors) for name in functions}
    finally:
        compiled.cleanup()
    return Built(kinds, code)


def _by_index(instructions: bytes, index: Mapping[int, int]) -> bytes:
    """Put a map's index where bcc has put its descriptor (BPF_LD_IMM64 with BPF_PSEUDO_MAP_FD)."""
    return _replaced(instructions, index)


def with_descriptors(instructions: bytes, descriptors: list[int]) -> bytes:
    """The other way round, for maps that were made anew."""
    return _replaced(instructions, dict(enumerate(descriptors)))


def _replaced(instructions: bytes, new: Mapping[int, int]) -> bytes:
    out, at = bytearray(instructions), 0
    while at < len(out):
        code, source = out[at], out[at + 1] >> 4
        if code == _LD_IMM64 and source:
            if source != _PSEUDO_MAP:
                raise RuntimeError(f"a load of kind {source} at {at // 8}: only maps are known here")
            struct.pack_into("=i", out, at + 4, new[struct.unpack_from("=i", out, at + 4)[0]])
        if code == _CALL and source == _PSEUDO_CALL:
            raise RuntimeError(f"a call of another function at {at // 8}: it was to be inlined")
        at += 16 if code == _LD_IMM64 else 8
    return bytes(out)


def _keep(found: Built, place: Path) -> None:
    """As one file with its digest; a disk that takes nothing costs the next start a compilation."""
    whole = {
        "maps": [asdict(kind) for kind in found.maps],
        "functions": {name: base64.b64encode(code).decode() for name, code in found.functions.items()},
    }
    text = json.dumps(whole, sort_keys=True)
    part = place.with_suffix(f".{os.getpid()}.part")
    try:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        for old in sorted(place.parent.iterdir(), key=lambda path: path.stat().st_mtime)[:-_MOST]:
            old.unlink(missing_ok=True)
        part.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}", encoding="ascii")
        part.replace(place)
    except OSError:
        pass


def _read(place: Path) -> Built | None:
    """None for what is not there, and for what is not as it was kept."""
    try:
        digest, _, text = place.read_text(encoding="ascii").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        return None
    whole = json.loads(text)
    return Built(
        tuple(MapKind(**kind) for kind in whole["maps"]),
        {name: base64.b64decode(code) for name, code in whole["functions"].items()},
    )
