"""What is known of an image's files, so that an opened path can be told from one mounted over it."""

from attrs import field, frozen


@frozen
class ImageFiles:
    """`paths` are absolute and without links in them, as the kernel resolves names; folders and links
    are among them. `sha256` ("sha256:…") is of the list that has each file's digest, size and mode."""

    sha256: str
    paths: frozenset[bytes] = field(repr=False)
