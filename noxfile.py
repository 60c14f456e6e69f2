"""The project's tasks: `./enter nox -s SESSION`, or `nox -s SESSION` inside `nix develop`.

The environment is already pinned by enter or Nix, so nox makes none. What the product's own
command returns is what nox returns (0 good, 1 a finding, 3 not clean, 5 host unfit, …).
"""

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "tests"]
nox.needs_version = ">=2024.4.15"

ROOT = Path(__file__).parent
OUT = "out/gates"
RUNS = "3"
_UNIT = ("tests/unit", "tests/contracts")
_LINUX = ("tests/linux", "tests/adversarial", "tests/faults", "tests/oracle")
# Two queues of tests on the machine, which wait for containers half of the time, beside the pure ones.
_WORKERS = max(3, os.cpu_count() or 1)


def _product(session: nox.Session, *arguments: str) -> None:
    """Run the product's command; leave nox with its exit code if that is not 0."""
    command = ["python", "-m", "harness", *arguments, *session.posargs]
    session.log(" ".join(command))
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code != 0:
        raise SystemExit(code if code > 0 else 128 - code)


def _gate(session: nox.Session, name: str) -> None:
    _product(session, "gate", name, "--runs", RUNS, "-o", OUT)


@nox.session
def images(session: nox.Session) -> None:
    """Build the fixture images, from locks, and check their digests."""
    _product(session, "image", "build")


@nox.session
def image_proof(session: nox.Session) -> None:
    """Every image twice from empty caches, in two places with little in common; then saved and loaded."""
    file = "tests/linux/proof_images.py"
    session.run("python", "-m", "pytest", "-s", file, *session.posargs)


@nox.session
def enter_roots(session: nox.Session) -> None:
    """`./enter` from nothing in fresh roots of Debian 12, 13, unstable and Ubuntu 24.04; needs mmdebstrap."""
    session.run("python", "-m", "pytest", "-s", "tests/linux/proof_enter.py", *session.posargs)


@nox.session
def probe_candidates(session: nox.Session) -> None:
    """Each candidate does what docs/runtimes.md says of it; builds their images, which takes minutes."""
    session.run("python", "-m", "pytest", "-s", "tests/linux/probe_candidates.py", *session.posargs)


def _define_gates() -> None:
    """One session a gate: gate_kernel_only, gate_openai_agents_kernel_policy, …"""
    for path in sorted(ROOT.glob("runner-fixtures/*/fixture.toml")):
        fixture = tomllib.loads(path.read_text(encoding="utf-8"))
        if fixture.get("candidate"):  # measured by name only
            continue
        for gate in (fixture.get("gate"), *(way["gate"] for way in fixture.get("scenario", ()))):
            if gate:
                _define_gate(gate["name"], f"Gate {gate['name']}: {fixture['description']}")


def _define_gate(name: str, description: str) -> None:
    def session(session: nox.Session) -> None:
        _gate(session, name)

    session.__doc__ = description
    nox.session(name=f"gate_{name.replace('-', '_')}")(session)


_define_gates()


@nox.session
def gate_all(session: nox.Session) -> None:
    """The main job: every gate, three runs each."""
    _product(session, "gate", "--all", "--runs", RUNS, "-o", OUT)


@nox.session
def tests(session: nox.Session) -> None:
    """Every test, on the real kernel and engine (root); one that cannot run is a failure."""
    session.env["CI"] = "1"
    pytest = ("python", "-m", "pytest", "-n", str(_WORKERS), "-m", "not bench")
    with _layers_being_built():
        session.run(*pytest, *session.posargs, *_LINUX, *_UNIT)


@contextmanager
def _layers_being_built() -> Iterator[None]:
    """Beside the body; what it says is shown if it fails."""
    command = ["python", "-m", "tests.linux.layers"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as build:
        try:
            yield
        except BaseException:
            build.terminate()
            raise
        said, _ = build.communicate()
    if build.returncode != 0:
        raise SystemExit(f"{said}\nthe images' layers could not be built")


@nox.session
def unit(session: nox.Session) -> None:
    """The tests that need neither root nor Docker, on all cores."""
    pytest = ("python", "-m", "pytest", "-n", "auto", "-m", "not bench and not linux")
    session.run(*pytest, *session.posargs, *_UNIT)


@nox.session
def conformance(session: nox.Session) -> None:
    """The protocol's own conformance suite, directly and through the proxy: needs npm. Needs no root."""
    file = "tests/conformance/suite_conformance.py"
    session.run("python", "-m", "pytest", "-s", file, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """What capture costs, on the real kernel and engine (root); docs/performance.md reads the tables."""
    file = "tests/bench/bench_overhead.py"
    session.run("python", "-m", "pytest", "-m", "bench", "-s", file, *session.posargs)


@nox.session
def bench_builds(session: nox.Session) -> None:
    """What capture costs against another build in the same rounds (root): `nox -s bench_builds -- COMMIT`."""
    commit, *more = session.posargs
    folder = Path(session.create_tmp()).resolve() / "before"
    session.run("git", "worktree", "add", "--detach", "--force", str(folder), commit, external=True)
    try:
        command = [
            "python",
            "-m",
            "pytest",
            "-m",
            "bench",
            "-s",
            "-n",
            "0",
            "tests/bench/bench_builds.py",
            *more,
        ]
        session.run(*command, env={"BENCH_BEFORE": str(folder)})
    finally:
        session.run("git", "worktree", "remove", "--force", str(folder), external=True)


@nox.session
def bench_offline(session: nox.Session) -> None:
    """What reading commands cost: a million paths, and the start of the command line. Needs no root."""
    files = ["tests/bench/bench_compare.py", "tests/bench/bench_start.py"]
    session.run("python", "-m", "pytest", "-m", "bench", "-s", *files, *session.posargs)


@nox.session
def pages(session: nox.Session) -> None:
    """HTML pages in a real browser: needs Chromium (Debian's package chromium); leaves out/pages/*.png."""
    session.run("python", "-m", "pytest", "tests/pages", *session.posargs)


@nox.session
def bench_verify(session: nox.Session) -> None:
    """What verification costs, of archives with a million kernel lines. Needs no root."""
    session.run(
        "python", "-m", "pytest", "-m", "bench", "-s", "tests/bench/bench_verify.py", *session.posargs
    )


@nox.session
def hosts(session: nox.Session) -> None:
    """Boot other distributions and kernels with this tree inside (root, qemu); writes docs/hosts.md."""
    session.run("python", "-m", "tests.hosts", "needs")
    session.run("python", "-m", "pytest", "-q", "-n", "0", "tests/hosts")
    session.run("python", "-m", "tests.hosts", "matrix", *session.posargs)


@nox.session
def engines(session: nox.Session) -> None:
    """Each row of docs/engines.md, with an engine of Debian's packages that the test starts (root)."""
    session.run("python", "-m", "pytest", "-n", "0", "tests/engines", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Damaged archives by the thousand: `nox -s soak -- COUNT [SEED]`; none may be accepted."""
    session.run("python", "-m", "tests.unit.bundle.mutate", *(session.posargs or ["100000"]))


@nox.session
def oracle(session: nox.Session) -> None:
    """Drawn programs, told by eBPF and strace: `nox -s oracle -- COUNT [SEED]`; writes docs/oracle.json."""
    count, seed = [*session.posargs, *("500", "1")[len(session.posargs) :]]
    session.run(
        "python",
        "-m",
        "pytest",
        "-s",
        "--timeout=0",
        "tests/oracle/test_drawn_programs.py",
        env={
            "ASSAY_RUNNER_ORACLE_PROGRAMS": count,
            "ASSAY_RUNNER_ORACLE_SEED": seed,
            "ASSAY_RUNNER_ORACLE_RESULT": str(ROOT / "docs" / "oracle.json"),
        },
    )


@nox.session
def fuzz(session: nox.Session) -> None:
    """Coverage-guided fuzzing of the verifier: `nox -s fuzz -- SECONDS`; needs requirements/fuzz.lock."""
    seconds = session.posargs[0] if session.posargs else "600"
    found = Path(session.create_tmp())
    corpus = ROOT / "tests" / "fuzz" / "corpus"
    (found / "corpus").mkdir(exist_ok=True)
    options = (f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=600", f"-artifact_prefix={found}/")
    program = "tests/fuzz/fuzz_reader.py"
    folders = (str(found / "corpus"), str(corpus))  # new inputs go to the first
    session.run("python", program, *options, *folders, env={"PYTHONPATH": str(ROOT)})


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, types, the import rules of the house, and no package source written out."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports", "--no-logo")
    _no_sources(session)


# A lock names packages and digests; where they come from is each host's own configuration.
_SOURCES = re.compile(
    r"""
      "resolved":\s*"(https?|git)     # package-lock.json
    | ^\s*registry\s*=\s*"?\w+://     # .npmrc and the like
    | --(extra-)?index-url[\s=] | --find-links[\s=]\w+: | --registry[\s=]\w+:
    | ^deb(-src)?\s+(\[.*\]\s*)?\w+:  # sources.list
    """,
    re.VERBOSE | re.MULTILINE,
)
_LOCKS = re.compile(r"^requirements/.*|.*\.lock$|.*package-lock\.json$")


def _no_sources(session: nox.Session) -> None:
    """Fail for each file that writes out a package source, or a lock with any address in it."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    wrong = []
    for name in sorted(filter(None, listed.decode().split("\0"))):
        path = ROOT / name
        if not path.is_file() or name == Path(__file__).name:
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        if _SOURCES.search(text):
            wrong.append(f"{name}: a package source is written out")
        if _LOCKS.match(name) and name != "flake.lock" and "://" in text:
            wrong.append(f"{name}: a lock holds an address")
        if str(ROOT) in text and len(ROOT.parts) > 2:
            wrong.append(f"{name}: a path of this machine is written out")
    if wrong:
        session.error("\n".join(wrong))
