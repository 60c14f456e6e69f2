"""Commands of the right wing: what they need beyond the wheel, asked before anything else."""

import functools
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from harness.errors import EnvironmentUnfitError
from harness.present.progress import Progress

Handler = Callable[[Namespace, Progress], int]

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("bpf", "images", "runner-fixtures")  # beside the package in a checkout, and in no wheel
PACKAGES = ("docker", "pyroute2")  # the extra `host`; bcc is the business of `doctor`


def on_host(handler: Handler) -> Handler:
    """`handler`, once it is known that this installation has the right wing's parts; else exit 5."""

    @functools.wraps(handler)
    def checked(arguments: Namespace, progress: Progress) -> int:
        require(arguments.command, PACKAGES)
        return handler(arguments, progress)

    return checked


def require(command: str, packages: tuple[str, ...] = ()) -> None:
    """EnvironmentUnfitError outside a checkout, or without the packages; imports none of them."""
    from importlib.util import find_spec

    problems = []
    if folders := [name for name in FOLDERS if not (ROOT / name).is_dir()]:
        what = f"no {', '.join(folders)} beside the package"
        problems.append((what, "run it from a checkout: ./enter assay-runner …"))
    if absent := [name for name in packages if find_spec(name) is None]:
        what = f"no Python package {', '.join(absent)}"
        problems.append((what, "run it through ./enter, or pip install -e '.[host]' in the checkout"))
    if problems:
        raise EnvironmentUnfitError(
            "this installation reads and compares archives, but cannot measure",
            place=command,
            problems=tuple(problems),
        )
