"""What is known of the image of a run, and where a name leads in it."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from attrs import field, frozen

from harness.evidence.paths import below

# What a container has there is not the image's: own mounts, and files that engines mount.
MOUNTS = (
    b"/dev", b"/etc/hostname", b"/etc/hosts", b"/etc/resolv.conf", b"/proc", b"/run", b"/sys", b"/tmp",
    b"/workspace",
)  # fmt: skip
WRITABLE = (b"/tmp", b"/workspace")
# PATH of a container whose image says none (moby: oci/defaults, podman: the same)
DEFAULT_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_LINKS = 40  # path_resolution(7)


@frozen
class ImageFiles:
    """What is in it, so that an opened path can be told from one mounted over it.

    sha256    ("sha256:…") of the list that has each file's digest, size and mode
    paths     absolute and without links in them, as the kernel resolves names; of folders and links as well
    links     what each link says
    programs  the files that may be executed
    scripts   the first line of those that begin with "#!", without these two
    """

    sha256: str
    paths: frozenset[bytes] = field(repr=False)
    links: Mapping[bytes, bytes] = field(factory=dict, repr=False)
    programs: frozenset[bytes] = field(default=frozenset(), repr=False)
    scripts: Mapping[bytes, bytes] = field(factory=dict, repr=False)

    def has(self, path: bytes) -> bool:
        """Is it the image's own, with nothing mounted there?"""
        return path in self.paths and not below(path, MOUNTS)

    def place(self, path: bytes) -> bytes | None:
        """Where the absolute `path` leads, with the image's links followed; the end of it may be missing.

        None where that cannot be known: the image has too many links, or ".." stands behind what is
        mounted or missing.
        """
        return _place(self, path)

    def __hash__(self) -> int:
        return hash(self.sha256)


def search_of(env: Iterable[str]) -> str:
    """PATH among an image's settings (`NAME=value`), else what engines take."""
    named = dict(setting.partition("=")[::2] for setting in env)
    return named.get("PATH") or DEFAULT_SEARCH


@lru_cache(65536)
def _place(files: ImageFiles, path: bytes) -> bytes | None:
    here, rest, links = b"", path.split(b"/")[::-1], 0
    while rest:
        part = rest.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            here = here.rpartition(b"/")[0]
            continue
        here += b"/" + part
        if below(here, MOUNTS) or (here not in files.paths and here not in files.links):
            return None if b".." in rest else _joined(here, rest)
        if here in files.links:
            links += 1
            if links > _MOST_LINKS:
                return None
            target = files.links[here]
            here = b"" if target.startswith(b"/") else here.rpartition(b"/")[0]
            rest += target.split(b"/")[::-1]
    return here or b"/"


def _joined(here: bytes, rest: list[bytes]) -> bytes:
    return b"/".join([here, *(part for part in reversed(rest) if part not in (b"", b"."))])


@frozen
class RunImage:
    """What a run is given: `id` says which image it is, `tag` is for people.

    id             content identity (sha256:…), "" for a plan that is made only to see whether it can be
    runtime_roots  folders of the image, absolute, that hold what its programs are made of; "/": whatever
                   is in its file list
    locked         `id` is the one in the image's lock
    files          what is in the image, None if it is not known
    handle         what the engine calls it; never recorded, because another engine's differs
    search         PATH of its containers, where nothing else is declared
    """

    tag: str
    id: str
    runtime_roots: tuple[str, ...]
    locked: bool = False
    files: ImageFiles | None = None
    handle: str = ""
    search: str = DEFAULT_SEARCH


NO_IMAGE = RunImage("", "", ())
