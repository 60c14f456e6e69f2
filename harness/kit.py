"""Packs a replay kit: a measured archive, and everything that measuring it again needs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.bundle.kit_contents import expected_digests, replayable
from harness.bundle.kit_writer import Part, Sign, described, write_kit
from harness.bundle.layer_tar import check_layer_tar
from harness.bundle.writer import build_archive
from harness.contracts.companion import RUNSPEC, RunSpecDocV1
from harness.contracts.replay_kit import ARCHIVE, IMAGE_CONFIG, POLICY, ReplayKit, input_file, layer_file
from harness.engine.saved_images import save_image
from harness.errors import InputError
from harness.host.state import State
from harness.replay import planned
from harness.work_folder import WorkFolder, survey


def pack(
    client: Any,
    archive: Path,
    output: Path,
    *,
    scratch: Path,
    inputs: Path | None,
    policy: Path | None,
    sign: Sign | None = None,
    state: State | None = None,
) -> str:
    """Write the kit of `archive` to `output`; gives the digest of its kit.json.

    `inputs` and `policy` are what the run was given, `scratch` is an empty folder, `state` remembers what
    engines call an image. Errors as `replayable` for the archive; InputError if the others are not what the
    archive says, or if the engine behind `client` has not its image.
    """
    found = replayable(archive)
    place, runspec = str(archive), found.runspec
    _check_inputs(runspec, inputs, place)
    image = save_image(client, runspec.image_id, scratch, tag=runspec.image, state=state)
    for digest, path in image.files.items():
        check_layer_tar(path, f"layer {digest} of {runspec.image}")
    layers = [path for _, path in image.layers]
    planned(found, inputs=inputs, policy=policy, config=image.config, layers=layers)
    parts: dict[str, Part] = {
        ARCHIVE: build_archive(found.archive.members),
        IMAGE_CONFIG: image.config,
        **{layer_file(digest): path for digest, path in image.files.items()},
    }
    if inputs is not None:
        parts |= {input_file(digest): inputs / name for name, digest in runspec.inputs.items()}
    if policy is not None:
        parts[POLICY] = policy
    kit = ReplayKit(
        run_id=found.archive.run_id,
        archive_identity=found.archive.identity,
        image=runspec.image,
        image_id=image.id,
        layers=tuple(digest for digest, _ in image.layers),
        inputs=dict(sorted(runspec.inputs.items())),
        folders=runspec.input_folders or (),
        programs=runspec.input_programs,
        links=runspec.input_links,
        expected=expected_digests(found.archive),
        files=described(parts, {layer_file(digest): digest for digest, _ in image.layers}),
    )
    return write_kit(output, kit, parts, sign)


def _check_inputs(runspec: RunSpecDocV1, inputs: Path | None, place: str) -> None:
    """The plan is compared with the archive as a whole; here a person is told which file it is."""
    work = survey(inputs) if inputs is not None else WorkFolder()
    there = _described(work.files, work.programs, work.links)
    were = _described(runspec.inputs, runspec.input_programs or (), runspec.input_links or {})
    differing = [name for name in sorted(there.keys() | were.keys()) if there.get(name) != were.get(name)]
    if differing:
        raise InputError(
            f"the run was given another {differing[0]!r} than there is in {inputs}",
            place=f"{place}: {RUNSPEC} at /inputs",
            hint="name the folder that the run was given with --work, or measure again",
        )


def _described(
    files: Mapping[str, str], programs: Iterable[str], links: Mapping[str, str]
) -> dict[str, tuple[str, bool]]:
    can_run = set(programs)
    described = {name: (digest, name in can_run) for name, digest in files.items()}
    return described | {name: (target, False) for name, target in links.items()}
