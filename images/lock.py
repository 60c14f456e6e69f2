"""Pin the packages of images/base.toml: writes images/base.lock.toml from apt's package lists.

Run it on a machine whose apt knows the suite (after `apt-get update`). Only the suite's own archive
is used: its files stay on the mirrors, while those of the security archive go with the next update.
"""

import subprocess
import tomllib
from email.parser import Parser
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = """\
# Written by images/lock.py from the archive of the suite; `path` is a package's place in any Debian mirror.
schema = "assay.runner.deb_lock.v1"
suite = "{suite}"
"""
ENTRY = """
[[deb]]
name = "{name}"
version = "{version}"
path = "{path}"
size = {size}
sha256 = "{sha256}"
"""


def ask(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def entry(name: str, suite: str) -> str:
    for line in ask("apt-cache", "madison", name).splitlines():
        _, version, source = (part.strip() for part in line.split("|"))
        if f" {suite}/main amd64 " in f" {source} ":
            break
    else:
        raise SystemExit(f"{name} is not in {suite}/main: run apt-get update, or correct base.toml")
    record = Parser().parsestr(ask("apt-cache", "show", f"{name}={version}"))
    return ENTRY.format(
        name=name, version=version, path=record["Filename"], size=record["Size"], sha256=record["SHA256"]
    )


def main() -> None:
    spec = tomllib.loads((HERE / "base.toml").read_text(encoding="utf-8"))
    entries = [entry(name, spec["suite"]) for name in sorted(spec["packages"])]
    (HERE / "base.lock.toml").write_text(
        HEADER.format(suite=spec["suite"]) + "".join(entries), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
