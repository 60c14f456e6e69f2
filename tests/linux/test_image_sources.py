"""Debian packages, npm trees and wheels: only what is pinned gets in, and none of its code is run."""

import hashlib
import json
import subprocess
import tarfile
import zipfile
from base64 import b64encode
from pathlib import Path

import pytest

from harness.engine import debian, packages
from harness.engine.bytecode import with_bytecode
from harness.engine.debian import MIRROR_VARIABLE, base_tree, fetch
from harness.engine.layers import Entry, write_layer
from harness.engine.packages import npm_tree, pip_tree, tool_environment
from harness.engine.pins import pin_debian, pin_npm, pin_pip
from harness.engine.recipe import Deb, load_base
from harness.errors import AssayError, EnvironmentUnfitError, InputError, VerificationError
from harness.host.state import State

pytestmark = pytest.mark.linux

# Debian packages


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A mirror of one package, with a file, a link, a program and what must be filtered."""
    root = tmp_path / "package"
    for name, text in {
        "DEBIAN/control": "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n",
        "DEBIAN/postinst": "#!/bin/false\n",
        "lib/tiny/data": "data",
        "usr/bin/tiny": "program",
        "usr/share/doc/tiny/README": "prose",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "usr/bin/tiny").chmod(0o4755)
    (root / "DEBIAN/postinst").chmod(0o755)
    (root / "usr/bin/alias").symlink_to("tiny")
    target = tmp_path / "mirror/pool/main/t/tiny.deb"
    target.parent.mkdir(parents=True)
    subprocess.run(["dpkg-deb", "-b", "--root-owner-group", root, target], check=True, capture_output=True)
    return tmp_path / "mirror"


def tiny(mirror: Path) -> Deb:
    data = (mirror / "pool/main/t/tiny.deb").read_bytes()
    return Deb("tiny", "1", "pool/main/t/tiny.deb", len(data), hashlib.sha256(data).hexdigest())


def test_a_package_is_fetched_once_and_unpacked_under_usr(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, f"file:{mirror}")
    deb = tiny(mirror)
    path = fetch(deb, tmp_path)
    assert path == tmp_path / "sha256" / deb.sha256
    (mirror / "pool/main/t/tiny.deb").unlink()
    assert fetch(deb, tmp_path) == path  # no mirror is needed any more
    assert debian._unpack(path) == {
        "usr/lib/tiny/data": Entry(source=b"data"),
        "usr/bin/tiny": Entry(source=b"program", executable=True),
        "usr/bin/alias": Entry(target="tiny"),
        "usr/share/doc/tiny/README": Entry(source=b"prose"),
    }


def test_a_mirror_with_another_package_is_caught(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, f"file:{mirror}")
    deb = tiny(mirror)
    with (mirror / deb.path).open("ab") as file:
        file.write(b"x")
    with pytest.raises(VerificationError, match="PackageDigestMismatch"):
        fetch(deb, tmp_path)
    assert list((tmp_path / "sha256").iterdir()) == []


def test_a_changed_file_in_the_cache_is_caught_and_named(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, f"file:{mirror}")
    path = fetch(tiny(mirror), tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(VerificationError, match="PackageDigestMismatch") as caught:
        fetch(tiny(mirror), tmp_path)
    assert caught.value.place == str(path)


def test_a_package_that_no_mirror_has_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, f"file:{tmp_path}/none")
    with pytest.raises(EnvironmentUnfitError, match="tiny 1") as caught:
        fetch(Deb("tiny", "1", "pool/main/t/tiny.deb", 1, "0" * 64), tmp_path)
    assert MIRROR_VARIABLE in caught.value.hint


def test_bytecode_is_the_same_again_and_names_no_build_folder(state: State, tmp_path: Path) -> None:
    interpreter = base_tree(load_base(), state.cache)
    source = {"opt/app/mine.py": Entry(source=b"def f(x):\n    return {x, 'a', 'b'} - {'c', 1000}\n")}
    made = []
    for name in ("one", "another-folder"):
        (tmp_path / name).mkdir()
        tree = with_bytecode(source, interpreter, tmp_path / name)
        made.append(write_layer(tree, tmp_path / f"{name}.tar"))
        assert list(tree) == ["opt/app/mine.py", "opt/app/__pycache__/mine.cpython-311.pyc"]
    assert made[0].digest == made[1].digest
    assert str(tmp_path).encode() not in made[0].path.read_bytes()


@pytest.fixture
def apt(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like images/, and an apt that knows the suite "tiny" of the mirror and nothing else."""
    deb = tiny(mirror)
    index = mirror / "dists/tiny/main/binary-amd64/Packages"
    index.parent.mkdir(parents=True)
    index.write_text(
        f"Package: tiny\nVersion: 1\nArchitecture: all\nFilename: {deb.path}\nSize: {deb.size}\n"
        f"SHA256: {deb.sha256}\nDescription: x\n"
    )
    (mirror / "dists/tiny/Release").write_text("Suite: tiny\nCodename: tiny\nComponents: main\n")
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{mirror} tiny main\n")
    for name in ("state/lists/partial", "cache/archives/partial", "images"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list"; Dir::Etc::sourceparts "-";\n'
        f'Dir::State "{tmp_path}/state"; Dir::Cache "{tmp_path}/cache"; APT::Sandbox::User "root";\n'
        f'Dir::State::status "/dev/null"; APT::Architecture "amd64";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    subprocess.run(["apt-get", "-qq", "update"], check=True, capture_output=True)
    images = tmp_path / "images"
    (images / "base.toml").write_text(
        'schema = "assay.runner.base_image.v1"\nsuite = "tiny"\npackages = ["tiny"]\n'
    )
    return images


def test_debian_packages_are_locked_from_apts_lists(mirror: Path, apt: Path) -> None:
    pin_debian(apt)
    assert load_base(apt).lock.deb == (tiny(mirror),)


def test_a_package_that_apt_does_not_know_leaves_the_lock_as_it_was(apt: Path) -> None:
    pin_debian(apt)
    before = (apt / "base.lock.toml").read_bytes()
    (apt / "base.toml").write_text((apt / "base.toml").read_text().replace('["tiny"]', '["tiny", "other"]'))
    with pytest.raises(EnvironmentUnfitError, match="no other in tiny/main"):
        pin_debian(apt)
    assert (apt / "base.lock.toml").read_bytes() == before
    with pytest.raises(InputError, match="locks other packages"):
        load_base(apt)


# npm and pip


def npm_lock(folder: Path, *, integrity: str | None = None, manifest: dict[str, str] | None = None) -> Path:
    source = folder / "package"
    source.mkdir(parents=True)
    scripts = {"install": "touch /dev/shm/ran"}
    described = {"name": "tiny", "version": "1.0.0", "scripts": scripts, **(manifest or {})}
    (source / "package.json").write_text(json.dumps(described))
    for name in ("index.js", "README.md", "index.d.ts", "index.js.map"):
        (source / name).write_text("//\n")
    tarball = folder / "tiny.tgz"
    with tarfile.open(tarball, "w:gz") as tar:
        tar.add(source, "package")
    digest = b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    root = {"name": "x", "version": "1.0.0", "dependencies": {"tiny": f"file:{tarball}"}}
    package = {
        "version": "1.0.0",
        "resolved": f"file:{tarball}",
        "integrity": integrity or f"sha512-{digest}",
    }
    lock = {
        "name": "x",
        "version": "1.0.0",
        "lockfileVersion": 3,
        "packages": {"": root, "node_modules/tiny": package},
    }
    (folder / "package.json").write_text(json.dumps(root))
    (folder / "package-lock.json").write_text(json.dumps(lock))
    return folder / "package-lock.json"


def test_an_npm_tree_holds_what_programs_read_and_ran_nothing(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    tree = npm_tree(npm_lock(tmp_path / "lock"), tmp_path / "scratch", tmp_path)
    assert sorted(tree) == ["tiny/index.js", "tiny/package.json"]
    assert not Path("/dev/shm/ran").exists()


def test_an_npm_package_with_another_hash_is_caught(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    lock = npm_lock(tmp_path / "lock", integrity=f"sha512-{b64encode(bytes(64)).decode()}")
    with pytest.raises(VerificationError, match="PackageDigestMismatch") as caught:
        npm_tree(lock, tmp_path / "scratch", tmp_path)
    assert caught.value.place == str(lock)


def test_npm_packages_are_locked_by_hash_and_run_nothing(tmp_path: Path) -> None:
    lock = npm_lock(tmp_path)
    wanted = json.loads(lock.read_bytes())["packages"]["node_modules/tiny"]["integrity"]
    lock.unlink()
    pin_npm(lock)
    document = json.loads(lock.read_bytes())
    assert document["packages"]["node_modules/tiny"]["integrity"] == wanted
    assert not Path("/dev/shm/ran").exists()


def test_an_npm_lock_with_an_address_in_it_is_not_written(tmp_path: Path) -> None:
    lock = npm_lock(tmp_path, manifest={"license": "see http://nowhere/license"})
    before = lock.read_bytes()
    with pytest.raises(InputError, match="by its address") as caught:
        pin_npm(lock)
    assert caught.value.place == str(tmp_path / "package.json")
    assert lock.read_bytes() == before


def test_a_changed_file_in_npms_cache_is_caught_and_named(tmp_path: Path) -> None:
    lock = npm_lock(tmp_path / "lock")
    digest = hashlib.sha512((tmp_path / "lock/tiny.tgz").read_bytes()).hexdigest()
    kept = tmp_path / "npm/_cacache/content-v2/sha512" / digest[:2] / digest[2:4] / digest[4:]
    kept.parent.mkdir(parents=True)
    kept.write_bytes((tmp_path / "lock/tiny.tgz").read_bytes())
    packages.check_kept(lock, tmp_path)
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(VerificationError, match="PackageDigestMismatch") as caught:
        npm_tree(lock, tmp_path / "scratch", tmp_path)
    assert caught.value.place == str(kept)


def test_what_is_no_npm_lock_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "package-lock.json"
    for text in ("", "[]", '{"packages":[]}', '{"packages":{"a":{"integrity":"sha512-x"}}}'):
        lock.write_text(text)
        with pytest.raises(InputError, match="not a lock file"):
            packages.check_kept(lock, tmp_path)


def wheel_in(folder: Path, name: str) -> str:
    """Make the wheel of a package; its digest."""
    wheel, info = folder / f"{name}-1.0.0-cp311-cp311-manylinux_2_17_x86_64.whl", f"{name}-1.0.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}.py", f"print('{name}')\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_17_x86_64\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def pip_lock(folder: Path, *, digest: str | None = None) -> Path:
    folder.mkdir()
    found = wheel_in(folder, "tiny")
    lock = folder / "requirements.lock"
    lock.write_text(f"--no-index\n--find-links {folder}\ntiny==1.0.0 --hash=sha256:{digest or found}\n")
    return lock


def test_a_pip_tree_holds_the_wheels_for_the_image(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    tree = pip_tree(pip_lock(tmp_path / "lock"), tmp_path / "scratch", tmp_path)
    assert sorted(tree) == [
        "tiny-1.0.0.dist-info/INSTALLER",
        "tiny-1.0.0.dist-info/METADATA",
        "tiny-1.0.0.dist-info/WHEEL",
        "tiny.py",
    ]


@pytest.mark.parametrize(
    ("lock", "error"),
    [({"digest": "0" * 64}, VerificationError), ({}, EnvironmentUnfitError)],
    ids=["another hash", "no such wheel"],
)
def test_a_wheel_that_cannot_be_trusted_or_had_is_caught(
    tmp_path: Path, lock: dict[str, str], error: type[AssayError]
) -> None:
    (tmp_path / "scratch").mkdir()
    path = pip_lock(tmp_path / "lock", **lock)
    if error is EnvironmentUnfitError:
        next(path.parent.glob("*.whl")).unlink()
    with pytest.raises(error) as caught:
        pip_tree(path, tmp_path / "scratch", tmp_path)
    assert caught.value.place == str(path)


def test_wheels_are_fetched_once_and_checked_each_time(tmp_path: Path) -> None:
    lock = pip_lock(tmp_path / "lock")
    (wheel,) = lock.parent.glob("*.whl")
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    first = pip_tree(lock, tmp_path / "one", tmp_path)
    kept = tmp_path / "wheels" / hashlib.sha256(wheel.read_bytes()).hexdigest() / wheel.name
    assert kept.is_file()
    wheel.unlink()
    assert sorted(pip_tree(lock, tmp_path / "two", tmp_path)) == sorted(first)
    # A further one is fetched alone: the first is nowhere else any more.
    more = tmp_path / "more.lock"
    more.write_text(f"{lock.read_text()}small==1.0.0 --hash=sha256:{wheel_in(lock.parent, 'small')}\n")
    (tmp_path / "more").mkdir()
    assert {"tiny.py", "small.py"} <= set(pip_tree(more, tmp_path / "more", tmp_path))
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    with pytest.raises(VerificationError, match="PackageDigestMismatch") as caught:
        pip_tree(lock, tmp_path / "three", tmp_path)
    assert caught.value.place == str(kept)


def test_wheels_are_locked_by_hash(tmp_path: Path) -> None:
    lock = pip_lock(tmp_path / "lock")
    lock.with_suffix(".in").write_text(f"--no-index\n--find-links {lock.parent}\ntiny>=1\n")
    (wanted,) = [line for line in lock.read_text().splitlines() if line.startswith("tiny==")]
    pin_pip(lock)
    assert lock.read_text().splitlines()[1:] == [wanted]


def test_nothing_is_locked_for_a_missing_file_or_package(tmp_path: Path) -> None:
    lock = pip_lock(tmp_path / "lock")
    before = lock.read_bytes()
    with pytest.raises(InputError, match="nothing to lock"):
        pin_pip(lock)
    lock.with_suffix(".in").write_text(f"--no-index\n--find-links {lock.parent}\nhuge\n")
    with pytest.raises(EnvironmentUnfitError, match="installer failed"):
        pin_pip(lock)
    assert lock.read_bytes() == before


def test_installers_see_the_registries_of_the_machine_and_nothing_else(tmp_path: Path) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    (home / ".npmrc").write_text("fund=false\n")
    outer = {"HOME": str(home), "PATH": "/usr/bin", "https_proxy": "p", "PIP_FIND_LINKS": "x", "SECRET": "s"}
    assert tool_environment(outer, scratch) == {
        "HOME": str(scratch),
        "PATH": "/usr/bin",
        "https_proxy": "p",
        "NPM_CONFIG_USERCONFIG": str(home / ".npmrc"),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
