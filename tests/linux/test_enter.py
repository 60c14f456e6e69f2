"""./enter for real: the second call is quick and silent, and a hopeless host is told why."""

import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host.state import VARIABLE, default_state

pytestmark = pytest.mark.linux

REPOSITORY = Path(__file__).parents[2]
ENTER = REPOSITORY / "enter"
DEFAULT = "/var/lib/assay-runner"
STATE = str(default_state().root)  # whose environment these tests run in
CRON = {"PATH": "/usr/bin:/bin"}  # all that crontab(5) sets, but for HOME, LOGNAME and SHELL


def _environment(**given: str) -> dict[str, str]:
    """With this host's package sources, and not through a Nix that it may have."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "PATH", "HOME"))}
    return kept | {VARIABLE: STATE, "ASSAY_RUNNER_NIX": "0"} | given


def _enter(
    *command: str, cwd: Path = Path("/"), script: Path = ENTER, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *command],
        cwd=cwd,
        env=_environment(**environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture(scope="module")
def made() -> None:
    """The state has its environment."""
    assert _enter("true").returncode == 0


@pytest.fixture
def copy(made: None) -> Iterator[Path]:
    """A clone elsewhere that everyone may read, with a space in its path, and a state beside it.

    The merged kernel headers are the usual state's, because 20 000 links take their time.
    """
    with tempfile.TemporaryDirectory(prefix="assay-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        clone = Path(folder) / "my clone"
        (clone / "requirements").mkdir(parents=True)
        shutil.copy2(ENTER, clone)
        for name in ("dev.lock", "system.txt"):
            shutil.copy2(REPOSITORY / "requirements" / name, clone / "requirements")
        (clone / "state").mkdir()
        (clone / "state" / "kheaders").symlink_to(Path(STATE) / "kheaders")
        yield clone


def test_second_call_is_quick_and_silent(made: None) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = _enter("true")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_runs_in_the_callers_folder_with_the_pinned_environment(made: None, tmp_path: Path) -> None:
    code = """
import os, sys, attrs, bcc, harness
for found in (os.getcwd(), harness.__file__, sys.prefix, os.environ["ASSAY_RUNNER_STATE"]): print(found)
for found in (os.path.realpath(bcc.__file__), attrs.__file__): print(found)
print(os.path.exists(os.environ["BCC_KERNEL_SOURCE"] + "/include/generated/autoconf.h"))
"""
    done = _enter("python", "-c", code, cwd=tmp_path)
    assert done.stderr == ""
    cwd, package, prefix, state, bcc, attrs, headers = done.stdout.splitlines()
    assert cwd == str(tmp_path)
    assert package == str(REPOSITORY / "harness" / "__init__.py")
    assert state == STATE
    assert prefix.startswith(f"{state}/venv-")
    assert bcc.startswith("/usr/lib/python3/dist-packages/bcc/")
    assert attrs.startswith(prefix)
    assert headers == "True"


def test_arguments_and_exit_code_arrive(made: None) -> None:
    done = _enter("sh", "-c", 'printf "%s|" "$@"; exit 7', "sh", "a b", "", "*")
    assert (done.returncode, done.stdout) == (7, "a b||*|")


def test_works_from_another_clone(made: None, copy: Path) -> None:
    done = _enter(
        "sh", "-c", "echo $PYTHONPATH; command -v assay-runner", script=copy / "enter", cwd=copy.parent
    )
    pythonpath, script = done.stdout.splitlines()
    assert pythonpath == str(copy)
    assert script.startswith(f"{STATE}/venv-")
    assert done.stderr == ""


def test_cron_finds_what_lies_in_sbin(made: None) -> None:
    """Without /usr/sbin on PATH, without HOME, without a network: the same environment, and not a word."""
    listed = (REPOSITORY / "requirements" / "system.txt").read_text().splitlines()
    programs = [line.split()[2] for line in listed if line.startswith("run ") and " program " in line]
    assert "dockerd" in programs
    code = f"import shutil; print([name for name in {programs} if shutil.which(name) is None])"
    assert not {"/usr/sbin", "/sbin"} & set(CRON["PATH"].split(":"))
    done = _in_own_mounts(f'exec {ENTER} python -c "{code}"', **CRON, ASSAY_RUNNER_STATE=STATE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_a_checkout_that_cannot_be_written_is_as_good(made: None, copy: Path) -> None:
    done = _in_own_mounts(
        f"mount --bind '{copy}' '{copy}'; mount -o remount,bind,ro '{copy}'\n"
        f"! touch '{copy}/x' 2>/dev/null\nexec '{copy}/enter' sh -c 'echo $PYTHONPATH'",
        **CRON,
        ASSAY_RUNNER_STATE=STATE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{copy}\n", "")


def test_the_state_of_root_is_a_folder_of_the_system(made: None) -> None:
    """With nothing but PATH set; what is made there is only marked as made."""
    venv = _enter("sh", "-c", "command -v assay-runner").stdout.split("/")[-3]
    done = _in_own_mounts(
        f"mount -t tmpfs none /var/lib; mkdir -p {DEFAULT}/{venv}/bin {DEFAULT}/kheaders\n"
        f"touch {DEFAULT}/{venv}/.complete; echo '{_headers()}' >{DEFAULT}/kheaders/.from\n"
        f"exec {ENTER} sh -c 'echo $ASSAY_RUNNER_STATE ${{PATH%%:*}}'",
        **CRON,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{DEFAULT} {DEFAULT}/{venv}/bin\n", "")


def _headers() -> str:
    return (Path(STATE) / "kheaders" / ".from").read_text().strip()


def test_usage() -> None:
    done = _enter()
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_inside_nix_it_only_sets_the_path(tmp_path: Path) -> None:
    done = _enter(
        "sh", "-c", "echo $PYTHONPATH $ASSAY_RUNNER_STATE", IN_NIX_SHELL="impure", ASSAY_RUNNER_STATE=""
    )
    assert done.stdout == f"{REPOSITORY}\n"


def test_nix_is_used_when_new_enough_and_there_is_a_flake(copy: Path) -> None:
    (copy / "flake.nix").write_text("{}")
    nix = copy / "bin" / "nix"
    nix.parent.mkdir()
    path = f"{nix.parent}:{os.environ['PATH']}"

    def answer(version: str, switch: str = "1") -> str:
        nix.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "nix (Nix) {version}" || echo "nix: $*"\n')
        nix.chmod(0o755)
        done = _enter("echo", "direct", script=copy / "enter", PATH=path, ASSAY_RUNNER_NIX=switch)
        return done.stdout

    assert f"develop {copy} -c {copy}/enter echo direct" in answer("2.18.1")
    assert "develop" in answer("2.101.0")
    assert answer("2.9.2") == "direct\n"
    assert answer("2.30.0", switch="0") == "direct\n"


def _in_own_mounts(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A bash script without network; what it mounts and what it starts goes with it."""
    alone = [
        "unshare",
        "--net",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--mount-proc",
        "--kill-child",
    ]
    return subprocess.run(
        [*alone, "bash", "-ec", script],
        env={"PATH": os.environ["PATH"]} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_a_bare_nix_is_not_one_that_was_set_up(tmp_path: Path) -> None:
    """Debian's nix-bin may be new enough one day, and is installed by ./enter itself, for the tests."""
    nix = tmp_path / "nix"
    nix.write_text('#!/bin/sh\n[ "$1" = --version ] && echo nix 2.99.0 || echo "nix: $*"\n')
    nix.chmod(0o755)
    done = _in_own_mounts(
        f"mount --bind {nix} /usr/bin/nix; nix --version\n"
        f"[[ ! -d /nix ]] || mount -t tmpfs none /nix\nexec {ENTER} echo direct",
        **CRON,
        ASSAY_RUNNER_STATE=STATE,
    )
    assert (done.returncode, done.stdout) == (0, "nix 2.99.0\ndirect\n")


def _tools(tmp_path: Path) -> Path:
    """A folder with what ./enter itself needs, and nothing else."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "sha256sum", "basename", "readlink", "cat", "grep", "sort", "tail", "tr", "sed",
                 "mkdir", "chmod", "rm", "flock"):  # fmt: skip
        (tools / name).symlink_to(shutil.which(name) or name)
    return tools


@pytest.mark.parametrize("release", ["debian", "ubuntu"])
def test_where_there_is_nothing_it_installs_the_whole_list(copy: Path, tmp_path: Path, release: str) -> None:
    """requirements/system.txt, which flake.nix takes its tools from too (test_flake.py)."""
    tools = _tools(tmp_path)
    (tools / "apt-get").write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\ncase "$*" in *install*) exit 1 ;; esac\n'
    )
    (tools / "apt-get").chmod(0o755)
    (tmp_path / "apparmor").write_text("Y\n")
    (tmp_path / "os-release").write_text(f"ID={release}\n")
    enter = (copy / "enter").read_text()
    assert "\napparmor=/sys/" in enter
    (copy / "enter").write_text(enter.replace("\napparmor=/sys/", f"\napparmor={tmp_path}/apparmor # /sys/"))

    hidden = ["/usr/lib/python3/dist-packages", "/usr/include", "/usr/src", "/lib/modules", "/usr/sbin"]
    hidden += ["/usr/local/sbin"]
    hidden += [str(path) for path in Path("/usr/lib").glob("python3*/ensurepip")]
    hide = "".join(f"mount -t tmpfs none {path}\n" for path in hidden if Path(path).is_dir())
    done = _in_own_mounts(
        f"{hide}mount --bind {tmp_path}/os-release $(readlink -f /etc/os-release)\n"
        f"export PATH={tools}\nexec '{copy}/enter' true",
        ASSAY_RUNNER_STATE=str(tmp_path / "state"),
    )
    assert done.returncode == 5, done.stderr
    assert "apt-get install failed" in done.stderr
    [asked] = [line for line in (tmp_path / "asked").read_text().splitlines() if " install " in line]
    lines = (REPOSITORY / "requirements" / "system.txt").read_text().splitlines()
    column = {"debian": 3, "ubuntu": 4}[release]
    wanted = [line.split()[column] for line in lines if not line.startswith("#")]
    assert asked.split(" install ")[1].split() == [name for name in wanted if name != "-"]
    assert {"docker.io", "python3-bpfcc", "apparmor", "nix-bin"} < set(wanted)


def _as_nobody(copy: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = [f"{name}={value}" for name, value in environment.items()]
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "env",
        "-i",
        "PATH=/usr/bin:/bin",
    ]
    return subprocess.run(
        [*command, *variables, str(copy / "enter"), "true"],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_where_nothing_can_be_made_every_problem_has_its_remedy(copy: Path) -> None:
    for environment in ({}, {"HOME": "/nonexistent"}, {"ASSAY_RUNNER_STATE": "/proc/nowhere"}):
        done = _as_nobody(copy, **environment)
        assert done.returncode == 5
        assert done.stdout == ""
        assert "cannot be written" in done.stderr
        assert "set ASSAY_RUNNER_STATE" in done.stderr


def test_without_python_and_apt_it_says_so(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "none").touch(mode=0o644)
    done = _in_own_mounts(
        f"mount --bind {tmp_path}/none $(readlink -f /usr/bin/python3)\n"
        f"export PATH={_tools(tmp_path)}\nexec '{copy}/enter' true",
        ASSAY_RUNNER_STATE=str(tmp_path / "state"),
    )
    assert done.returncode == 5
    assert (
        "there is no /usr/bin/python3, and no apt-get to install it\n      install Python 3.11" in done.stderr
    )


@pytest.mark.timeout(900)  # packages come from elsewhere
def test_two_at_once_and_an_interrupted_one(copy: Path) -> None:
    """With a lock of two small packages: half an environment is made anew, and by one of two only."""
    dev = (copy / "requirements" / "dev.lock").read_text()
    wanted = [part for part in dev.split("\n\n")[0].split("\nattrs==") if part]
    small = "attrs==" + wanted[1].split("\ncattrs==")[0] + "\n"
    (copy / "requirements" / "dev.lock").write_text(small)
    state = copy / "state"
    half = subprocess.Popen(
        [copy / "enter", "true"],
        env=_environment(ASSAY_RUNNER_STATE=str(state)),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(state.glob("venv-*/bin/python")):
        assert half.poll() is None
        time.sleep(0.01)
    os.killpg(half.pid, 9)
    half.communicate()
    [venv] = state.glob("venv-*")
    assert not (venv / ".complete").exists()

    both = [
        subprocess.Popen(
            [copy / "enter", "python", "-c", "import attrs; print(attrs.__version__)"],
            env=_environment(ASSAY_RUNNER_STATE=str(state)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert sum("making the virtual environment" in error for _, error in answers) == 1
    assert all(output == f"{small.split('==')[1].split(' ')[0]}\n" for output, _ in answers)


def test_a_package_with_another_digest_is_refused(copy: Path) -> None:
    text = (copy / "requirements" / "dev.lock").read_text()
    attrs = "attrs==" + text.split("\nattrs==")[1].split("\ncattrs==")[0]
    digest = attrs.split("sha256:")[1][:8]
    broken = attrs.replace(digest, "00000000", 1).split(" \\\n")
    (copy / "requirements" / "dev.lock").write_text(" \\\n".join(broken[:2]).rstrip("\\\n ") + "\n")
    done = _enter("true", script=copy / "enter", ASSAY_RUNNER_STATE=str(copy / "state"))
    assert done.returncode == 5
    assert "pip install failed" in done.stderr
    assert list((copy / "state").glob("venv-*/.complete")) == []
