"""npm trees and Python wheels as file trees: pinned by hash, installed without running their code.

npm and pip run with an allow-list of the environment and an empty home, but with the machine's own
configuration of registries, proxies and certificates. No address stands in a lock file.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from harness.engine.layers import Entry, Tree, check_sha256
from harness.errors import EnvironmentUnfitError, InputError, VerificationError

INSTALL_TIMEOUT_S = 900

# How the machine reaches its registries; nothing else of the environment may matter.
PASSED = (
    "PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST", "PIP_CONFIG_FILE", "NPM_CONFIG_REGISTRY", "NPM_CONFIG_USERCONFIG", "NPM_TOKEN",
)  # fmt: skip

# No program reads these while it runs: source maps, type declarations, sources in TypeScript, prose, and
# the test suites that some wheels bring.
NPM_PROSE = ("*.md", "*.mdx", "*.markdown")
NPM_DROPPED = (
    ".package-lock.json",
    "*.map",
    "*.ts",
    "*.mts",
    "*.cts",
    "*.md",
    "*.mdx",
    "*.markdown",
    "*.tsbuildinfo",
)
PIP_DROPPED = (
    "bin/*",
    "tests/*",
    "*/tests/*",
    "*.pyc",
    "*.pyi",
    "*.dist-info/RECORD",
    "*.dist-info/direct_url.json",
    "*.dist-info/REQUESTED",
)

# Wheels are chosen for the image's interpreter, whatever the host's is (PEP 600 tags, newest glibc first).
WHEELS_FOR = ["--python-version=3.11", "--implementation=cp", "--only-binary=:all:"] + [
    f"--platform=manylinux{version}_x86_64"
    for version in (
        "_2_36",
        "_2_34",
        "_2_31",
        "_2_28",
        "_2_24",
        "_2_17",
        "2014",
        "_2_12",
        "2010",
        "_2_5",
        "1",
    )
]


PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
_PIP_CHECKED = ["--require-hashes", *WHEELS_FOR]
PIP_MISMATCH = "DO NOT MATCH THE HASHES"


def npm_tree(lock: Path, scratch: Path, store: Path) -> Tree:
    """node_modules of `lock` (package.json beside it), built in `scratch`; `store` keeps npm's cache.

    Raises VerificationError if a package is not what the lock says, EnvironmentUnfitError if npm fails.
    """
    check_kept(lock, store)
    shutil.copyfile(lock, scratch / "package-lock.json")
    shutil.copyfile(lock.with_name("package.json"), scratch / "package.json")
    command = ["npm", "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--no-bin-links",
               "--loglevel=error", "--prefer-offline", f"--cache={store.resolve() / 'npm'}"]  # fmt: skip
    run_installer(command, scratch, lock, mismatch="EINTEGRITY")
    return _tree(scratch / "node_modules", NPM_DROPPED)


def check_kept(lock: Path, store: Path) -> None:
    """Raise VerificationError for a package of `lock` whose file in npm's cache was changed.

    npm itself would fetch it again in silence. A file of that cache is named by its digest (cacache,
    content-v2).
    """
    for kind, name in _digests(lock):
        path = store / "npm" / "_cacache" / "content-v2" / kind / name[:2] / name[2:4] / name[4:]
        if not path.is_file():
            continue
        with path.open("rb") as data:
            found = hashlib.file_digest(data, kind).hexdigest()
        if found != name:
            raise VerificationError(
                "PackageDigestMismatch",
                f"{kind} is {found}, expected {name}",
                place=str(path),
                hint="delete this file and try again; if it happens again, do not trust its source",
            )


def _digests(lock: Path) -> list[tuple[str, str]]:
    """Kind and hex digits of every digest in a package-lock.json (W3C, Subresource Integrity)."""
    found = []
    try:
        for package in json.loads(lock.read_bytes())["packages"].values():
            for digest in package.get("integrity", "").split():
                kind, _, text = digest.partition("-")
                if kind in ("sha512", "sha384", "sha256", "sha1"):
                    found.append((kind, base64.b64decode(text.partition("?")[0]).hex()))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InputError("not a lock file of npm 7 or later", place=str(lock), hint="make it anew") from None
    return found


def pip_tree(lock: Path, scratch: Path, store: Path) -> Tree:
    """The wheels of the hashed requirement file `lock`, unpacked in `scratch`; otherwise as npm_tree.

    Wheels are kept as wheels/<sha256>/<name>, because pip's own cache needs its index again.
    """
    check_kept_wheels(lock, store)
    wheels = keep_wheels(lock, scratch, store)
    site, links = scratch / "site", scratch / "links"
    links.mkdir()
    for wheel in wheels:
        (links / wheel.name).symlink_to(wheel.resolve())
    install = [*PIP, "install", "--quiet", "--no-deps", "--no-compile", "--no-index", f"--find-links={links}",
               *_PIP_CHECKED, f"--target={site}", f"--requirement={lock.resolve()}"]  # fmt: skip
    run_installer(install, scratch, lock, mismatch=PIP_MISMATCH)
    return _tree(site, PIP_DROPPED)


def keep_wheels(lock: Path, scratch: Path, store: Path) -> list[Path]:
    """The wheels of `lock`, those that are not kept downloaded into `scratch` first; errors as npm_tree."""
    lines = _lines(lock)
    if not all(_kept(digests, store) for _, digests in lines if digests):
        wanted, fresh = scratch / "missing.lock", scratch / "fresh"
        missing = [line for line, digests in lines if not _kept(digests, store)]  # and all options
        wanted.write_text("\n".join(missing) + "\n", encoding="utf-8")
        download = [*PIP, "download", "--quiet", "--no-deps", f"--dest={fresh}", *_PIP_CHECKED,
                    f"--requirement={wanted.resolve()}"]  # fmt: skip
        run_installer(download, scratch, lock, mismatch=PIP_MISMATCH)
        _keep(fresh, store)
    return [wheel for _, digests in lines for wheel in _kept(digests, store)]


def check_kept_wheels(lock: Path, store: Path) -> None:
    """Raise VerificationError for a kept wheel of `lock` that is not what its folder's name says."""
    for _, digests in _lines(lock):
        for wheel in _kept(digests, store):
            check_sha256(wheel, wheel.parent.name, "PackageDigestMismatch")


def _lines(lock: Path) -> list[tuple[str, list[str]]]:
    """The lock's lines, each requirement in one, with its digests."""
    lines = lock.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [(line, re.findall(r"--hash=sha256:([0-9a-f]{64})", line)) for line in lines]


def _kept(digests: list[str], store: Path) -> list[Path]:
    return [wheel for digest in digests for wheel in sorted((store / "wheels" / digest).glob("*.whl"))]


def _keep(fresh: Path, store: Path) -> None:
    """Move downloaded wheels to their places."""
    for wheel in sorted(fresh.glob("*.whl")):
        place = store / "wheels" / hashlib.sha256(wheel.read_bytes()).hexdigest() / wheel.name
        place.parent.mkdir(parents=True, exist_ok=True)
        wheel.rename(place)


def tool_environment(outer: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """The environment of npm and pip: `scratch` as home, and the machine's way to its registries."""
    home = Path(outer.get("HOME", "/"))
    passed = {key: value for key, value in outer.items() if key in PASSED or key.upper() in PASSED}
    defaults = {
        "NPM_CONFIG_USERCONFIG": [home / ".npmrc"],
        "PIP_CONFIG_FILE": [home / ".config/pip/pip.conf", home / ".pip/pip.conf"],
    }
    for key, places in defaults.items():
        found = [str(place) for place in places if place.is_file()]
        if found and key not in {name.upper() for name in passed}:
            passed[key] = found[0]
    return passed | {"HOME": str(scratch), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def run_installer(command: list[str], scratch: Path, lock: Path, *, mismatch: str) -> None:
    """Run an installer; `mismatch` is what it says when a package has another hash."""
    place = str(lock)
    try:
        done = subprocess.run(
            command,
            cwd=scratch,
            env=tool_environment(os.environ, scratch),
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_TIMEOUT_S,
        )
    except FileNotFoundError:
        raise EnvironmentUnfitError(
            f"{command[0]} is not installed", place=place, hint="install it"
        ) from None
    except subprocess.TimeoutExpired:
        raise EnvironmentUnfitError(
            f"{command[0]} was not done after {INSTALL_TIMEOUT_S} s", place=place, hint="check the network"
        ) from None
    if done.returncode == 0:
        return
    said = f"{done.stdout}\n{done.stderr}".strip()
    if mismatch in said:
        raise VerificationError(
            "PackageDigestMismatch", said[-2000:], place=place, hint="do not trust the source of this package"
        )
    raise EnvironmentUnfitError(
        f"the installer failed: {said[-2000:]}",
        place=place,
        hint="check the lock, the network, and how npm or pip is configured",
    )


def _tree(root: Path, dropped: tuple[str, ...]) -> Tree:
    tree: dict[str, Entry] = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if any(fnmatchcase(name, pattern) for pattern in dropped):
            continue
        if path.is_symlink():
            tree[name] = Entry(target=str(path.readlink()))
        elif path.is_file():
            tree[name] = Entry(source=path, executable=bool(path.stat().st_mode & 0o100))
    return tree
