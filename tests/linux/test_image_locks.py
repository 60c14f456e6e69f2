"""Images are what their locks say, whoever builds them and wherever; nothing else is built or measured."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import docker
import pytest
from attrs import evolve

from harness.bench import Bench
from harness.bundle.reader import read_archive
from harness.cli import main
from harness.engine.daemon import engine_paths
from harness.engine.image_lock import LOCK_NAME, ImageLock, read_lock
from harness.engine.images import BuiltImage, build_image, ensure_image, kept_image
from harness.engine.layer_plans import check_downloads
from harness.engine.locked_images import image_for_run
from harness.engine.recipe import IMAGES, load_base, load_recipe
from harness.errors import EvidenceError
from harness.gates.catalog import all_images, find_fixture
from harness.gates.probe import probe
from harness.gates.runner import run_gates
from harness.host.state import State
from harness.plan import FIXTURES, Plan, plan_fixture
from harness.run import measure
from harness.scaffold import RUNTIMES
from tests.linux.saved_images import saved_and_loaded

pytestmark = pytest.mark.linux

REPOSITORY = IMAGES.parent


def lock_in(folder: Path) -> ImageLock:
    lock = read_lock(folder)
    assert lock is not None
    return lock


def _one_of_each_kind() -> list[str]:
    """The smallest image of each kind: for every layer that an image may have, one that has it.

    Every other image is built when its gate is run, and must be the one of its lock there.
    """
    smallest: dict[tuple[str, ...], tuple[int, str]] = {}
    for folder in all_images(FIXTURES, candidates=False):
        lock = lock_in(folder)
        kind = tuple(layer.title for layer in lock.layer)
        smallest[kind] = min(smallest.get(kind, (lock.size, lock.name)), (lock.size, lock.name))
    return sorted(name for _, name in smallest.values())


@pytest.fixture(autouse=True)
def same_state(state: State, engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands use this session's state and engine."""
    monkeypatch.setenv("ASSAY_RUNNER_STATE", str(state.root))


@pytest.fixture
def fixture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A fixture of its own name, locked, its image built and not loaded."""
    name = f"test-{tmp_path.name.replace('_', '-').lower()[-40:]}"
    assert main(["-q", "new-fixture", name, "--runtime", "python", "--folder", str(tmp_path)]) == 0
    capsys.readouterr()
    return tmp_path / name


LOCKED = _one_of_each_kind()


def flip(path: Path, at: int = -10) -> None:
    """Change one bit of one byte; a link to the file becomes a file of its own."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.unlink()
    path.write_bytes(data)


def known_to(engine: docker.DockerClient) -> set[str]:
    return {str(image.id) for image in engine.images.list(all=True)}


# The same everywhere


def test_empty_caches_another_umask_time_zone_and_locale_give_what_the_locks_say(
    state: State, fixture: Path
) -> None:
    """One cold build for every image, and for one that is not what its lock says any more."""
    agent = fixture / "agent.py"
    agent.write_text(agent.read_text() + "# more\n")
    env = {"ASSAY_RUNNER_STATE": str(state.root), "TZ": "Asia/Tokyo", "LC_ALL": "de_DE.UTF-8"}
    done = subprocess.run(
        [sys.executable, "-m", "harness", "image", "verify", *LOCKED, str(fixture)],
        cwd=REPOSITORY,
        env=os.environ | env,
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [f"verified {name} {lock_in(FIXTURES / name).id}" for name in LOCKED]
    titles = ("debian", "node", "assay", "npm", "pip", "app")
    assert all(f"built image layer {title}" in done.stderr for title in titles)
    assert done.returncode == 4
    assert f"{fixture / LOCK_NAME}: ImageLayerDiffers: layer app is sha256:" in done.stderr
    assert "first file: opt/app/agent.py: (100644 " in done.stderr
    assert list(state.root.glob("verify-*")) == []


def test_a_rebuild_from_kept_downloads_needs_no_network(state: State, tmp_path: Path) -> None:
    """npm's and pip's layers, with links to the downloads and to the other layers, and no link but lo."""
    own = tmp_path / "state" / "cache"
    (own / "layers").mkdir(parents=True)
    for name in ("sha256", "npm", "wheels"):
        (own / name).symlink_to(state.cache / name)
    for name in LOCKED:
        image = build_image(name, state=state.root, fixtures=FIXTURES, progress=print)
        for title, layer in image.parts:
            for path in layer.path.parent.glob(f"{layer.path.stem}.*"):
                if title not in ("npm", "pip") and not (own / "layers" / path.name).is_symlink():
                    (own / "layers" / path.name).symlink_to(path)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "harness", "image", "lock", *LOCKED],
        cwd=REPOSITORY,
        env=os.environ | {"ASSAY_RUNNER_STATE": str(own.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{FIXTURES / name / LOCK_NAME}: unchanged" for name in LOCKED]
    built = [line for line in done.stderr.splitlines() if line.startswith("building image layer ")]
    assert sorted(line.removeprefix("building image layer ") for line in built) == ["npm", "pip"]


@pytest.mark.parametrize("name", LOCKED)
def test_an_image_is_the_locked_one_also_after_it_was_saved_and_loaded(
    name: str, engine: docker.DockerClient, tmp_path: Path
) -> None:
    assert main(["-q", "image", "build", name]) == 0
    lock = lock_in(FIXTURES / name)
    assert saved_and_loaded(engine, lock.id, tmp_path / "saved.tar") == lock.id


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("kernel-only", 36_000_000),
        ("anthropic", 104_000_000),
        ("gemini-google-genai", 104_000_000),
        ("openai-agents", 273_000_000),
    ],
)
def test_images_stay_below_their_limit(
    state: State, engine: docker.DockerClient, name: str, limit: int
) -> None:
    """As `image list` says it, and as the engine does: it counts files without tar's headers and padding."""
    image = ensure_image(engine, name, state=state.root, fixtures=FIXTURES, progress=print)
    assert engine.images.get(image.id).attrs["Size"] < image.size <= limit


# One flipped byte


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("kernel-only", "images/base.lock.toml", b'sha256 = "'),
        ("openai-agents", "images/node/package-lock.json", b'"integrity": "sha512-'),
        ("openai-agents", "runner-fixtures/openai-agents/package-lock.json", b'"integrity": "sha512-'),
        ("kernel-only", "runner-fixtures/kernel-only/agent.py", b"main"),
        ("kernel-only", "harness/policy/proxy.py", b"import "),
        ("kernel-policy", "images/shared/file_server.py", b"import "),
        ("kernel-only", f"runner-fixtures/kernel-only/{LOCK_NAME}", b'digest = "sha256:'),
        ("kernel-only", f"runner-fixtures/kernel-only/{LOCK_NAME}", b'id = "sha256:'),
    ],
)
def test_one_other_byte_in_any_input_stops_the_build_by_name(
    state: State, engine: docker.DockerClient, tmp_path: Path, name: str, file: str, text: bytes
) -> None:
    for part in ("bpf", "harness", "images", "runner-fixtures"):
        shutil.copytree(REPOSITORY / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    data = bytearray((tmp_path / file).read_bytes())
    at = data.index(text) + len(text)
    data[at] = ord("0") if data[at] != ord("0") else ord("1")
    (tmp_path / file).write_bytes(data)
    before = known_to(engine)
    done = subprocess.run(
        [sys.executable, "-m", "harness", "image", "build", name],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "ASSAY_RUNNER_STATE": str(state.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert f"assay-runner: {tmp_path / file}: " in done.stderr
    assert "assay-runner image lock" in done.stderr
    assert known_to(engine) == before


@pytest.fixture
def own_caches(
    state: State, engine: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A state whose caches are links into the session's, one by one, with the session's engine."""
    own = tmp_path / "own" / "cache"
    for name in ("sha256", "layers"):
        (own / name).mkdir(parents=True)
        for path in (state.cache / name).iterdir():
            (own / name / path.name).symlink_to(path)
    monkeypatch.setenv("ASSAY_RUNNER_STATE", str(own.parent))
    monkeypatch.setenv("DOCKER_HOST", engine_paths(state).url)
    return own


@pytest.mark.parametrize("kind", ["download", "layer", "list"])
def test_one_other_byte_in_a_cache_stops_the_build_by_name(
    fixture: Path,
    own_caches: Path,
    kind: str,
    engine: docker.DockerClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = kept_image(load_recipe(fixture), state=own_caches.parent)
    assert image is not None
    _, debian = image.parts[0]
    files = {
        "download": own_caches / "sha256" / load_base().lock.deb[3].sha256,
        "layer": debian.path,
        "list": debian.list_path,
    }
    flip(files[kind], at=1000)
    before = known_to(engine)
    assert main(["-q", "image", "build", str(fixture)]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert f"assay-runner: {files[kind]}: " in said.err
    assert known_to(engine) == before
    flip(files[kind], at=1000)
    assert main(["-q", "image", "build", str(fixture)]) == 0  # it was that one byte
    assert known_to(engine) - before == {lock_in(fixture).id}


@pytest.mark.parametrize("kind", ["npm", "pip"])
def test_one_other_byte_in_a_kept_package_stops_the_build_by_name(
    kind: str, state: State, own_caches: Path, engine: docker.DockerClient, capsys: pytest.CaptureFixture[str]
) -> None:
    (name,) = (one for one in LOCKED if kind in [layer.title for layer in lock_in(FIXTURES / one).layer])
    build_image(name, state=state.root, fixtures=FIXTURES, progress=print)
    app = load_recipe(FIXTURES / name).file.app
    if kind == "npm":
        packages = json.loads((FIXTURES / name / str(app.npm)).read_bytes())["packages"]
        digest = base64.b64decode(packages["node_modules/ai"]["integrity"].removeprefix("sha512-")).hex()
        place = Path("npm/_cacache/content-v2/sha512", digest[:2], digest[2:4], digest[4:])
    else:
        digest = re.findall(r"sha256:(\w{64})", (FIXTURES / name / str(app.pip)).read_text())[0]
        (wheel,) = (state.cache / "wheels" / digest).iterdir()
        place = wheel.relative_to(state.cache)
    (own_caches / place).parent.mkdir(parents=True)
    (own_caches / place).symlink_to(state.cache / place)
    check_downloads(load_recipe(FIXTURES / name), own_caches.parent)
    flip(own_caches / place)
    before = known_to(engine)
    assert main(["-q", "image", "build", name]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert f"assay-runner: {own_caches / place}: PackageDigestMismatch" in said.err
    assert known_to(engine) == before


def test_an_image_without_a_lock_is_not_built(fixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fixture / LOCK_NAME).unlink()
    assert main(["-q", "image", "build", str(fixture)]) == 4
    assert f"{fixture / LOCK_NAME}: ImageUnlocked" in capsys.readouterr().err


# Refreshing


def test_a_refreshed_lock_says_what_changed_and_then_nothing(
    fixture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = lock_in(fixture)
    agent = fixture / "agent.py"
    agent.write_text(agent.read_text() + "# more\n")
    assert main(["-q", "image", "lock", str(fixture)]) == 0
    said = capsys.readouterr().out.splitlines()
    now = lock_in(fixture)
    assert said[0] == f"{fixture / LOCK_NAME}: changed"
    assert [line.strip().partition(":")[0] for line in said[1:]] == [
        f"input {fixture.name}/agent.py",
        "layer app",
        "file list of layer app",
        "files",
        "id",
    ]
    assert f"{before.id} -> {now.id}" in said[-1]
    assert main(["-q", "image", "lock", str(fixture)]) == 0
    assert capsys.readouterr().out == f"{fixture / LOCK_NAME}: unchanged\n"


# What is measured


@pytest.mark.parametrize("command", ["run", "gate"])
def test_an_image_that_is_not_the_locked_one_is_not_measured(
    command: str, fixture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.tar.gz"
    agent = fixture / "agent.py"
    agent.write_text(agent.read_text() + "# more\n")
    locked = lock_in(fixture).id
    assert main(["-q", command, str(fixture), "-o", str(output)]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert locked in said.err
    assert said.err.count("sha256:") == 2
    assert str(agent) in said.err
    assert "assay-runner image lock" in said.err
    assert not output.exists()


def test_without_a_lock_nothing_is_measured(
    fixture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fixture / LOCK_NAME).unlink()
    assert main(["-q", "run", str(fixture), "-o", str(tmp_path / "a.tar.gz")]) == 3
    assert "the lock says nothing" in capsys.readouterr().err
    assert not (tmp_path / "a.tar.gz").exists()


def test_an_unlocked_image_is_measured_on_demand_and_the_archive_says_so(
    bench: Bench, fixture: Path, tmp_path: Path
) -> None:
    gates = [find_fixture(str(fixture))]
    (locked,) = run_gates(bench, gates, runs=1, out=tmp_path / "locked", say=print)
    agent = fixture / "agent.py"
    agent.write_text(agent.read_text() + "# more\n")
    (unlocked,) = run_gates(bench, gates, runs=1, out=tmp_path / "un", say=print, image_unlocked=True)
    lock = lock_in(fixture)
    for result, expected in ((locked, True), (unlocked, False)):
        assert result.passed
        assert result.image_locked is expected
        told = json.loads(read_archive(result.runs[0].archive).members["companion/runspec.json"])
        assert told["image_locked"] is expected
        assert (told["image_id"] == lock.id) is expected
        assert (told["image_files_sha256"] == lock.files) is expected
    summary = json.loads((tmp_path / "un" / "summary.json").read_bytes())
    assert summary["gates"][0]["image_locked"] is False


def test_a_tag_over_another_image_is_refused_and_never_run(
    engine: docker.DockerClient,
    bench: Bench,
    fixture: Path,
    probe_image: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lock = lock_in(fixture)
    foreign = str(engine.images.get(probe_image).id)
    tag = f"assay-runner/{fixture.name}:{lock.id.removeprefix('sha256:')[:12]}"
    engine.api.tag(probe_image, *tag.split(":"), force=True)
    assert lock.id not in known_to(engine)
    with pytest.raises(EvidenceError, match=foreign) as caught:
        image_for_run(engine, fixture, state=bench.state, progress=print, unlocked=False)
    assert lock.id in str(caught.value)
    assert lock.id not in known_to(engine)
    assert main(["-q", "image", "build", str(fixture)]) == 0  # the remedy of the hint
    assert engine.images.get(tag).id == lock.id
    engine.api.tag(probe_image, *tag.split(":"), force=True)
    capsys.readouterr()
    assert main(["-q", "gate", str(fixture), "-o", str(tmp_path / "out")]) == 3
    said = capsys.readouterr().err
    assert foreign in said
    assert lock.id in said
    assert not (tmp_path / "out").exists()
    (result,) = run_gates(
        bench, [find_fixture(str(fixture))], runs=1, out=tmp_path / "un", say=print, image_unlocked=True
    )
    assert (result.passed, result.image_id, result.image_locked) == (True, lock.id, True)


# The file list


@pytest.fixture
def plan(bench: Bench) -> Plan:
    """A run of kernel-policy with its image's file list."""
    fixture = find_fixture("kernel-policy")
    image = image_for_run(
        bench.client, fixture.folder, state=bench.state, progress=bench.progress, unlocked=False
    )
    return plan_fixture(fixture, image, run_id=None)


def evidence_of(bench: Bench, plan: Plan) -> set[str]:
    return set(measure(bench, plan).assembled.surface.filesystem_paths)


def test_reads_of_the_image_are_plumbing_because_the_list_says_so(bench: Bench, plan: Plan) -> None:
    files = plan.image.files
    assert files is not None
    assert evidence_of(bench, plan) == {"/workspace/policy-input.txt"}
    hidden = {b"/opt/app/client.py", b"/usr/lib/python3.11", b"/usr/lib/python3.11/json/__init__.pyc"}
    assert hidden <= files.paths
    without = evolve(files, paths=files.paths - hidden)
    found = evidence_of(bench, evolve(plan, image=evolve(plan.image, files=without)))
    assert found == {os.fsdecode(path) for path in hidden} | {"/workspace/policy-input.txt"}


def test_what_is_mounted_below_a_runtime_root_is_evidence(bench: Bench, plan: Plan) -> None:
    """Whatever is declared, and although the list has a file of that name."""
    image = evolve(plan.image, runtime_roots=(*plan.image.runtime_roots, "/workspace"))
    assert evidence_of(bench, evolve(plan, image=image)) == {"/workspace/policy-input.txt"}
    assert image.files is not None
    claimed = evolve(image.files, paths=image.files.paths | {b"/workspace/policy-input.txt"})
    found = evidence_of(bench, evolve(plan, image=evolve(image, files=claimed)))
    assert found == {"/workspace/policy-input.txt"}


def test_without_a_list_nothing_is_taken_for_the_images(bench: Bench, plan: Plan) -> None:
    found = evidence_of(bench, evolve(plan, image=evolve(plan.image, files=None)))
    assert {"/workspace/policy-input.txt", "/opt/app/client.py"} < found


def test_the_list_is_what_the_image_holds(engine: docker.DockerClient, state: State) -> None:
    image: BuiltImage = ensure_image(
        engine, "kernel-only", state=state.root, fixtures=FIXTURES, progress=print
    )
    code = (
        "import hashlib,os,json\n"
        "out=[]\n"
        "for top in ('/opt','/usr','/lib','/lib64','/bin','/workspace'):\n"
        "  if os.path.islink(top): out.append([top,'120000',os.readlink(top)]); continue\n"
        "  for folder, folders, files in os.walk(top):\n"
        "    out.append([folder,'040000',''])\n"
        "    for name in [f for f in folders if os.path.islink(folder+'/'+f)]+files:\n"
        "      p=folder+'/'+name\n"
        "      if os.path.islink(p): out.append([p,'120000',os.readlink(p)])\n"
        "      else:\n"
        "        mode='100755' if os.stat(p).st_mode&0o111 else '100644'\n"
        "        out.append([p,mode,hashlib.sha256(open(p,'rb').read()).hexdigest()])\n"
        "print(json.dumps(out))"
    )
    said = engine.containers.run(
        image.id,
        entrypoint=["/usr/bin/python3.11", "-I", "-B", "-c", code],
        network_mode="none",
        read_only=True,
        remove=True,
    )
    found = {(path, mode, content) for path, mode, content in json.loads(said)}
    listed = {(f"/{line.path}", line.mode, line.content) for line in image.files()}
    assert {
        one for one in listed if one[0].split("/")[1] in ("opt", "usr", "lib", "lib64", "bin", "workspace")
    } == found


# A new fixture


def test_new_fixtures_pass_their_gates_and_a_probe_at_once(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / "mine" / f"demo-{runtime}" for runtime in RUNTIMES]
    for folder, runtime in zip(folders, RUNTIMES, strict=True):
        assert (
            main(["-q", "new-fixture", folder.name, "--runtime", runtime, "--folder", str(folder.parent)])
            == 0
        )
        assert f"assay-runner gate {folder} {folder}:multi-tool" in capsys.readouterr().out
    fixtures = [find_fixture(f"{folder}{way}") for folder in folders for way in ("", ":multi-tool")]
    said: list[str] = []
    results = run_gates(bench, fixtures, runs=3, out=tmp_path / "out", say=said.append)
    assert [(result.passed, result.image_locked) for result in results] == [(True, True)] * 4
    assert said == [
        f"PASS: runner-spike {folder.name}{way} {what}"
        for folder in folders
        for way in ("", " multi-tool")
        for what in ("acceptance", "acceptance", "acceptance", "three-run determinism")
    ]
    report = probe(bench, fixtures[0], out=tmp_path / "probes")
    assert [row.requirement for row in report.rows if not row.passed] == []
    assert (report.passed, report.sdk_name, report.image_locked) == (True, "python", True)
