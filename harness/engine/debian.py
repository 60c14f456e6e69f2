"""Debian packages as a file tree: fetched by apt, checked by hash, filtered, never installed.

apt's own helper fetches each file, so the machine's mirrors, proxies and certificates are used; what
makes a file acceptable is its sha256 in the lock. No maintainer script runs and no member is written
to the host: `dpkg-deb --fsys-tarfile` is read as a stream.
"""

import os
import shutil
import subprocess
import tarfile
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath

from harness.engine.layers import FOLDER, Entry, Tree, check_sha256
from harness.engine.loader_cache import loader_cache
from harness.engine.recipe import Base, Deb
from harness.errors import EnvironmentUnfitError, VerificationError

MIRROR_VARIABLE = "ASSAY_DEBIAN_MIRROR"
APT_HELPER = "/usr/lib/apt/apt-helper"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
MERGED = ("bin", "sbin", "lib", "lib32", "lib64")  # these are links into /usr (Debian, merged /usr)


def base_tree(base: Base, store: Path) -> Tree:
    """The tree of images/base.toml; packages come from `store` (by sha256) or from a mirror.

    Raises VerificationError for a package that is not what the lock says, EnvironmentUnfitError when
    one cannot be had.
    """
    spec = base.spec
    tree: dict[str, Entry] = dict.fromkeys(spec.folders, FOLDER)
    tree |= {name: Entry(target=target) for name, target in spec.links.items()}
    tree |= {name: Entry(source=text.encode()) for name, text in spec.files.items()}
    for deb in base.lock.deb:
        only = spec.only.get(deb.name, ("*",))
        for name, entry in _unpack(fetch(deb, store)).items():
            wanted = any(fnmatchcase(name, pattern) for pattern in only)
            if wanted and not any(fnmatchcase(name, pattern) for pattern in spec.drop):
                tree[name] = entry
    libraries = [Path(name).name for name in tree if fnmatchcase(name, f"{LIBRARIES}/*.so.*")]
    tree["etc/ld.so.cache"] = Entry(source=loader_cache(f"/{LIBRARIES.removeprefix('usr/')}", libraries))
    return tree


def fetch(deb: Deb, store: Path) -> Path:
    """The file of `deb` in `store`, checked; fetched from the first mirror that has it."""
    path = store / "sha256" / deb.sha256
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        try:
            _download(deb, part)
            check_sha256(part, deb.sha256, "PackageDigestMismatch", source=deb.path)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
    check_sha256(path, deb.sha256, "PackageDigestMismatch")
    return path


def check_kept(base: Base, store: Path) -> None:
    """Raise VerificationError for a package in `store` that is not what its name says."""
    for deb in base.lock.deb:
        path = store / "sha256" / deb.sha256
        if path.exists():
            check_sha256(path, deb.sha256, "PackageDigestMismatch")


def _download(deb: Deb, target: Path) -> None:
    said = []
    for mirror in _mirrors():
        if mirror.startswith("file:"):  # needs no apt, which Nix does not have
            try:
                shutil.copyfile(f"{mirror.removeprefix('file:')}/{deb.path}", target)
            except OSError as error:
                said.append(str(error))
                continue
            return
        done = _ask(
            APT_HELPER, "-oAPT::Sandbox::User=root", "download-file", f"{mirror}/{deb.path}", str(target)
        )
        if done.returncode == 0:
            return
        said.append(done.stderr.strip())
    target.with_name(f"{target.name}.FAILED").unlink(missing_ok=True)
    raise EnvironmentUnfitError(
        f"no configured Debian mirror has {deb.name} {deb.version}",
        place=deb.path,
        hint=f"set {MIRROR_VARIABLE} to a mirror (or a file: folder) that has it",
        problems=tuple((text, "see apt's configuration") for text in said),
    )


def _mirrors() -> list[str]:
    """Base addresses to try, without a trailing "/": the variable's, or those apt is configured with."""
    named = os.environ.get(MIRROR_VARIABLE)
    return [named.rstrip("/")] if named else _configured()


@cache
def _configured() -> list[str]:
    listed = _ask(
        "apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI)", "Created-By: Packages"
    )
    named = [one.rstrip("/") for uri in listed.stdout.split() for one in _mirror_list(uri)]
    return list(dict.fromkeys(named))


def _mirror_list(uri: str) -> list[str]:
    """apt-transport-mirror(1): a `mirror+file:` address stands for those in that file."""
    if not uri.startswith("mirror+file:"):
        return [uri]
    path = Path("/" + uri.removeprefix("mirror+file:").strip("/"))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line.split()[0] for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    except FileNotFoundError:
        raise EnvironmentUnfitError(f"{command[0]} is not installed", hint="install apt") from None
    except subprocess.TimeoutExpired:
        raise EnvironmentUnfitError(f"{command[0]} gave no answer", hint="check the network") from None


@cache
def _unpack(deb: Path) -> Tree:
    """Regular files and symbolic links of a package, under their place in a merged /usr.

    Done once in a process: `deb` is named by its digest, which `fetch` checks each time.
    """
    if shutil.which("dpkg-deb") is None:
        raise EnvironmentUnfitError("dpkg-deb is not installed", hint="install dpkg")
    tree: dict[str, Entry] = {}
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        with tarfile.open(fileobj=program.stdout, mode="r|") as tar:
            for member in tar:
                name = _place(member.name)
                if member.isdir():
                    continue  # parents are added where something stands in them
                if member.issym():
                    tree[name] = Entry(target=member.linkname)
                elif member.islnk():
                    tree[name] = tree[_place(member.linkname)]
                elif member.isreg() and (data := tar.extractfile(member)) is not None:
                    tree[name] = Entry(source=data.read(), executable=bool(member.mode & 0o100))
                else:
                    raise VerificationError(
                        "PackageMember", f"{member.name} is no file or link", place=str(deb)
                    )
    if program.returncode != 0:
        raise VerificationError("PackageUnreadable", "dpkg-deb cannot read it", place=str(deb))
    return tree


def _place(name: str) -> str:
    path = PurePosixPath(name.removeprefix("./"))
    if path.is_absolute() or ".." in path.parts:
        raise VerificationError("PackageMember", f"{name} leads out of the root folder")
    return str("usr" / path) if path.parts and path.parts[0] in MERGED else str(path)
