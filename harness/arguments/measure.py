"""Commands that measure on this host: doctor, run, kit, replay, gate, engine."""

import argparse
from pathlib import Path

from harness.arguments import Commands, image_unlocked, print_json
from harness.arguments.host import on_host
from harness.errors import FindingError, InputError
from harness.present.progress import Progress


def add(commands: Commands) -> None:
    doctor = commands.add_parser("doctor", help="is this host fit? what to do if not")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=_doctor)

    run = commands.add_parser(
        "run", help="one measured run", usage="assay-runner run [options] (FIXTURE | --image IMAGE -- CMD…)"
    )
    run.add_argument("fixture", nargs="?", help="a fixture's name or folder")
    run.add_argument(
        "-o", "--output", type=Path, help="the archive (default: assay-runner-spike-<run_id>.tar.gz)"
    )
    run.add_argument("--run-id", help="default: run_ and 32 hex digits")
    run.add_argument("--image", help="measure CMD in this image of the engine")
    run.add_argument("--work", type=Path, help="with --image: folder to copy to /workspace")
    run.add_argument(
        "--deadline", type=float, default=60.0, metavar="SECONDS", help="with --image (default 60)"
    )
    run.add_argument(
        "--contract-only",
        action="store_true",
        help="run CMD on this host, without kernel capture or containers",
    )
    run.add_argument("--agent-shim", default="none", help="with --contract-only")
    run.add_argument(
        "--drop-diagnostics",
        metavar="FILE",
        help="also say where pressure on the capture came from; '-' is stderr",
    )
    run.add_argument("--json", action="store_true", help="the summary of the run as JSON")
    image_unlocked(run)
    run.set_defaults(run=_run)

    kit = commands.add_parser("kit", help="pack all that measuring an archive's run again needs")
    kit.add_argument("archive", type=Path, help="a clean archive; its image must be in the engine")
    kit.add_argument("-o", "--output", type=Path, required=True, help="the kit")
    kit.add_argument("--work", type=Path, help="what /workspace was filled from (default: the fixture's)")
    kit.add_argument("--policy", type=Path, help="the run's policy file (default: the fixture's)")
    kit.add_argument("--key", metavar="KEY", help="sign it: a private key (PEM, Ed25519), or env:NAME")
    kit.set_defaults(run=_kit)

    replay = commands.add_parser("replay", help="measure a kit's run again and compare the bytes")
    replay.add_argument("kit", type=Path)
    replay.add_argument("-o", "--output", type=Path, help="keep the new archive here")
    replay.add_argument(
        "--key",
        metavar="KEY",
        action="append",
        default=[],
        help="the kit must be signed by this public key (PEM), or env:NAME; may be given more than once",
    )
    replay.add_argument("--trust", action="store_true", help="replay it although no known key has signed it")
    replay.add_argument("--json", action="store_true")
    replay.set_defaults(run=_replay)

    gate = commands.add_parser("gate", help="acceptance and determinism of gates")
    gate.add_argument("gates", nargs="*", metavar="GATE", help="gate or fixture names")
    gate.add_argument("--all", action="store_true", help="every gate")
    gate.add_argument("--runs", type=int, default=3)
    gate.add_argument("-o", "--output", type=Path, default=Path("out/gates"))
    image_unlocked(gate)
    gate.set_defaults(run=_gate)

    engine = commands.add_parser("engine", help="the embedded engine").add_subparsers(
        required=True, metavar="ACTION"
    )
    for action, text in (("start", "start it"), ("stop", "stop it"), ("status", "look")):
        one = engine.add_parser(action, help=text)
        one.add_argument("--json", action="store_true")
        one.set_defaults(run=_engine, action=action)


@on_host
def _doctor(arguments: argparse.Namespace, _progress: Progress) -> int:
    from harness.capture import selfcheck
    from harness.engine.daemon import checks as engine_checks
    from harness.host import doctor
    from harness.host.state import default_state

    state = default_state()
    checks = [*doctor.checks(state), *engine_checks(state)]
    if all(check.ok for check in checks):
        checks.append(selfcheck.check(state))
    else:
        checks.append(doctor.Check("capture", ok=False, detail="not tried", remedy="mend the others first"))
    if arguments.json:
        print_json([{"name": c.name, "ok": c.ok, "detail": c.detail, "remedy": c.remedy} for c in checks])
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
            if not check.ok:
                print(f"     remedy: {check.remedy}")
    return 0 if all(check.ok for check in checks) else 5


@on_host
def _run(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness import commands

    return commands.run(arguments, progress)


@on_host
def _kit(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness import replay_commands

    return replay_commands.kit(arguments, progress)


@on_host
def _replay(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness import replay_commands

    return replay_commands.replay(arguments, progress)


@on_host
def _gate(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness.bench import Bench
    from harness.gates.catalog import all_gates, find_fixture
    from harness.gates.runner import run_gates, summary_of
    from harness.host.state import default_state
    from harness.present.gates import as_matrix

    if bool(arguments.gates) == arguments.all:
        raise InputError("name gates, or give --all", place="gate", hint="assay-runner gate openai-agents")
    fixtures = all_gates() if arguments.all else [find_fixture(name) for name in arguments.gates]
    with Bench(default_state(), progress.step) as bench:
        results = run_gates(
            bench,
            fixtures,
            runs=arguments.runs,
            out=arguments.output,
            say=progress.result,
            image_unlocked=arguments.image_unlocked,
        )
    if len(results) > 1:
        progress.result(as_matrix(summary_of(results, arguments.output)))
    failed = [result.gate for result in results if not result.passed]
    if failed:
        raise FindingError(f"failed: {', '.join(failed)}", hint=f"see {arguments.output / 'summary.json'}")
    return 0


@on_host
def _engine(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness import commands

    return commands.engine(arguments, progress)
