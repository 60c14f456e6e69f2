"""Kits on the real engine: packed, carried to a place without network, fixtures or caches, and replayed."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest

from harness.bench import Bench
from harness.bundle.reader import read_archive
from harness.bundle.verify import check
from harness.bundle.writer import write_archive
from harness.contracts.canonical import load_json, sha256_of, to_bytes
from harness.contracts.companion import COMPANION_SCHEMAS, RUNSPEC
from harness.contracts.manifest import V0_MEMBERS
from harness.engine import daemon
from harness.engine.borrowed_images import return_image
from harness.engine.locked_images import image_for_run
from harness.errors import InputError
from harness.evidence.model import Role
from harness.gates.catalog import find_fixture
from harness.host.state import RunFolder, State
from harness.kit import pack
from harness.plan import FIXTURES, plan_fixture
from harness.run import measure
from tests.faults.agents import UNTIL_LET_GO, agent
from tests.faults.commands import command, in_state
from tests.faults.midrun import is_ready, let_go, meanwhile, until

pytestmark = pytest.mark.linux

# Reads the file that its input names, and looks into an empty folder.
FOLLOWS = """
import os
open("/workspace/" + open("/workspace/which").read()).read()
open("/workspace/seen", "w").write(str(os.listdir("/workspace/empty")))
"""
# As on a machine that has the program alone: no fixture, no recipe, no route.
ELSEWHERE = """
set -e
for folder in runner-fixtures images; do mount -t tmpfs none "$1/$folder"; done
test -z "$(ip route)"
shift
exec "$@"
"""
Done: TypeAlias = "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def away() -> Iterator[State]:
    """A state folder in which nothing was ever built; its engine is started within `elsewhere`."""
    root = Path(tempfile.mkdtemp(prefix="assay-", dir="/tmp"))
    yield State(root)
    daemon.stop_engine(State(root))
    shutil.rmtree(root)


def said(state: State, *arguments: str | Path) -> Done:
    return subprocess.run(
        command(*arguments), env=in_state(state), capture_output=True, text=True, timeout=240, check=False
    )


def elsewhere(state: State, *arguments: str | Path) -> Done:
    """As `said`, in a network namespace without routes and without this repository's fixtures."""
    unshare = ["unshare", "--net", "--mount", "sh", "-c", ELSEWHERE, "sh", str(FIXTURES.parent)]
    return subprocess.run(
        [*unshare, *command(*arguments)],
        env=in_state(state),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def measured(bench: Bench, name: str, folder: Path) -> Path:
    """The archive of one run of a fixture."""
    fixture = find_fixture(name)
    image = image_for_run(
        bench.client,
        fixture.folder.parent / fixture.file.image,
        state=bench.state,
        progress=print,
        unlocked=True,
    )
    plan = plan_fixture(fixture, image, run_id=None)
    path = folder / f"{name}.tar.gz"
    measure(bench, plan).write(path)
    return path


@pytest.mark.parametrize(
    ("name", "outside"), [("kernel-only", False), ("openai-agents", False), ("openai-agents", True)]
)
def test_a_replay_elsewhere_has_the_same_bytes(
    bench: Bench, away: State, tmp_path: Path, name: str, outside: bool
) -> None:
    """`outside`: the engine lives in the network namespace of this host, the harness does not."""
    if outside:
        daemon.stop_engine(away)
        daemon.ensure_engine(away).close()
    archive = measured(bench, name, tmp_path)
    kit, new = tmp_path / "run.kit", tmp_path / "new.tar.gz"
    packed = said(bench.state, "kit", archive, "-o", kit)
    assert packed.returncode == 0, packed.stderr
    replayed = elsewhere(away, "replay", kit, "--trust", "--json", "-o", new)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    result = json.loads(replayed.stdout)
    assert (result["equal"], result["differences"], len(result["compared"])) == (True, [], 10)
    old_members, new_members = read_archive(archive).members, check(new).members
    assert all(old_members[member] == new_members[member] for member in result["compared"])
    assert result["identity"] != result["expected_identity"], "it was measured again"
    with closing(daemon.ensure_engine(away)) as client:
        assert client.images.list(all=True) == []
        assert client.containers.list(all=True) == []
    assert sorted(path.name for path in away.root.iterdir()) == ["cache", "engine", "locks", "runs"]


# A tool that it was given, by a link, after the original has changed.
RUNS_A_TOOL = f"""{UNTIL_LET_GO}
import subprocess
print(subprocess.run(["/workspace/latest"], check=True, capture_output=True, text=True).stdout)
"""


def test_programs_and_links_are_given_and_digests_are_of_what_was(
    bench: Bench, away: State, tmp_path: Path
) -> None:
    inputs = tmp_path / "inputs"
    (inputs / "bin").mkdir(parents=True)
    tool = inputs / "bin" / "tool"
    text = "#!/usr/bin/python3.11 -S\nprint('mine')\n"
    tool.write_text(text)
    tool.chmod(0o755)
    (inputs / "latest").symlink_to("bin/tool")
    plan = agent(bench, RUNS_A_TOOL, inputs=inputs)

    def let_go_on(state: State, *, change: bool) -> None:
        until(lambda: is_ready(state, plan.spec.run_id))
        if change:
            tool.write_text("changed")
        let_go(state, plan.spec.run_id)

    with meanwhile(partial(let_go_on, bench.state, change=True)):
        made = measure(bench, plan)
    made.verdict()
    assert made.output[Role.SUBJECT].stdout == b"mine\n\n"
    made.write(tmp_path / "run.tar.gz")
    spec = load_json(read_archive(tmp_path / "run.tar.gz").members[RUNSPEC], "runspec")
    assert spec["inputs"] == {"bin/tool": sha256_of(text.encode())}
    assert (spec["input_programs"], spec["input_links"]) == (["bin/tool"], {"latest": "bin/tool"})
    kit, packing = tmp_path / "run.kit", ("kit", tmp_path / "run.tar.gz", "--work", inputs, "-o")
    told = said(bench.state, *packing, kit)
    assert (told.returncode, "another 'bin/tool'" in told.stderr) == (2, True), told.stderr
    tool.write_text(text)
    tool.chmod(0o644)
    assert said(bench.state, *packing, kit).returncode == 2  # it could be executed
    tool.chmod(0o700)
    assert said(bench.state, *packing, kit).returncode == 0
    with meanwhile(partial(let_go_on, away, change=False)):
        replayed = said(away, "replay", kit, "--trust")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


@pytest.mark.alone
def test_what_a_killed_replay_had_in_the_engine_goes_with_the_next_start(
    bench: Bench, away: State, tmp_path: Path
) -> None:
    plan = agent(bench, UNTIL_LET_GO)

    def release(state: State) -> None:
        until(lambda: is_ready(state, plan.spec.run_id))
        let_go(state, plan.spec.run_id)

    with meanwhile(partial(release, bench.state)):
        made = measure(bench, plan)
    made.verdict()
    made.write(tmp_path / "run.tar.gz")
    scratch, kit = tmp_path / "scratch", tmp_path / "run.kit"
    scratch.mkdir()
    pack(bench.client, tmp_path / "run.tar.gz", kit, scratch=scratch, inputs=None, policy=None)
    with subprocess.Popen(command("replay", kit, "--trust"), env=in_state(away)) as replaying:
        until(lambda: is_ready(away, made.plan.spec.run_id))
        replaying.kill()
    with closing(daemon.ensure_engine(away)) as client:
        assert [image.id for image in client.images.list(all=True)] == [made.plan.image.id]
        told: list[str] = []
        with Bench(away, told.append):
            pass
        swept = [made.plan.spec.run_id, f"replay-{made.plan.image.id[7:19]}"]
        assert told == [f"removed what the killed run {name} left behind" for name in sorted(swept)]
        assert client.images.list(all=True) == []
        assert client.containers.list(all=True) == []
    with meanwhile(partial(release, away)):
        assert said(away, "replay", kit, "--trust").returncode == 0
    assert sorted(path.name for path in away.root.iterdir()) == ["cache", "engine", "locks", "runs"]


@pytest.mark.parametrize("note", ["", "sha256:", "sha256:" + "0" * 64])
def test_a_note_of_nothing_stops_no_start(bench: Bench, tmp_path: Path, note: str) -> None:
    """A replay can be killed before its note is written, or before its image is loaded."""
    folder = RunFolder.create(State(tmp_path).prepare(), "replay-0")
    (folder.path / "image").write_text(note)
    return_image(bench.client, folder)
    folder.remove()
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.fixture(scope="module")
def followed(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An archive of an agent that does what its input says, and the inputs."""
    folder = tmp_path_factory.mktemp("followed")
    inputs = folder / "inputs"
    (inputs / "empty").mkdir(parents=True)
    for name, text in (("which", "a"), ("a", ""), ("b", "")):
        (inputs / name).write_text(text)
    made = measure(bench, agent(bench, FOLLOWS, inputs=inputs))
    made.verdict()
    made.write(folder / "run.tar.gz")
    return folder / "run.tar.gz", inputs


def test_the_same_archive_and_image_give_the_same_kit(
    bench: Bench, followed: tuple[Path, Path], tmp_path: Path
) -> None:
    archive, inputs = followed
    kits = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        copy = shutil.copytree(inputs, tmp_path / f"inputs-{number}")
        kits.append(tmp_path / f"{number}.kit")
        pack(bench.client, archive, kits[-1], scratch=tmp_path / str(number), inputs=copy, policy=None)
    assert kits[0].read_bytes() == kits[1].read_bytes()
    assert said(bench.state, "replay", kits[0], "--trust").returncode == 0


def test_a_changed_input_replays_to_another_run(
    bench: Bench, followed: tuple[Path, Path], tmp_path: Path
) -> None:
    """A forger makes every digest fit; the run itself then tells."""
    archive, inputs = followed
    other = shutil.copytree(inputs, tmp_path / "other")
    (other / "which").write_text("b")
    members = read_archive(archive).members
    spec = load_json(members[RUNSPEC], "runspec")
    spec["inputs"]["which"] = sha256_of(b"b")
    v0 = {name: members[name] for name in V0_MEMBERS[1:]}
    companion = {name: members[name] for name in COMPANION_SCHEMAS} | {RUNSPEC: to_bytes(spec)}
    write_archive(tmp_path / "forged.tar.gz", v0, companion, spec["run_id"])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    kit, new = tmp_path / "forged.kit", tmp_path / "new.tar.gz"
    pack(bench.client, tmp_path / "forged.tar.gz", kit, scratch=scratch, inputs=other, policy=None)
    told = said(bench.state, "replay", kit, "--trust", "-o", new)
    assert told.returncode == 1
    assert "capability-surface.json at /filesystem_paths/0" in told.stdout
    assert '    kit:    "/workspace/a"\n    replay: "/workspace/b"\n' in told.stdout
    assert "  + /workspace/b" in told.stdout
    assert "  - /workspace/a" in told.stdout
    assert "the replay differs from what was measured" in told.stderr
    check(new)


def test_what_the_run_was_not_given_is_not_packed(
    bench: Bench, followed: tuple[Path, Path], tmp_path: Path
) -> None:
    archive, inputs = followed
    kit = tmp_path / "x.kit"
    told = said(bench.state, "kit", archive, "-o", kit)
    assert (told.returncode, "--work" in told.stderr) == (2, True)
    other = shutil.copytree(inputs, tmp_path / "other")
    (other / "a").write_text("changed")
    with pytest.raises(InputError, match="another 'a' than there is"):
        pack(bench.client, archive, kit, scratch=tmp_path, inputs=other, policy=None)
    shutil.rmtree(other)
    shutil.copytree(inputs, other)
    (other / "empty").rmdir()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(InputError) as caught:
        pack(bench.client, archive, kit, scratch=scratch, inputs=other, policy=None)
    assert caught.value.place.endswith("/input_folders/0")
    assert not kit.exists()


def test_an_image_that_is_not_there_is_not_packed(
    away: State, followed: tuple[Path, Path], tmp_path: Path
) -> None:
    archive, inputs = followed
    with closing(daemon.ensure_engine(away)) as client, pytest.raises(InputError, match="has no image"):
        pack(client, archive, tmp_path / "x.kit", scratch=tmp_path, inputs=inputs, policy=None)
    assert list(tmp_path.iterdir()) == []


def test_without_trust_nothing_is_touched(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    told = said(state, "replay", tmp_path / "stranger.kit")
    assert (told.returncode, "--trust" in told.stderr) == (2, True)
    assert not state.root.exists()


def test_a_kit_that_does_not_hold_starts_nothing(
    bench: Bench, followed: tuple[Path, Path], tmp_path: Path
) -> None:
    archive, inputs = followed
    scratch, kit = tmp_path / "scratch", tmp_path / "x.kit"
    scratch.mkdir()
    pack(bench.client, archive, kit, scratch=scratch, inputs=inputs, policy=None)
    with kit.open("r+b") as file:
        file.seek(-2000, 2)
        byte = file.read(1)
        file.seek(-2000, 2)
        file.write(bytes([byte[0] ^ 1]))
    state = State(tmp_path / "state")
    told = said(state, "replay", kit, "--trust")
    assert told.returncode == 4, told.stderr
    assert daemon.engine_status(state).pid is None
    assert sorted(path.name for path in state.root.glob("scratch-*")) == []
