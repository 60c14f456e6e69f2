"""What `assay-runner run` answers to bad input, an unfit host, a full disk and an interrupt."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.bench import Bench
from harness.bundle import kernel_lines
from harness.cli import main
from harness.engine.daemon import engine_status
from harness.evidence.model import Role
from harness.host.state import VARIABLE, State
from harness.plan import FIXTURES
from tests.faults.agents import PYTHON, WAITS, image_of, new_run_id
from tests.faults.archives import read
from tests.faults.commands import command, in_state, run
from tests.faults.midrun import first_process, is_ready, until

pytestmark = pytest.mark.linux

Refused = Callable[..., str]


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[State]:
    """A state folder that bad input must not even make."""
    state = State(tmp_path / "untouched")
    yield state
    assert engine_status(state).pid is None
    assert not state.root.exists()


@pytest.fixture
def fixture(tmp_path: Path) -> Path:
    """A copy of the fixture kernel-policy that a test may spoil."""
    return Path(shutil.copytree(FIXTURES / "kernel-policy", tmp_path / "kernel-policy"))


@pytest.fixture
def refused(
    untouched: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Refused]:
    """Run with bad input: exit code 2, a message with its remedy, nothing written; gives the message."""
    monkeypatch.setenv(VARIABLE, str(untouched.root))
    handler = signal.getsignal(signal.SIGTERM)  # main sets its own

    def attempt(*arguments: str | Path) -> str:
        output = tmp_path / "x.tar.gz"
        assert main(["run", "-o", str(output), *map(str, arguments)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("assay-runner: ")
        assert "\n  hint: " in said.err
        assert not output.exists()
        return said.err

    yield attempt
    signal.signal(signal.SIGTERM, handler)


def test_a_policy_that_is_missing(refused: Refused, fixture: Path) -> None:
    (fixture / "policy.toml").unlink()
    message = refused(fixture)
    assert f"{fixture}/fixture.toml: no policy file {fixture}/policy.toml" in message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('schema = "assay.runner.policy.v1"\ndefault = "perhaps"\n', "default"),
        ('schema = "assay.runner.policy.v1"\n[[rule]\n', "line 2"),
        ('schema = "assay.runner.policy.v1"\n[[rule]]\nid = "a"\neffect = "allow"\ntools = []\n', "rule"),
    ],
)
def test_a_policy_that_is_malformed(text: str, place: str, refused: Refused, fixture: Path) -> None:
    (fixture / "policy.toml").write_text(text)
    message = refused(fixture)
    assert f"{fixture}/policy.toml" in message
    assert place in message


def test_an_unknown_fixture(untouched: State, tmp_path: Path) -> None:
    """As a command of its own, once for all that bad input gets."""
    done = run(untouched, "no-such-fixture", "-o", tmp_path / "x.tar.gz")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("assay-runner: no fixture or gate named 'no-such-fixture'\n  hint: known: ")
    assert "kernel-only" in done.stderr
    assert list(tmp_path.iterdir()) == []


# Each value breaks its rule and all later ones, so the order shows (contracts §3.1).
RUN_IDS = {
    "": "run_id must not be empty",
    "a:b c": "must not contain ':'",
    "../bad": "may only contain ASCII letters",
    "bad run": "may only contain ASCII letters",
    "läuft": "may only contain ASCII letters",
}


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_a_bad_run_id(run_id: str, refused: Refused) -> None:
    message = refused("kernel-only", "--run-id", run_id)
    assert RUN_IDS[run_id] in message


def test_an_empty_command_comes_before_a_bad_run_id(refused: Refused) -> None:
    message = refused("--image", "some/image", "--run-id", "a:b")
    assert "command must not be empty" in message


def test_diagnostics_that_cannot_be(refused: Refused, tmp_path: Path) -> None:
    message = refused("kernel-only", "--drop-diagnostics", tmp_path / "no" / "such")
    assert f"{tmp_path / 'no'}: no such folder" in message
    message = refused("--contract-only", "--drop-diagnostics", "-", "--", "true")
    assert "there is no capture to diagnose" in message


def test_a_bad_run_id_comes_before_a_bad_shim(refused: Refused) -> None:
    shim = ("--contract-only", "--agent-shim", "other", "--run-id", "a:b", "--", "true")
    assert "must not contain ':'" in refused(*shim)
    shim = ("--contract-only", "--agent-shim", "other", "--run-id", "fine", "--", "true")
    assert "unsupported agent shim" in refused(*shim)


def test_a_missing_output_folder(refused: Refused, tmp_path: Path) -> None:
    message = refused("kernel-only", "-o", tmp_path / "nowhere" / "x.tar.gz")
    assert f"{tmp_path}/nowhere: no such folder" in message
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_the_engine_does_not_have(bench: Bench, tmp_path: Path) -> None:
    output = tmp_path / "x.tar.gz"
    done = run(bench.state, "--image", "no/such:image", "-o", output, "--run-id", new_run_id(), "--", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no image 'no/such:image'" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one page, which holds less than an archive."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_full_while_the_archive_is_written(bench: Bench, full_disk: Path) -> None:
    code = f"text = {os.urandom(4000).hex()!r}"  # in the archive as argv; it cannot be compressed to a page
    image = image_of(bench, "kernel-only").tag
    output = full_disk / "x.tar.gz"
    tail = ("--image", image, "--run-id", new_run_id(), "-o", output, "--", *PYTHON, code)
    done = run(bench.state, *tail)
    assert (done.returncode, done.stdout) == (5, "")
    assert f"{output}: the archive could not be written: No space left on device" in done.stderr
    assert "hint: free some space" in done.stderr
    assert list(full_disk.iterdir()) == []


@pytest.fixture
def anyones() -> Iterator[Path]:
    """A folder that everybody may use."""
    with tempfile.TemporaryDirectory(prefix="assay-", dir="/tmp") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def as_nobody(state: State, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    environment = in_state(state) | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*nobody, *command(*arguments)], env=environment, capture_output=True, text=True, check=False
    )


def test_without_root_every_missing_thing_has_its_line(anyones: Path, tmp_path: Path) -> None:
    untouched = State(tmp_path / "state")  # pytest's folders are root's alone: it cannot even be looked at
    asked = as_nobody(untouched, "doctor", "--json")
    assert asked.returncode == 5, asked.stderr
    missing = [check for check in json.loads(asked.stdout) if not check["ok"]]
    assert {"privileges", "cgroup-freeze", "bpf-ring-buffer"} <= {check["name"] for check in missing}
    assert missing.pop() == {  # what only doctor does, once all others are met
        "name": "capture", "ok": False, "detail": "not tried", "remedy": "mend the others first"
    }  # fmt: skip
    done = as_nobody(untouched, "run", "kernel-only", "-o", anyones / "x.tar.gz")
    assert (done.returncode, done.stdout) == (5, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "assay-runner: this host is not fit for a measured run"
    wanted = [f"  {check['name']}: {check['detail']}: {check['remedy']}" for check in missing]
    assert [_without_pid(line) for line in lines[1:]] == [_without_pid(line) for line in wanted]
    assert list(anyones.iterdir()) == []
    assert not untouched.root.exists()


def _without_pid(line: str) -> str:
    return re.sub(r"-doctor-\d+", "-doctor-", line)


def test_what_may_not_be_read_is_bad_input(untouched: State, anyones: Path) -> None:
    locked = anyones / "locked"
    locked.mkdir(mode=0o700)
    done = as_nobody(untouched, "run", locked / "fixture", "-o", anyones / "x.tar.gz")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == f"assay-runner: {locked}/fixture/fixture.toml: Permission denied"
    done = as_nobody(untouched, "run", "kernel-only", "-o", locked / "x.tar.gz")
    assert (done.returncode, done.stdout) == (2, "")
    assert str(locked) in done.stderr.splitlines()[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing(number: signal.Signals, code: int, bench: Bench, tmp_path: Path) -> None:
    """As from a terminal: the whole process group gets it."""
    run_id, output = new_run_id(), tmp_path / "x.tar.gz"
    image = image_of(bench, "kernel-only").tag
    running = subprocess.Popen(
        command("run", "--image", image, "--run-id", run_id, "-o", output, "--", *PYTHON, WAITS),
        env=in_state(bench.state),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A test runner started in the background of a shell ignores interrupts, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it takes no lock
        text=True,
    )
    until(lambda: is_ready(bench.state, run_id))
    assert first_process(run_id, Role.SUBJECT) is not None
    os.killpg(running.pid, number)
    out, errors = running.communicate(timeout=60)
    assert (running.returncode, out) == (code, "")
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.breaks("verify:LimitDistinctLines")
def test_an_archive_that_nobody_would_take_is_said_to_be_one(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own maker verifies it, within the same bounds; here they are smaller than a run needs."""
    monkeypatch.setenv(VARIABLE, str(bench.state.root))
    monkeypatch.setattr(kernel_lines, "MAX_DISTINCT", 1)
    output = tmp_path / "x.tar.gz"
    assert main(["run", "kernel-only", "--run-id", new_run_id(), "-o", str(output)]) == 4
    said = capsys.readouterr()
    assert said.out.startswith(f"wrote {output} ")
    assert "LimitDistinctLines: more than 1 distinct ones" in said.err
    assert "hint: no verifier takes an archive beyond these bounds" in said.err
    assert output.is_file()


def test_a_failed_agent_has_its_archive(bench: Bench, tmp_path: Path) -> None:
    run_id, output = new_run_id(), tmp_path / "x.tar.gz"
    image = image_of(bench, "kernel-only").tag
    fails = "import sys; print('what went wrong'); sys.exit(3)"
    text = tmp_path / "pressure.txt"
    options = ("--run-id", run_id, "-o", output, "--drop-diagnostics", text)
    done = run(bench.state, "--image", image, *options, "--", *PYTHON, fails)
    assert done.returncode == 6
    assert done.stdout.splitlines()[0] == f"wrote {output} (run_id={run_id}, evidence=clean)"
    assert "assay-runner: the agent ended with exit code 3" in done.stderr.splitlines()
    assert done.stderr.splitlines()[-1].strip() == "what went wrong"
    assert read(output).finished["exit_code"] == 3
    assert text.read_text().startswith(f"drop diagnostics of {run_id}: ")
    assert text.read_text().endswith("lost: nothing\n")
