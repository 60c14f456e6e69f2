"""What the commands of the right wing do; `cli` imports this only when one of them is called."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness import __version__
from harness.bench import Bench
from harness.bundle.verify import check
from harness.bundle.writer import write_archive
from harness.engine.daemon import engine_status, ensure_engine, stop_engine
from harness.engine.locked_images import image_for_run, refresh_lock
from harness.engine.lookup import find_image
from harness.errors import (
    AssayError,
    CommandFailedError,
    EnvironmentUnfitError,
    InputError,
    VerificationError,
)
from harness.evidence.assemble import RunContext, assemble
from harness.evidence.drop_diagnostics import drop_diagnostics
from harness.evidence.image import NO_IMAGE, RunImage
from harness.evidence.model import ChannelLog, Observation, RoleOutcome
from harness.gates.catalog import find_fixture
from harness.host.state import default_state
from harness.plan import Plan, contract_spec, plan_fixture, plan_image
from harness.present.drop_diagnostics import as_text
from harness.present.progress import Progress
from harness.present.run import as_document
from harness.present.summary import as_lines, summary_of
from harness.run import Measured, measure
from harness.run_logs import refuse_foreign_logs, write_logs
from harness.scaffold import write_fixture
from harness.spec import Fixture

_STDERR = "-"
_ATTACH = "raw_tracepoint+cgroup_sock_addr"


def run(arguments: argparse.Namespace, progress: Progress) -> int:
    """`assay-runner run`: one archive, whatever the agent does; the exit code tells the verdict."""
    if arguments.contract_only:
        return _contract_only(arguments, progress)
    if (arguments.fixture is None) == (arguments.image is None):
        raise InputError("name a fixture, or give --image IMAGE -- CMD", place="run", hint="see run --help")
    if arguments.fixture is not None and (arguments.tail or arguments.work):
        raise InputError("a fixture brings its own command and inputs", place="run", hint="use --image")
    fixture = find_fixture(arguments.fixture) if arguments.fixture else None
    # Bad input ends here: the same plan is made again below, once the image is known.
    run_id = _planned(arguments, fixture, NO_IMAGE, arguments.run_id).spec.run_id
    output = output_file(arguments.output, run_id)
    if arguments.drop_diagnostics not in (None, _STDERR):
        output_file(Path(arguments.drop_diagnostics), run_id)
    refuse_foreign_logs(output)
    with Bench(default_state(), progress.step) as bench:
        if fixture is not None:
            image = image_for_run(
                bench.client,
                fixture.folder.parent / fixture.file.image,
                state=bench.state,
                progress=progress.step,
                unlocked=arguments.image_unlocked,
            )
        else:
            image = find_image(bench.client, arguments.image, state=bench.state)
        measured = measure(bench, _planned(arguments, fixture, image, run_id))
        measured = measured.write(output)
        if arguments.drop_diagnostics is not None:
            _write_diagnostics(arguments.drop_diagnostics, measured)
    logs = write_logs(output, measured.output)
    if fixture is not None and not image.locked:
        progress.step(f"the image {image.id} is not the one of its lock; the archive says so")
    summary = summary_of({**measured.assembled.v0, **measured.assembled.companion})
    if not arguments.json:
        _say_written(progress, output, run_id, clean=measured.assembled.clean)
        for line in (*as_lines(summary), *([f"what agent and server wrote: {logs}/"] if logs else ())):
            progress.result(f"  {line}")
        measured.verdict()
        return 0
    ended: AssayError | None = None
    try:
        check(output)
        measured.verdict()
    except AssayError as error:
        ended = error
    progress.result(json.dumps(as_document(summary, output, logs, ended), indent=2))
    if ended is not None:
        raise ended
    return 0


def new_fixture(arguments: argparse.Namespace, progress: Progress) -> int:
    """`assay-runner new-fixture`: a working fixture, with its lock if the image can be built here."""
    folder = write_fixture(arguments.name, arguments.runtime, arguments.folder)
    progress.result(f"wrote {folder}")
    try:
        refresh_lock(folder, state=default_state().prepare(), progress=progress.step)
    except EnvironmentUnfitError as error:
        progress.result(f"no lock yet, because {error}")
        progress.result(f"on a fit host: assay-runner image lock {folder}")
        return 0
    progress.result(f"its gates: assay-runner gate {folder} {folder}:multi-tool")
    return 0


def engine(arguments: argparse.Namespace, progress: Progress) -> int:
    """`assay-runner engine start|stop|status`."""
    state = default_state()
    if arguments.action == "start":
        ensure_engine(state).close()
    elif arguments.action == "stop":
        stop_engine(state)
    status = engine_status(state)
    document: dict[str, Any] = {
        "running": status.answering,
        "pid": status.pid,
        "socket": str(status.socket),
        "log": str(status.log),
    }
    if arguments.json:
        progress.result(json.dumps(document, indent=2))
    else:
        progress.result(f"running, pid {status.pid}, {status.socket}" if status.answering else "not running")
    return 0


def _planned(
    arguments: argparse.Namespace, fixture: Fixture | None, image: RunImage, run_id: str | None
) -> Plan:
    if fixture is not None:
        return plan_fixture(fixture, image, run_id=run_id)
    return plan_image(
        arguments.tail, image, run_id=run_id, inputs=arguments.work, deadline_s=arguments.deadline
    )


def _write_diagnostics(name: str, measured: Measured) -> None:
    """Text that nothing reads; no failure to write it changes what the run ends with."""
    host = {"cpus": str(os.cpu_count()), "runner": f"assay-runner {__version__}", "attach": _ATTACH}
    found = drop_diagnostics(measured.observation, measured.plan.context(), host)
    assert found is not None, "a measured run has kernel capture"
    try:
        if name == _STDERR:
            sys.stderr.write(as_text(found))
        else:
            Path(name).write_text(as_text(found), encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"the drop diagnostics could not be written to {name}: {error.strerror}\n")


def _contract_only(arguments: argparse.Namespace, progress: Progress) -> int:
    """Run the command on this host and archive what can be said without watching it."""
    if arguments.drop_diagnostics is not None:
        raise InputError(
            "there is no capture to diagnose", place="--drop-diagnostics", hint="leave --contract-only out"
        )
    spec = contract_spec(arguments.tail, run_id=arguments.run_id, agent_shim=arguments.agent_shim)
    output = output_file(arguments.output, spec.run_id)
    begun = time.monotonic()
    try:
        code = subprocess.run(spec.command, env=os.environ | spec.env, check=False).returncode
    except OSError as error:
        raise InputError(
            f"cannot start: {error.strerror}", place=spec.command[0], hint="is it on PATH and executable?"
        ) from None
    outcome = RoleOutcome(exit_code=code if code >= 0 else None, signal=-code if code < 0 else None)
    observation = Observation(
        records=(),
        accounting=None,
        decisions=ChannelLog(),
        sdk_events=ChannelLog(),
        subject=outcome,
        tools=None,
        timed_out=False,
        survivors=0,
        elapsed_ms=int((time.monotonic() - begun) * 1000),
    )
    context = RunContext(spec=spec, fixture="", image=NO_IMAGE, deadline_s=0.0, witnesses=())
    assembled = assemble(observation, context)
    write_archive(output, assembled.v0, assembled.companion, spec.run_id)
    _say_written(progress, output, spec.run_id, clean=assembled.clean)
    if not outcome.success:
        raise CommandFailedError(f"{spec.command[0]} ended with {code}")
    return 0


def output_file(wanted: Path | None, run_id: str) -> Path:
    """Where to write; InputError, before anything is started, for a place that cannot be."""
    path = wanted or Path(f"assay-runner-spike-{run_id}.tar.gz")
    if not path.parent.is_dir():
        raise InputError("no such folder", place=str(path.parent), hint="make it first")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError("cannot be written", place=str(path), hint="name a file in a folder you may write")
    return path


def _say_written(progress: Progress, path: Path, run_id: str, *, clean: bool) -> None:
    """VerificationError, the file kept, if it is one that nobody would accept: too large, say."""
    try:
        check(path)
    except VerificationError:
        progress.result(f"wrote {path} (run_id={run_id}, which does not hold)")
        raise
    progress.result(f"wrote {path} (run_id={run_id}, evidence={'clean' if clean else 'not clean'})")
