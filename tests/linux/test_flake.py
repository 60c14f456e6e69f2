"""flake.nix with the Nix that Debian packages, without a network: evaluated on a stand-in for nixpkgs.

tests/linux/nixpkgs has just the attributes of its attributes.txt, so evaluation fails for any other.
What the flake's scripts do is run for real: the shell's hook, the command, the merge of kernel headers.
"""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

pytestmark = pytest.mark.linux

REPOSITORY = Path(__file__).parents[2]
STAND_IN = Path(__file__).with_name("nixpkgs")
SYSTEMS = ["aarch64-linux", "x86_64-linux"]
SHELL = "devShells.x86_64-linux.default"
CLI = "packages.x86_64-linux.default"
NAME = "t: t.attribute or t.name"


@frozen
class Row:
    """A line of requirements/system.txt."""

    use: str
    kind: str
    sought: str
    debian: str
    ubuntu: str
    nixpkgs: str


ROWS = [
    Row(*line.split())
    for line in (REPOSITORY / "requirements/system.txt").read_text().splitlines()
    if not line.startswith("#")
]


@frozen
class Flake:
    """A copy of the repository, a copy of the stand-in, and a Nix whose store is in the same folder."""

    root: Path

    @property
    def clone(self) -> Path:
        return self.root / "clone"

    @property
    def stand_in(self) -> Path:
        return self.root / "nixpkgs"

    def nix(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        folders = {"STORE": "store", "STATE": "var", "LOG": "log", "CONF": "etc", "DATA": "share"}
        private = {f"NIX_{key}_DIR": str(self.root / "nix" / name) for key, name in folders.items()}
        path = os.environ["PATH"]
        return subprocess.run(
            ["nix", "--extra-experimental-features", "nix-command flakes", "--offline", *arguments,
             "--no-write-lock-file", "--override-input", "nixpkgs", f"path:{self.stand_in}"],
            env={"HOME": str(self.root), "NIX_REMOTE": "local", "PATH": path} | private,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def get(self, attribute: str, function: str = "found: found") -> Any:
        done = self.nix("eval", "--json", f"path:{self.clone}#{attribute}", "--apply", function)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def flake(tmp_path_factory: pytest.TempPathFactory) -> Flake:
    made = Flake(tmp_path_factory.mktemp("flake"))
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    ).stdout
    for name in listed.decode().rstrip("\0").split("\0"):
        if (REPOSITORY / name).is_file():
            (made.clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, made.clone / name)
    shutil.copytree(STAND_IN, made.stand_in)
    return made


def bash(script: str, cwd: Path = Path("/"), /, **environment: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=cwd,
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def attributes(*kinds: str, uses: tuple[str, ...] = ("run", "test", "dev")) -> set[str]:
    return {row.nixpkgs for row in ROWS if row.kind in kinds and row.use in uses} - {"-"}


def requirements(name: str) -> set[str]:
    found: set[str] = set()
    for line in (REPOSITORY / "requirements" / name).read_text().splitlines():
        if line.startswith("-r "):
            found |= requirements(line.split()[1])
        elif not line.startswith("#"):
            found.add(line)
    return found


# What it offers, and from what


def test_outputs_for_both_systems(flake: Flake) -> None:
    names = "builtins.mapAttrs (_: builtins.attrNames)"
    for output, wanted in {
        "devShells": ["default"],
        "packages": ["debian-packages", "default", "kernel-headers"],
        "apps": ["default"],
        "checks": ["lint", "unit"],
    }.items():
        assert flake.get(output, names) == dict.fromkeys(SYSTEMS, wanted)
    assert flake.get("formatter", f"builtins.mapAttrs (_: {NAME})") == dict.fromkeys(SYSTEMS, "nixfmt-tree")
    for system in SYSTEMS:
        assert flake.get(f"apps.{system}.default.type") == "app"
        assert flake.get(f"apps.{system}.default.program").endswith("/bin/assay-runner")
    checked = flake.nix("flake", "check", "--no-build", f"path:{flake.clone}")
    assert checked.returncode == 0, checked.stderr


def test_the_one_input_is_pinned() -> None:
    lock = json.loads((REPOSITORY / "flake.lock").read_text())
    assert lock == {
        "nodes": {
            "nixpkgs": {
                "locked": {
                    "lastModified": 1789114715,
                    "narHash": "sha256-ugpsyk3NM2s87vXfUiIIiibbJ4Pp0JPS5p/3mfs+q+c=",
                    "owner": "NixOS",
                    "repo": "nixpkgs",
                    "rev": "21a67dc470149f337cecafbe965d8d252a390518",
                    "type": "github",
                },
                "original": {"owner": "NixOS", "ref": "nixos-26.05", "repo": "nixpkgs", "type": "github"},
            },
            "root": {"inputs": {"nixpkgs": "nixpkgs"}},
        },
        "root": "root",
        "version": 7,
    }
    digest = lock["nodes"]["nixpkgs"]["locked"]["narHash"].removeprefix("sha256-")
    assert len(base64.b64decode(digest, validate=True)) == 32
    [declared] = re.findall(r'inputs\.(.+)\.url = "(.+)";', (REPOSITORY / "flake.nix").read_text())
    assert declared == ("nixpkgs", "github:NixOS/nixpkgs/nixos-26.05")


def test_nothing_sets_a_time() -> None:
    for path in (REPOSITORY / "flake.nix", REPOSITORY / "requirements/overlay.nix"):
        assert not re.search(r"\b(created|mtime)\b", path.read_text())


def test_an_attribute_that_is_not_listed_cannot_be_used(flake: Flake, tmp_path: Path) -> None:
    less = Flake(tmp_path)
    shutil.copytree(flake.clone, less.clone)
    shutil.copytree(flake.stand_in, less.stand_in)
    listed = less.stand_in / "attributes.txt"
    listed.write_text(re.sub(r"(?m)^strace .*\n", "", listed.read_text()))
    done = less.nix("eval", "--json", f"path:{less.clone}#{SHELL}.drvPath")
    assert done.returncode != 0
    assert "attribute 'strace' missing" in done.stderr


def test_each_listed_attribute_is_used_and_says_where_it_was_seen() -> None:
    sources = ("flake.nix", "requirements/overlay.nix", "requirements/system.txt")
    used = " ".join((REPOSITORY / name).read_text() for name in sources) + " ".join(requirements("dev.in"))
    for line in (STAND_IN / "attributes.txt").read_text().splitlines():
        if not line.startswith("#"):
            attribute, path, commit = line.split()
            assert re.search(rf"\b{attribute.removeprefix('python313Packages.').split('.')[0]}\b", used)
            assert re.fullmatch(r"pkgs/.+\.(nix|sh)", path)
            assert re.fullmatch(r"[0-9a-f]{40}", commit)


# What the shell has; that ./enter installs the same list is in test_enter.py


def test_the_shell_has_the_listed_tools(flake: Flake) -> None:
    tools = flake.get(f"{SHELL}.given.packages", f"map ({NAME})")
    assert {row.kind for row in ROWS} == {"program", "apparmor", "headers", "python", "library"}
    assert set(tools) == attributes("program", "apparmor") | {"python-env", "assay-runner"}
    assert len(tools) == len(set(tools))
    assert set(flake.get(f"{SHELL}.given.buildInputs", f"map ({NAME})")) == attributes("library")
    assert attributes("headers") == {"linuxPackages.kernel"}
    assert flake.get(f"{SHELL}.given.hardeningDisable") == ["stackprotector", "zerocallusedregs"]
    needed = {"dockerd", "containerd", "runc", "unshare", "npm", "dpkg-deb", "clang", "bpftool", "gcc", "nix"}
    assert needed <= {row.sought for row in ROWS}


def python_of(flake: Flake, packages: str) -> set[str]:
    named = f'p: map ({NAME}) (builtins.head (builtins.filter (t: t.name == "python-env") p)).given'
    found: list[str] = flake.get(packages, named)
    assert len(found) == len(set(found))
    return {name.removeprefix("python313Packages.").replace("_", "-") for name in found}


def test_python_packages_are_those_of_the_requirements(flake: Flake) -> None:
    common = attributes("python")
    assert common == {"bcc", "pip"}
    assert python_of(flake, f"{SHELL}.given.packages") == requirements("dev.in") | common
    assert python_of(flake, f"{CLI}.given.runtimeInputs") == requirements("runtime.in") | common
    assert {"attrs", "cattrs", "docker", "nox", "pyroute2", "pytest"} <= requirements("dev.in")


@pytest.mark.parametrize("system", SYSTEMS)
def test_overlaid_packages_are_those_of_the_lock(flake: Flake, system: str) -> None:
    given = f"""
      let
        final = {{ buildPythonPackage = it: it; fetchPypi = it: it; click = 0; rich = 0; grimp = 0; }};
        pkgs = {{ autoPatchelfHook = 0; stdenv = {{ cc.cc.lib = 0; hostPlatform.system = "{system}"; }}; }};
      in import {flake.clone}/requirements/overlay.nix {{ inherit pkgs; }} final {{ }}
    """
    done = flake.nix("eval", "--impure", "--json", "--expr", given)
    assert done.returncode == 0, done.stderr
    overlay = json.loads(done.stdout)
    assert sorted(overlay) == ["grimp", "import-linter"]
    lock = (REPOSITORY / "requirements/dev.lock").read_text()
    for name, package in overlay.items():
        entry = re.split(r"\n(?=\S)", lock.split(f"\n{name}=={package['version']} ")[1])[0]
        digest = base64.b64decode(package["src"]["hash"].removeprefix("sha256-"), validate=True)
        assert f"sha256:{digest.hex()}" in entry


# What its scripts do


def test_the_shell_uses_the_clone_it_was_opened_in(flake: Flake, tmp_path: Path) -> None:
    hook = flake.get(f"{SHELL}.given.shellHook")
    show = f'{hook}\nprintf %s "$PYTHONPATH"; [ -z "${{root-}}" ]'
    evil = {"PYTHONPATH": "/elsewhere"}
    assert bash(show, flake.clone / "harness/host", **evil) == str(flake.clone)
    assert bash(show, flake.clone, **evil) == str(flake.clone)
    assert bash(show, tmp_path, **evil) == ""
    assert bash(show, Path("/"), **evil) == ""


def test_the_command_runs_what_nix_copied(flake: Flake) -> None:
    given = flake.get(f"{CLI}.given", "given: { inherit (given) text runtimeEnv; }")
    source = Path(given["runtimeEnv"]["PYTHONPATH"])
    assert source.is_relative_to(flake.root / "nix/store")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run = f"set -- --help\n{given['text']}"
    assert "usage: assay-runner" in bash(run, flake.root, PATH=path, PYTHONPATH=str(source))
    for name in ("bpf/capture.c", "images/base.lock.toml", "runner-fixtures", "harness/__main__.py"):
        assert (source / name).exists()
    assert given["runtimeEnv"]["BCC_KERNEL_SOURCE"] == flake.get(f"{SHELL}.given.BCC_KERNEL_SOURCE")


def test_debian_packages_are_those_of_the_lock(flake: Flake) -> None:
    deb = "path.given.name path.given.url path.given.sha256"
    drawn = flake.get(
        "packages.x86_64-linux.debian-packages.given",
        f"map (it: [ it.name {deb.replace('path', 'it.path')} ])",
    )
    locked = tomllib.loads((REPOSITORY / "images/base.lock.toml").read_text())["deb"]
    assert drawn == [
        [it["path"], f"{it['name']}.deb", f"mirror://debian/{it['path']}", it["sha256"]] for it in locked
    ]
    for _, name, _, _ in drawn:
        assert re.fullmatch(r"[A-Za-z0-9+_?=-][A-Za-z0-9+._?=-]*", name)  # what Nix allows in its store
    mirror = flake.get(f"{SHELL}.given.ASSAY_DEBIAN_MIRROR")
    assert mirror == "file:" + flake.get("packages.x86_64-linux.debian-packages.outPath")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everyone may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="assay-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def merge(flake: Flake, modules: Path, made: Path) -> Path:
    """Run the builder of kernel headers, as nobody; `modules` has source/ and build/, `made` is new."""
    script = flake.get("packages.x86_64-linux.kernel-headers.given")
    [named] = set(re.findall(r"\S+/lib/modules/0", script))
    made.mkdir()
    os.chown(made, 65534, 65534)
    command = f"out={made}/out\n{script.replace(named, str(modules))}"
    bash(f"setpriv --reuid=65534 --regid=65534 --clear-groups bash -euc {shlex.quote(command)}")
    return made / "out"


def test_kernel_headers_are_merged_from_folders_that_cannot_be_written(flake: Flake, folder: Path) -> None:
    """As in a store: what both trees have is the build's, and folders are joined."""
    modules = folder / "modules"
    for name in ("source/include/linux/kconfig.h", "source/Makefile", "build/Makefile",
                 "build/include/generated/autoconf.h", "build/include/linux/made.h"):  # fmt: skip
        (modules / name).parent.mkdir(parents=True, exist_ok=True)
        (modules / name).write_text(name)
    (modules / "build/source").symlink_to(modules / "source")
    for below in [path for path in modules.rglob("*") if path.is_dir() and not path.is_symlink()]:
        below.chmod(0o555)
    out = merge(flake, modules, folder / "made")
    found = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}
    assert found == {
        "Makefile": "build/Makefile",
        "include/linux/kconfig.h": "source/include/linux/kconfig.h",
        "include/linux/made.h": "build/include/linux/made.h",
        "include/generated/autoconf.h": "build/include/generated/autoconf.h",
    }


def test_bcc_compiles_with_merged_headers_alone(flake: Flake, folder: Path) -> None:
    """Debian splits headers as nixpkgs does; each half alone is not what bcc needs."""
    build = max(Path("/usr/src").glob("linux-headers-*/include/generated/autoconf.h")).parents[2]
    common = re.search(r"^include (/.+)/Makefile$", (build / "Makefile").read_text(), re.MULTILINE)
    assert common is not None, f"{build} is not split"
    modules = folder / "modules"
    modules.mkdir()
    (modules / "source").symlink_to(common[1])
    (modules / "build").symlink_to(build)
    out = merge(flake, modules, folder / "made")
    assert not (modules / "build/include/linux/kconfig.h").exists()
    assert not (modules / "source/include/generated/autoconf.h").exists()
    load = "from harness.capture.program import Program; Program(1 << 20).close(); print('loaded')"
    # no other headers are in reach
    script = f"mount -t tmpfs none /lib/modules\nexec {sys.executable} -c {shlex.quote(load)}"
    environment = {"PYTHONPATH": str(REPOSITORY), "BCC_KERNEL_SOURCE": str(out)}
    assert bash(f"unshare -m bash -euc {shlex.quote(script)}", **environment).endswith("loaded\n")
