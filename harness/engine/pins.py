"""Refresh of the package locks: which Debian packages, npm trees and wheels an image is made from.

The package managers' own resolvers choose, with the machine's registries; what they choose is written
down with its hash and without any address. Nothing of it is installed or run.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from email.parser import Parser
from pathlib import Path

from harness.engine.packages import PIP, PIP_MISMATCH, WHEELS_FOR, run_installer
from harness.engine.recipe import IMAGES, load_base_spec
from harness.errors import EnvironmentUnfitError, InputError

PYTHON = (3, 11)  # of the images: markers of requirements are judged by the interpreter that resolves
_DEB_HEAD = """\
# Written by `assay-runner image lock --all --packages`; `path` is a package's place in any Debian mirror.
schema = "assay.runner.deb_lock.v1"
suite = "{suite}"
"""
_DEB = """
[[deb]]
name = "{name}"
version = "{version}"
path = "{path}"
size = {size}
sha256 = "{sha256}"
"""


def pin_debian(images: Path = IMAGES) -> None:
    """Write base.lock.toml for the packages of base.toml, from apt's package lists.

    Only the suite's own archive is used: its files stay on the mirrors, while those of the security
    archive go with the next update. EnvironmentUnfitError if apt does not know a package.
    """
    spec = load_base_spec(images)
    entries = [_deb(name, spec.suite) for name in sorted(spec.packages)]
    _replace(images / "base.lock.toml", _DEB_HEAD.format(suite=spec.suite) + "".join(entries))


def pin_npm(lock: Path) -> None:
    """Write the package-lock.json `lock` anew for the package.json beside it."""
    with tempfile.TemporaryDirectory(prefix="assay-pin-") as name:
        scratch = Path(name)
        (scratch / "package.json").write_bytes(lock.with_name("package.json").read_bytes())
        command = ["npm", "install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund",
                   "--omit-lockfile-registry-resolved", "--loglevel=error",
                   f"--cache={scratch / 'npm'}"]  # fmt: skip
        run_installer(command, scratch, lock, mismatch="EINTEGRITY")
        document = json.loads((scratch / "package-lock.json").read_bytes())
    for package in document["packages"].values():
        for said in ("funding", "deprecated"):  # for people, and with addresses in it
            package.pop(said, None)
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if "://" in text:
        raise InputError(
            "a package would be locked by its address",
            place=str(lock.with_name("package.json")),
            hint="depend on packages of the registry by name and version only",
        )
    _replace(lock, text)


def pin_pip(lock: Path) -> None:
    """Write the hashed requirement file `lock` anew for the file beside it that ends in .in.

    EnvironmentUnfitError on another Python than the images': its resolver would choose otherwise.
    """
    source = lock.with_suffix(".in")
    if not source.is_file():
        raise InputError(
            "there is nothing to lock", place=str(source), hint="write what is needed into it, a line each"
        )
    if sys.version_info[:2] != PYTHON:
        raise EnvironmentUnfitError(
            f"pip would resolve for Python {sys.version_info[0]}.{sys.version_info[1]}",
            place=str(source),
            hint="do it where Python 3.11 runs this program, as on Debian 12",
        )
    with tempfile.TemporaryDirectory(prefix="assay-pin-") as name:
        scratch = Path(name)
        command = [*PIP, "download", "--quiet", *WHEELS_FOR, f"--dest={scratch / 'wheels'}",
                   f"--requirement={source.resolve()}"]  # fmt: skip
        run_installer(command, scratch, source, mismatch=PIP_MISMATCH)
        lines = sorted(_requirement(wheel) for wheel in (scratch / "wheels").iterdir())
    _replace(lock, "# Written by `assay-runner image lock --packages`.\n" + "".join(lines))


def _requirement(wheel: Path) -> str:
    """A line of the lock; a wheel's file name begins with its name and version (PEP 427)."""
    name, version, *_ = wheel.name.split("-")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version} --hash=sha256:{digest}\n"


def _deb(name: str, suite: str) -> str:
    for line in _ask("madison", name):
        _, version, source = (part.strip() for part in line.split("|"))
        if f" {suite}/main amd64 " in f" {source} ":
            break
    else:
        raise EnvironmentUnfitError(
            f"apt knows no {name} in {suite}/main",
            hint=f"apt-get update on a machine with {suite}, or correct images/base.toml",
        )
    record = Parser().parsestr("\n".join(_ask("show", f"{name}={version}")))
    return _DEB.format(
        name=name, version=version, path=record["Filename"], size=record["Size"], sha256=record["SHA256"]
    )


def _ask(*arguments: str) -> Iterable[str]:
    try:
        done = subprocess.run(["apt-cache", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise EnvironmentUnfitError("apt-cache is not installed", hint="use Debian or Ubuntu") from None
    return done.stdout.splitlines()


def _replace(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
