"""./enter in a fresh root of each distribution, from nothing, in cron's environment, the checkout read-only.

Some minutes a root, too long for every change: `nox -s enter_roots` runs it, and needs mmdebstrap,
for Ubuntu its keyring too. What is compiled there is loaded into this kernel; `nox -s hosts` boots others.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hosts.roots import ALONE

pytestmark = [pytest.mark.linux, pytest.mark.timeout(3600)]

REPOSITORY = Path(__file__).parents[2]
RELEASES = {"bookworm": "3.11", "trixie": "3.13", "sid": "3.14", "noble": "3.12"}  # and their Python
OPTIONS = {
    "noble": ["--components=main,universe", "--include=apt,ubuntu-keyring"],  # apt is not essential there
}

# $1: the root, $2: the checkout, then unshare's options and the command; package sources are this host's own
INSIDE = """set -eu
root=$1 checkout=$2 options=$3
shift 3
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mkdir -p "$root/my checkout"
mount --bind "$checkout" "$root/my checkout"
mount -o remount,bind,ro "$root/my checkout"
rm -f "$root/etc/resolv.conf"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
for path in /etc/pip.conf /opt /etc/ssl/certs/ca-certificates.crt; do
  [ -e "$path" ] || continue
  if [ -d "$path" ]; then mkdir -p "$root$path"; else mkdir -p "$root${path%/*}"; : >>"$root$path"; fi
  mount --bind "$path" "$root$path"
done
exec unshare $options chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin "/my checkout/enter" "$@"
"""
LOADS = """
import shutil, sys
from harness.capture.program import Program
Program(1 << 20).close()
print(sys.version.split(" ")[0], shutil.which("dockerd"))
"""
Enter = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def enter(release: str, tmp_path: Path) -> Iterator[Enter]:
    """enter("CMD", …, options="--net") in a minimal root of the release."""
    for program in ("mmdebstrap", "chroot", "unshare"):
        assert shutil.which(program), f"{program} is not installed"
    root = tmp_path / "root"
    options = ["--variant=minbase", "--include=ca-certificates", *OPTIONS.get(release, [])]
    # an archive that is kept as it was at one moment is past its date
    options.append('--aptopt=Acquire::Check-Valid-Until "false"')
    subprocess.run(["mmdebstrap", *options, release, tmp_path / "root.tar"], check=True)
    root.mkdir()
    subprocess.run(["tar", "-C", root, "--numeric-owner", "-xf", tmp_path / "root.tar"], check=True)

    def run(*command: str, options: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*ALONE, "sh", "-c", INSIDE, "sh", root, REPOSITORY, options, *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    yield run
    shutil.rmtree(root)


def test_from_nothing_to_a_loaded_program_then_without_a_word_or_a_network(
    enter: Enter, release: str
) -> None:
    first = enter("true")
    assert first.returncode == 0, first.stderr
    assert "enter: installing docker.io " in first.stderr
    again = enter("true", options="--net")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    loaded = enter("python", "-c", LOADS, options="--net")
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith(f"{RELEASES[release]}.")
    assert loaded.stdout.split()[1] in ("/usr/sbin/dockerd", "/usr/bin/dockerd")  # Debian's, Ubuntu's
