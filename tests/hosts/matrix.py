"""The rows of `nox -s hosts`, the steps of each, and one row's job."""

import json
import re
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from attrs import asdict, frozen

from harness.bundle.reader import read_archive
from harness.contracts.companion import ACCOUNTING
from tests.hosts import boot
from tests.hosts.roots import ROOT
from tests.hosts.systems import SYSTEMS

# with their runs; of the third, which takes minutes where it is emulated, the kit's replay is the second
GATES = {"kernel-only": 2, "kernel-policy": 2, "openai-agents": 1}
KITS = ("kernel-only", "openai-agents", "gemini-google-genai")


@frozen
class Row:
    """A machine, and whose engine runs the containers: the product's own, or the system's with its driver."""

    name: str
    machine: boot.Machine
    engine: str = "private"


def _row(name: str, system: str, cgroups: str, cpus: int, engine: str) -> Row:
    return Row(name, boot.Machine(SYSTEMS[system], cgroups, cpus), engine)


ROWS = {
    row.name: row
    for row in (
        _row("debian12-hybrid", "debian12", "hybrid", 1, "private"),
        _row("debian13", "debian13", "pure", 1, "private"),
        _row("debian13-7x", "debian13-7x", "pure", 1, "private"),
        _row("debian12-pure", "debian12", "pure", 2, "system"),
        _row("debian13-system", "debian13", "pure", 2, "system"),
        _row("sid", "sid", "pure", 1, "system"),
        _row("ubuntu24", "ubuntu24", "pure", 1, "private"),
    )
}

_PYTEST = "./enter env CI=1 python -m pytest -q -p no:cacheprovider"
# each a shell's command line in the tree; what it leaves in $OUT comes back
STEPS = {
    # nothing is to be had from a network here, and the second time there is nothing to say
    "enter": "env -i PATH=/usr/bin:/bin HOME=/root ./enter true && "
    'said=$(env -i PATH=/usr/bin:/bin HOME=/root ./enter true 2>&1) && echo "$said" && test -z "$said"',
    "doctor": "./enter assay-runner doctor",
    "gates": " && ".join(
        f"./enter assay-runner gate {gate} --runs {n} -o $OUT/gates" for gate, n in GATES.items()
    ),
    "capture": f"{_PYTEST} tests/linux/test_capture.py",
    "loss": f"{_PYTEST} tests/faults/test_loss_counters.py tests/faults/test_ring_drops.py",
    "oracle": f"{_PYTEST} tests/linux/test_oracle.py",
    "replay": "/job/replay",
    "kits": "/job/kits",
}

_REPLAY = """#!/bin/bash
# each kit of the build machine, measured again here
failed=0
for kit in /job/in/*.kit; do
  name=${kit##*/}
  name=${name%.kit}
  ./enter assay-runner replay "$kit" --trust --json -o "$OUT/replayed-$name.tar.gz" >"$OUT/replay-$name.json"
  code=$?
  echo "REPLAY $name $code"
  ((code == 0)) || failed=$code
done
exit "$failed"
"""

_KITS = """#!/bin/bash
# what is measured here, as kits for the build machine: gates' runs where there are any
set -e
for name in %s; do
  archive=$(ls "$OUT"/gates/"$name"*/run-1/*.tar.gz 2>/dev/null | head -n 1)
  if [ -z "$archive" ]; then
    archive=$OUT/$name.tar.gz
    ./enter assay-runner run "$name" -o "$archive"
  fi
  ./enter assay-runner kit "$archive" -o "$OUT/$name.kit"
done
"""

_RUN = """#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root OUT=/job/out
cd /job/src
%(engine)s
all=0
step() {
  local begun=$SECONDS code
  echo "STEP $1 begins"
  ( eval "$2" ) 2>&1 | tee "$OUT/$1.log"
  code=${PIPESTATUS[0]}
  echo "STEP $1 $code $((SECONDS - begun))"
  ((code == 0)) || all=1
}
%(steps)s
uname -a >"$OUT/uname"
docker version --format '{{.Server.Version}}' >"$OUT/docker" 2>/dev/null || dockerd --version >"$OUT/docker"
cat /sys/module/apparmor/parameters/enabled >"$OUT/apparmor" 2>/dev/null || echo N >"$OUT/apparmor"
stat -fc %%T /sys/fs/cgroup >"$OUT/cgroup"
journalctl -k -p warning --no-pager >"$OUT/kernel.log" 2>/dev/null
exit "$all"
"""

_SYSTEM_ENGINE = """mkdir -p /etc/docker
echo '{"exec-opts": ["native.cgroupdriver=systemd"]}' >/etc/docker/daemon.json
systemctl start docker.service || exit 5
export DOCKER_HOST=unix:///run/docker.sock"""


@frozen
class StepDone:
    """A step's exit code and seconds; None if the machine did not get so far."""

    name: str
    code: int | None
    seconds: int | None
    said: str = ""


@frozen
class Back:
    """A guest's kit, replayed on the build machine: exit code (None: no kit came), and what was said."""

    kit: str
    code: int | None
    said: str


@frozen
class Counts:
    """Over all archives that a guest gave back: records, lost ones, and events that the kernel skipped."""

    archives: int = 0
    received: int = 0
    lost: int = 0
    misses: int = 0


@frozen
class RowDone:
    """A row as it is kept and shown; `said` is what a step's output comes down to."""

    name: str
    release: str
    accelerator: str
    apparmor: str
    docker: str
    boot_s: float
    job_s: float
    trouble: str
    tree: str
    at: str
    steps: tuple[StepDone, ...]
    counts: Counts = Counts()
    back: tuple[Back, ...] = ()

    @property
    def ok(self) -> bool:
        """Green: every step, every kit, and nothing lost."""
        codes = [step.code for step in self.steps] + [back.code for back in self.back]
        return (
            not self.trouble and not any((*codes, self.counts.lost, self.counts.misses)) and None not in codes
        )


def not_run(row: Row, steps: Sequence[str], tree: str, trouble: str) -> RowDone:
    """A row whose machine could not be made."""
    return RowDone(
        name=row.name,
        release="-",
        accelerator="-",
        apparmor="",
        docker="-",
        boot_s=0.0,
        job_s=0.0,
        trouble=trouble,
        tree=tree,
        at=_now(),
        steps=_steps(steps, "", Path()),
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M")


def run_row(
    row: Row, steps: Sequence[str], kits: Iterable[Path], out: Path, tree: str, say: Callable[[str], None]
) -> RowDone:
    """Boot the row's machine, take the steps, and read what came back."""
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="job-") as folder:
        job = Path(folder)
        (job / "in").mkdir()
        for kit in kits:
            shutil.copy2(kit, job / "in")
        lines = "\n".join(f"step {name} {shlex.quote(STEPS[name])}" for name in steps)
        engine = _SYSTEM_ENGINE if row.engine == "system" else ""
        texts = {
            "run": _RUN % {"steps": lines, "engine": engine},
            "replay": _REPLAY,
            "kits": _KITS % " ".join(KITS),
        }
        for name, text in texts.items():
            (job / name).write_text(text, encoding="utf-8")
            (job / name).chmod(0o755)
        done = boot.run_job(row.machine, job, out, tree=ROOT, say=say)
    return RowDone(
        name=row.name,
        release=done.release,
        accelerator=done.accelerator,
        apparmor=_line(out / "apparmor"),
        docker=_line(out / "docker"),
        boot_s=done.boot_s,
        job_s=done.job_s,
        trouble=done.trouble,
        tree=tree,
        at=_now(),
        steps=_steps(steps, done.said, out),
        counts=_counts(out),
    )


def _steps(wanted: Sequence[str], said: str, out: Path) -> tuple[StepDone, ...]:
    ended = {}
    for line in said.splitlines():
        words = line.split()
        if len(words) == 4 and words[0] == "STEP":
            ended[words[1]] = (int(words[2]), int(words[3]))
    made = []
    for name in wanted:
        code, seconds = ended.get(name, (None, None))
        made.append(StepDone(name, code, seconds, _essence(name, out)))
    return tuple(made)


_TESTS = re.compile(r"\b\d+ (?:passed|failed|error)[^\n]*? in ")


def _essence(step: str, out: Path) -> str:
    """A line of what the step said: tests' counts, members that are equal."""
    if step == "replay":
        return "; ".join(
            f"{kit} {equal_members(_line(out / f'replay-{kit}.json')) or 'not compared'}" for kit in KITS
        )
    found = _TESTS.findall(_line(out / f"{step}.log"))
    return found[-1].removesuffix(" in ") if found else ""


def equal_members(result: str) -> str:
    """ "9 of 9", from what `replay --json` printed; empty if it printed nothing."""
    try:
        parsed = json.loads(result)
    except ValueError:
        return ""
    compared = len(parsed["compared"])
    return f"{compared - len(parsed['differences'])} of {compared}"


def _counts(out: Path) -> Counts:
    archives = [*out.glob("gates/*/run-*/*.tar.gz"), *out.glob("*.tar.gz")]
    totals = Counter[str]()
    for archive in archives:
        capture = json.loads(read_archive(archive).members[ACCOUNTING])["capture"]
        totals["received"] += capture["received"]
        totals["lost"] += capture["decode_errors"]
        totals["misses"] += capture["recursion_misses"]
        for kind in capture["kinds"].values():
            totals["lost"] += kind["dropped"] + kind["oversized"] + kind["fault"]
    return Counts(len(archives), totals["received"], totals["lost"], totals["misses"])


def _line(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def write(done: RowDone, path: Path) -> None:
    """As JSON."""
    path.write_text(json.dumps(asdict(done), indent=2) + "\n", encoding="utf-8")
