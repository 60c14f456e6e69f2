"""What `kit` and `replay` do; the command line imports this only when one of them is called."""

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from harness.bench import Bench
from harness.bundle.kit_contents import replayable
from harness.bundle.kit_reader import SealedKit
from harness.bundle.kit_signature import check_signature, signature_of
from harness.bundle.reader import read_archive
from harness.bundle.signing import Signer, load_public_key, load_signer
from harness.commands import output_file
from harness.compare.tree import load_run, surface_difference
from harness.contracts.companion import RUNSPEC, RunSpecDocV1
from harness.contracts.compared import compared
from harness.contracts.converter import unstructure
from harness.contracts.pretty import pretty
from harness.contracts.replay_kit import ReplayKit, ReplayResult
from harness.engine.daemon import ensure_engine
from harness.errors import FindingError, InputError, VerificationError
from harness.gates.catalog import find_fixture
from harness.host.state import default_state
from harness.kit import pack
from harness.present.progress import Progress
from harness.present.replay import as_text
from harness.present.text import wants_colour
from harness.replay import Admit, ReadyKit, differences, open_kit
from harness.replay import replay as replay_kit


def kit(arguments: argparse.Namespace, progress: Progress) -> int:
    """`assay-runner kit ARCHIVE -o FILE`."""
    output = output_file(arguments.output, "")
    sign = partial(_signature, load_signer(arguments.key)) if arguments.key else None
    found = replayable(arguments.archive)  # bad input ends here, before an engine is started
    inputs, policy = _sources(found.runspec, arguments)
    state = default_state().prepare()
    with contextlib.closing(ensure_engine(state)) as client, state.scratch("kit") as scratch:
        progress.step(f"packing the image {found.runspec.image_id}")
        digest = pack(
            client,
            arguments.archive,
            output,
            scratch=scratch,
            inputs=inputs,
            policy=policy,
            sign=sign,
            state=state,
        )
    progress.result(
        f"wrote {output} (run_id={found.runspec.run_id}, {output.stat().st_size} bytes, kit.json {digest})"
    )
    return 0


def replay(arguments: argparse.Namespace, progress: Progress) -> int:
    """`assay-runner replay KIT`: 0 when all compared members have equal bytes; FindingError otherwise."""
    begun = time.monotonic()
    admit = admission(arguments.key, trust=arguments.trust)
    output = output_file(arguments.output, "") if arguments.output else None
    state = default_state().prepare()
    with state.scratch("replay") as scratch:
        ready = open_kit(arguments.kit, scratch, admit)
        progress.step(f"the kit holds: run {ready.archive.run_id}, image {ready.kit.image_id}")
        with Bench(state, progress.step) as bench:
            measured = replay_kit(bench, ready)
        archive = output or scratch / "replayed.tar.gz"
        measured = measured.write(archive)
        if not measured.assembled.clean:
            measured.verdict()  # what was lost here cannot be told from what did not happen
        result = _result(arguments, ready, archive, round((time.monotonic() - begun) * 1000))
        report = None
        if not result.equal:
            report = surface_difference(load_run(Path(ready.archive.place)), load_run(archive))
        if arguments.json:
            progress.result(pretty(unstructure(result)).rstrip("\n"))
        else:
            sys.stdout.write(as_text(result, report, colour=wants_colour()))
    if not result.equal:
        first = result.differences[0]
        raise FindingError(
            "the replay differs from what was measured",
            place=f"{first.member} at {first.place}",
            hint=f"kept: {output}" if output else "keep the new archive with -o, and look at both",
        )
    return 0


def admission(specs: Sequence[str], *, trust: bool) -> Admit:
    """Who may go on: kits that one of the public keys `specs` has signed; without any, trusted ones."""
    if not specs and not trust:
        raise InputError(
            "a kit is somebody's program, image and declarations: say whose you run",
            place="replay",
            hint="--key PUBLIC_KEY if its maker signed it, or --trust if you know where it comes from",
        )
    keys = {spec: load_public_key(spec) for spec in specs}

    def admit(sealed: SealedKit) -> str | None:
        refused: VerificationError | None = None
        for spec, key in keys.items():
            try:
                check_signature(sealed.kit, sealed.manifest, sealed.signature, [key], sealed.place)
            except VerificationError as error:
                refused = error
            else:
                return spec
        if refused is not None:
            raise refused
        return None

    return admit


def _signature(signer: Signer, kit: ReplayKit, manifest: bytes) -> bytes:
    return signature_of(kit, manifest, signer)


def _sources(runspec: RunSpecDocV1, arguments: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """Where inputs and policy of the run are: as given, else those of its fixture, else none at all."""
    inputs, policy = arguments.work, arguments.policy
    if inputs is not None and not inputs.is_dir():
        raise InputError("not a folder", place=str(inputs), hint="--work takes a folder of input files")
    if (inputs is None and runspec.inputs) or (policy is None and runspec.policy_sha256 is not None):
        try:
            fixture = find_fixture(runspec.fixture)
        except InputError as error:
            raise InputError(
                f"its inputs and policy would be those of the fixture {runspec.fixture!r}: {error.message}",
                place=f"{arguments.archive}: {RUNSPEC} at /fixture",
                hint="name them with --work FOLDER and --policy FILE",
            ) from error
        inputs = inputs or fixture.inputs
        policy = policy or fixture.policy
    return inputs, policy


def _result(arguments: argparse.Namespace, ready: ReadyKit, archive: Path, elapsed_ms: int) -> ReplayResult:
    replayed = read_archive(archive)
    found = differences(ready.archive, replayed)
    return ReplayResult(
        run_id=ready.archive.run_id,
        kit=str(arguments.kit),
        signed_by=ready.signed_by,
        image_id=ready.kit.image_id,
        expected_identity=ready.archive.identity,
        identity=replayed.identity,
        archive=str(arguments.output) if arguments.output else None,
        equal=not found,
        compared=compared(ready.archive.members, replayed.members),
        differences=found,
        elapsed_ms=elapsed_ms,
    )
