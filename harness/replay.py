"""Does a measured run again from its kit, and compares bytes; the run itself is `harness.run.measure`."""

import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import evolve, frozen

from harness.bench import Bench
from harness.bundle.kit_contents import KitContents, check_contents
from harness.bundle.kit_reader import SealedKit, sealed_kit
from harness.bundle.reader import Archive
from harness.compare.pointer import first_divergence
from harness.contracts.canonical import to_bytes
from harness.contracts.companion import RUNSPEC, RunSpecDocV1
from harness.contracts.compared import compared
from harness.contracts.converter import unstructure
from harness.contracts.replay_kit import (
    IMAGE_CONFIG,
    POLICY,
    ReplayDifference,
    ReplayKit,
    input_file,
    layer_file,
)
from harness.engine.borrowed_images import borrowed_image
from harness.engine.file_list import image_files
from harness.engine.image_archive import SavedImage
from harness.engine.layer_files import contents_of
from harness.errors import AssayError, EnvironmentUnfitError, InputError, VerificationError
from harness.evidence.assemble import runspec_document
from harness.evidence.image import RunImage, search_of
from harness.plan import Plan
from harness.policy.check import check_policy
from harness.run import Measured, measure
from harness.spec import NETWORKS, VOLATILE, WITNESSES, RunSpec, SubjectSpec, ToolsSpec

Admit = Callable[[SealedKit], str | None]


@frozen
class ReadyKit:
    """A kit of which everything was checked, in a folder of ours; `archive.place` is its file there.

    signed_by  what `admit` gave
    """

    kit: ReplayKit
    archive: Archive
    image: SavedImage
    plan: Plan
    signed_by: str | None


def open_kit(path: Path, scratch: Path, admit: Admit) -> ReadyKit:
    """Check all of a kit; nothing in it has been loaded or run then. `scratch` is an empty folder.

    `admit` sees kit.json and its signature before anything else of the kit is looked at, and raises if it
    may not go on; it tells who signed the kit. VerificationError for a kit that does not hold, InputError
    for one that cannot be run here.
    """
    with sealed_kit(path) as sealed:
        signed_by = admit(sealed)
        unpacked = scratch / "kit"
        unpacked.mkdir()
        try:
            files = sealed.unpack(unpacked)
        except OSError as error:
            raise EnvironmentUnfitError(
                f"cannot be unpacked into {scratch.parent}: {error.strerror}",
                place=str(path),
                hint="a replay needs twice the kit's size there",
            ) from None
    kit = sealed.kit
    layers = [(digest, files[layer_file(digest)]) for digest in kit.layers]
    try:
        found = check_contents(kit, files, str(path))
        plan = planned(
            found,
            inputs=_laid_out(kit, files, scratch / "inputs"),
            policy=files.get(POLICY),
            config=files[IMAGE_CONFIG].read_bytes(),
            layers=[layer for _, layer in layers],
        )
    except AssayError as error:
        for name, copy in files.items():
            error.place = error.place.replace(str(copy), f"{path}: {name}")
        raise
    image = SavedImage(files[IMAGE_CONFIG].read_bytes(), tuple(layers))
    return ReadyKit(kit, found.archive, image, plan, signed_by)


def replay(bench: Bench, ready: ReadyKit) -> Measured:
    """Load the image, if the engine does not have it, and measure the run. Errors as `measure`."""
    with borrowed_image(bench.client, bench.state, ready.image) as handle:
        return measure(bench, evolve(ready.plan, image=evolve(ready.plan.image, handle=handle)))


def differences(expected: Archive, replayed: Archive) -> tuple[ReplayDifference, ...]:
    """The compared members whose bytes differ, each with the first place."""
    names = compared(expected.members, replayed.members)
    found = (first_divergence(expected.members[name], replayed.members[name], name) for name in names)
    return tuple(
        ReplayDifference(member=one.member, place=one.place, expected=one.left, replayed=one.right)
        for one in found
        if one is not None
    )


def planned(
    found: KitContents, *, inputs: Path | None, policy: Path | None, config: bytes, layers: Sequence[Path]
) -> Plan:
    """The archive's run as a plan; its own runspec.json would have the same bytes as the archive's.

    `config` and `layers` are the image's, lowest first. InputError where this version of the program would
    run it otherwise, VerificationError if the image has other files than the archive says.
    """
    runspec, place = found.runspec, f"{found.archive.place}: {RUNSPEC}"
    _check_declarations(runspec, place)
    if policy is not None:
        check_policy(policy)
    plan = Plan(
        spec=RunSpec(runspec.command, runspec.run_id, agent_shim=runspec.agent_shim, env=dict(runspec.env)),
        name=runspec.fixture,
        image=RunImage(runspec.image, runspec.image_id, runspec.runtime_roots, runspec.image_locked),
        subject=SubjectSpec(command=runspec.command, deadline_s=runspec.deadline_s),
        witnesses=runspec.witnesses,
        network=runspec.network,
        volatile=runspec.volatile,
        inputs=inputs,
        tools=_tools(runspec),
        policy=policy,
    )
    plan.spec.validate()
    if runspec.image_files_sha256 is not None:
        contents = contents_of(layers)
        files = image_files(contents.lines, contents.scripts)
        if files.sha256 != runspec.image_files_sha256:
            raise VerificationError(
                "FileListDigestMismatch",
                f"the image's file list is {files.sha256}, the archive says {runspec.image_files_sha256}",
                place=f"{place} at /image_files_sha256",
                hint="the archive is of another image, or another version of assay-runner made it",
            )
        env = (json.loads(config).get("config") or {}).get("Env") or ()
        plan = evolve(plan, image=evolve(plan.image, files=files, search=search_of(env)))
    data = to_bytes(unstructure(runspec_document(plan.context())))
    differing = first_divergence(found.archive.members[RUNSPEC], data, RUNSPEC)
    if differing is not None:
        raise InputError(
            f"the run had {differing.left}, and would now have {differing.right}",
            place=f"{place} at {differing.place}",
            hint="give what the run was given; if that is so, replay it with the version that measured it",
        )
    return plan


def _tools(runspec: RunSpecDocV1) -> ToolsSpec | None:
    if runspec.tools_server is None:
        return None
    return ToolsSpec(
        server=runspec.tools_server,
        workspace=runspec.workspace,
        legacy=bool(runspec.tools_legacy),
        env=dict(runspec.tools_env or {}),
    )


def _check_declarations(runspec: RunSpecDocV1, place: str) -> None:
    """What a fixture's declarations must hold (harness.spec), of an archive that a stranger may have made."""
    tools = runspec.tools_server is not None
    wrong = {
        "/deadline_s": not (math.isfinite(runspec.deadline_s) and runspec.deadline_s > 0),
        "/witnesses": not set(runspec.witnesses) <= set(WITNESSES),
        "/network": runspec.network not in NETWORKS,
        "/workspace": runspec.workspace not in (("ro", "rw") if tools else ("none",)),
        "/tools_server": tools and not runspec.tools_server,
        "/policy_sha256": tools != (runspec.policy_sha256 is not None),
        "/volatile": not all(re.search(VOLATILE, glob) for glob in runspec.volatile),
        "/runtime_roots": not all(root.startswith("/") for root in runspec.runtime_roots),
    }
    for pointer, is_wrong in wrong.items():
        if is_wrong:
            raise InputError(
                "is not what a run may declare", place=f"{place} at {pointer}", hint="do not run this kit"
            )


def _laid_out(kit: ReplayKit, files: dict[str, Path], folder: Path) -> Path | None:
    """The inputs at their places; kit_reader has seen that none of them leads out of the folder."""
    if not kit.inputs and not kit.folders and not kit.links:
        return None
    for name in kit.folders:
        (folder / name).mkdir(parents=True)
    for name, digest in kit.inputs.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in (kit.programs or ()):
            shutil.copyfile(files[input_file(digest)], path)  # another input may have the same bytes
            path.chmod(0o755)
        else:
            path.hardlink_to(files[input_file(digest)])
    for name, target in (kit.links or {}).items():  # last, so that nothing is written through them
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    return folder
