"""Debian packages, npm trees and wheels: only what is pinned gets in, and none of its code is run."""

import hashlib
import json
import subprocess
import tarfile
import zipfile
from base64 import b64encode
from pathlib import Path

import pytest

from harness.engine import debian
from harness.engine.bytecode import with_bytecode
from harness.engine.debian import MIRROR_VARIABLE, base_tree, fetch
from harness.engine.layers import Entry, write_layer
from harness.engine.packages import npm_tree, pip_tree, tool_environment
from harness.engine.recipe import Deb, load_base
from harness.errors import AssayError, EnvironmentUnfitError, VerificationError
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


# npm and pip


def npm_lock(folder: Path, *, integrity: str | None = None) -> Path:
    source = folder / "package"
    source.mkdir(parents=True)
    (source / "package.json").write_text(
        '{"name":"tiny","version":"1.0.0","scripts":{"install":"touch /dev/shm/ran"}}'
    )
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


def pip_lock(folder: Path, *, digest: str | None = None) -> Path:
    folder.mkdir()
    wheel = folder / "tiny-1.0.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "print('tiny')\n")
        archive.writestr(
            "tiny-1.0.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0.0\n"
        )
        archive.writestr(
            "tiny-1.0.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_17_x86_64\n"
        )
        archive.writestr("tiny-1.0.0.dist-info/RECORD", "")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
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
