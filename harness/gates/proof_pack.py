"""Makes the proof pack of a gate session from the folder that the gates wrote (contracts §7.4)."""

import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.bundle.proof_files import tar_of
from harness.bundle.proof_gates import selected_of, summary_of
from harness.bundle.proof_pack import NoSourceError, make_pack
from harness.bundle.reader import read_archive
from harness.bundle.whole_file import write_whole
from harness.contracts.proof_pack import DECISION_LOG, GATE_LOG, GATE_SOURCE, GATES, SUMMARY
from harness.errors import AssayError, EnvironmentUnfitError, InputError
from harness.gates.catalog import all_gates, gate_name

_RERUN = "run the gates again in one session, from a committed tree"


def pack_gates(folder: Path, names: tuple[str, ...] = (), *, everything: bool = False) -> dict[str, bytes]:
    """Path in the pack -> bytes, the same for the same folder.

    names       gates to tell of, missing ones too; default: those of the session's summary
    everything  every gate of the catalog, "all"

    InputError when the folder is none of a gate session, or its gates ran from different states.
    """
    if not (folder / "summary.json").is_file():
        raise InputError(
            "no gate session: summary.json is missing",
            place=str(folder),
            hint="assay-runner gate --all -o " + str(folder),
        )
    payload = {SUMMARY: (folder / "summary.json").read_bytes()}
    summary = summary_of(payload)
    if summary is None:
        raise InputError("is no gate summary", place=str(folder / "summary.json"), hint=_RERUN)
    if everything:
        names = tuple(gate_name(fixture) for fixture in all_gates())
    names = names or tuple(gate.gate for gate in summary.gates)
    for name in names:
        if "," in name or "/" in name or name in ("", ".", ".."):
            raise InputError(f"{name!r} is no gate's name", place="proof-pack", hint="see summary.json")
        payload |= _of_gate(folder / name, f"{GATES}{name}/")
    try:
        return make_pack(payload, names, everything=everything)
    except NoSourceError as error:
        raise InputError(str(error), place=str(folder), hint=_RERUN) from None


def write_pack(files: Mapping[str, bytes], output: Path) -> None:
    """A folder, or one file if `output` ends with .tar; whole or not at all.

    InputError when there is something of that name already, or no folder to put it into.
    """
    if output.is_symlink() or output.exists():
        raise InputError("is there already", place=str(output), hint="remove it, or name another place")
    if not output.parent.is_dir():
        raise InputError("no such folder", place=str(output.parent), hint="make it first")
    if output.suffix == ".tar":
        write_whole(output, tar_of(files), "proof pack")
        return
    aside = output.parent / f".{output.name}.{secrets.token_hex(8)}.partial"
    try:
        for name, data in files.items():
            place = aside / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        aside.rename(output)
    except OSError as error:
        text = f"the proof pack could not be written: {error.strerror or error}"
        raise EnvironmentUnfitError(text, place=str(output), hint="look at that disk") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _of_gate(folder: Path, base: str) -> dict[str, bytes]:
    return {base + name: data for name, data in _files(folder)}


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Only what a gate is known to write; the folder is ours, but it may hold other things too."""
    for name in (GATE_LOG, GATE_SOURCE):
        if (folder / name).is_file():
            yield name, (folder / name).read_bytes()
    for run in sorted(folder.glob("run-*")):
        archive = run / f"runner-{folder.name}.tar.gz"
        for path in (archive, run / DECISION_LOG):
            if path.is_file():
                yield f"{run.name}/{path.name}", path.read_bytes()
        if archive.is_file():
            for name, data in _selected(archive).items():
                yield f"{run.name}/{name}", data


def _selected(archive: Path) -> dict[str, bytes]:
    try:
        return selected_of(read_archive(archive))
    except AssayError:
        return {}  # the archive is packed as it is, and its gate is not passed because of it
