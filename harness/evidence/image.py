"""What is known of the image of a run."""

from attrs import field, frozen


@frozen
class ImageFiles:
    """What is in it, so that an opened path can be told from one mounted over it.

    sha256  ("sha256:…") of the list that has each file's digest, size and mode
    paths   absolute and without links in them, as the kernel resolves names; folders and links are among them
    """

    sha256: str
    paths: frozenset[bytes] = field(repr=False)


@frozen
class RunImage:
    """What a run is given: `id` says which image it is, `tag` is for people.

    id             content identity (sha256:…), "" for a plan that is made only to see whether it can be
    runtime_roots  folders of the image, absolute, that hold what its programs are made of
    locked         `id` is the one in the image's lock
    files          what is in the image, None if it is not known
    handle         what the engine calls it; never recorded, because another engine's differs
    """

    tag: str
    id: str
    runtime_roots: tuple[str, ...]
    locked: bool = False
    files: ImageFiles | None = None
    handle: str = ""


NO_IMAGE = RunImage("", "", ())
