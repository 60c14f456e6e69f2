"""Which fixtures and gates there are: the house's, and those that installed packages bring.

A candidate (`candidate = true` in fixture.toml) is found by its name like any other and is never one of
`all_gates` and `all_runtimes`.

A package adds a folder of fixtures by an entry point of the group `assay_runner.runtimes`, whose
value is an object: the folder's path, or a package beside whose files the fixtures lie.
"""

from importlib.metadata import entry_points
from pathlib import Path

from harness.errors import InputError
from harness.plan import FIXTURES
from harness.spec import Fixture, load_fixture

ENTRY_POINTS = "assay_runner.runtimes"
# contracts §7.1; gates that it does not name come after, by name.
ORDER = (
    "kernel-only",
    "kernel-policy",
    "openai-agents-kernel-policy",
    "openai-agents-hidden-write",
    "gemini-google-genai-kernel-policy",
)


def all_fixtures(root: Path | None = None) -> list[Fixture]:
    """Every fixture of the folder, candidates too, by name; of all registered folders if none is given."""
    return [
        load_fixture(path.parent) for place in _roots(root) for path in sorted(place.glob("*/fixture.toml"))
    ]


def all_images(root: Path | None = None, *, candidates: bool) -> list[Path]:
    """Every folder with an image.toml, in the order of `all_fixtures`."""
    folders = [path.parent for place in _roots(root) for path in sorted(place.glob("*/image.toml"))]
    return [folder for folder in folders if candidates or not is_candidate(folder)]


def is_candidate(folder: Path) -> bool:
    """Whether what lies in this folder, the image included, is a candidate's."""
    return (folder / "fixture.toml").is_file() and load_fixture(folder).file.candidate


def _qualified(root: Path | None) -> list[Fixture]:
    return [fixture for fixture in all_fixtures(root) if not fixture.file.candidate]


def _roots(root: Path | None) -> list[Path]:
    return [FIXTURES, *registered()] if root is None else [root]


def registered() -> list[Path]:
    """Folders that installed packages bring; InputError names an entry point that gives none."""
    folders = []
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        try:
            found = point.load()
            folder = Path(next(iter(found.__path__)) if hasattr(found, "__path__") else found)
        except Exception as error:
            raise InputError(
                f"cannot be loaded: {error}",
                place=f"entry point {point.name} = {point.value}",
                hint=f"{ENTRY_POINTS} must name a folder's path or a package",
            ) from error
        folders.append(folder)
    return folders


def all_gates(root: Path | None = None) -> list[Fixture]:
    """Every fixture that has a gate, in gate order; no candidates."""

    def rank(fixture: Fixture) -> tuple[int, str]:
        name = gate_name(fixture)
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)

    found = [one for fixture in _qualified(root) for one in (fixture, *fixture.scenarios)]
    return sorted((one for one in found if one.file.gate is not None), key=rank)


def all_runtimes(root: Path | None = None) -> list[Fixture]:
    """The fixtures of an agent SDK with an image of their own, by name; no candidates."""
    return [one for one in _qualified(root) if "sdk" in one.file.witnesses and one.file.image == one.name]


def gate_name(fixture: Fixture) -> str:
    """The gate's name; InputError for a fixture without one."""
    if fixture.file.gate is None:
        raise InputError("has no [gate] table", place=fixture.name, hint="run it with `assay-runner run`")
    return fixture.file.gate.name


def find_fixture(name: str, root: Path | None = None) -> Fixture:
    """By name ("folder" or "folder:scenario"), by path of a folder, or by its gate's name.

    Only a gate's name takes a look at every fixture, so one that is broken stands in no other's way.
    """
    folder, _, scenario = name.rpartition(":") if ":" in name else (name, "", "")
    if (Path(folder) / "fixture.toml").is_file():
        fixtures = [load_fixture(Path(folder).resolve())]
        name = ":".join(filter(None, (fixtures[0].name, scenario)))
    else:
        fixtures = _of_name(folder, root) or all_fixtures(root)
    for fixture in (way for one in fixtures for way in (one, *one.scenarios)):
        if name in (fixture.name, fixture.file.gate.name if fixture.file.gate else None):
            return fixture
    listed = [fixtures[0], *fixtures[0].scenarios] if len(fixtures) == 1 else fixtures
    known = ", ".join(one.name + " (candidate)" * one.file.candidate for one in listed)
    raise InputError(f"no fixture or gate named {name!r}", hint=f"known: {known}; or give a fixture's folder")


def _of_name(folder: str, root: Path | None) -> list[Fixture]:
    """The first fixture in a folder of this name, if there is one."""
    for place in _roots(root):
        if folder == Path(folder).name and (place / folder / "fixture.toml").is_file():
            return [load_fixture(place / folder)]
    return []
