"""Exit codes and messages of the command line, as far as no machine is needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.bundle.reader import read_archive
from harness.cli import main


def stderr(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_contract_only_needs_neither_root_nor_engine(folder: Path) -> None:
    assert main(["run", "--contract-only", "--run-id", "run_001", "-o", "a.tar.gz", "--", "true"]) == 0
    members = read_archive(folder / "a.tar.gz").members
    health = json.loads(members["observation-health.json"])
    assert health["kernel_layer"] == "absent"
    assert health["cgroup_correlation"] == "partial"
    assert health["notes"] == ["contract_only_mode: kernel and cgroup capture not wired in this revision"]
    events = [json.loads(line) for line in members["events.ndjson"].splitlines()]
    assert [event["type"] for event in events] == ["run_started", "run_finished"]
    assert (events[1]["exit_code"], events[1]["signal"], events[1]["success"]) == (0, None, True)
    assert main(["verify", "a.tar.gz"]) == 0


def test_contract_only_of_a_failing_command_is_archived_and_exit_6(folder: Path) -> None:
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    assert main(["run", "--contract-only", "-o", "a.tar.gz", "--", *command]) == 6
    events = read_archive(folder / "a.tar.gz").members["events.ndjson"].splitlines()
    finished = json.loads(events[1])
    assert (finished["exit_code"], finished["signal"], finished["success"]) == (None, 9, False)


# The order of contracts §3.1: of several broken rules the first one is told.
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run-id", ""], "command must not be empty"),
        (["--run-id", "", "--", "true"], "run_id must not be empty"),
        (["--run-id", "bad:run", "--agent-shim", "x", "--", "true"], "must not contain ':'"),
        (["--run-id", "../bad", "--agent-shim", "x", "--", "true"], "may only contain ASCII letters"),
        (["--agent-shim", "typo-shim", "--", "true"], "unsupported agent shim 'typo-shim'"),
    ],
)
def test_bad_run_specs_are_refused_in_order(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert main(["run", "--contract-only", *arguments]) == 2
    assert message in stderr(capsys)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "name a fixture, or give --image"),
        (["run", "kernel-only", "--image", "x"], "name a fixture, or give --image"),
        (["run", "no-such-fixture"], "known: "),
        (["run", "kernel-only", "-o", "no/such/folder/a.tar.gz"], "no such folder"),
        (["run", "kernel-only", "--", "true"], "brings its own command"),
        (["run", "--image", "x", "--work", "nowhere", "--", "true"], "not a folder"),
        (["run", "--image", "x", "--deadline", "0", "--", "true"], "deadline must be positive"),
        (["run", "--image", "x"], "command must not be empty"),
        (["run", "--contract-only", "--", "/no/such/program"], "cannot start"),
        (["gate"], "name gates, or give --all"),
        (["verify", "a", "--", "true"], "takes no command after --"),
        (["diff", "a", "b", "--location", "a\udcff"], "'a\\udcff': is not UTF-8"),
        (["run", "--contract-only", "--", "a\udcff"], "'a\\udcff': is not UTF-8"),
    ],
)
def test_bad_usage_is_exit_2_with_a_remedy(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert main(arguments) == 2
    assert message in stderr(capsys)
    assert list(folder.iterdir()) == []


def test_verify_says_what_and_where(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "--contract-only", "-o", "a.tar.gz", "--", "true"])
    data = bytearray((folder / "a.tar.gz").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "b.tar.gz").write_bytes(data)
    capsys.readouterr()
    assert main(["verify", "--json", "a.tar.gz", "b.tar.gz"]) == 4
    good, bad = json.loads(capsys.readouterr().out)
    assert (good["ok"], good["problems"]) == (True, [])
    assert bad["ok"] is False
    assert bad["problems"][0]["code"]


def test_verify_imports_nothing_of_the_machine(folder: Path) -> None:
    main(["run", "--contract-only", "-o", "a.tar.gz", "--", "true"])
    code = (
        "import sys; from harness.cli import main; main(['verify', 'a.tar.gz']); "
        "print([m for m in sys.modules if m.split('.')[0] in ('bcc', 'docker', 'pyroute2')])"
    )
    root = Path(__file__).parents[3]
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.splitlines()[-1] == "[]"


def test_a_python_without_the_packages_is_exit_5_with_a_remedy() -> None:
    root = Path(__file__).parents[3]
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from harness.cli import main\nsys.exit(main(['verify', 'x']))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    assert done.stderr.startswith("assay-runner: no Python package ")
    assert "\n  hint: run it through ./enter" in done.stderr
