"""What a file is that is no archive of a run: the wrong one, or packed anew by something else."""

from harness.bundle.layout import BLOCK
from harness.contracts.replay_kit import KIT

_ORIGINAL = "get the .tar.gz as it was written: its bytes are fixed"
_UNPACK = "unpack it, and name the .tar.gz that is in it"
# By the first bytes (the formats' own specifications; of Git LFS: its pointer files).
_MAGIC = (
    (b"PK\x03\x04", "is a zip file: CI systems and browsers wrap what they download", _UNPACK),
    (b"PK\x05\x06", "is an empty zip file", _ORIGINAL),
    (b"\x1f\x8b", "is a gzip file that another program packed", _ORIGINAL),
    (b"\x28\xb5\x2f\xfd", "is packed by zstd", _UNPACK),
    (b"\xfd7zXZ\0", "is packed by xz", _UNPACK),
    (b"BZh", "is packed by bzip2", _UNPACK),
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file itself", "run `git lfs pull`"),
)
_TEXTS = (
    (b"<!doctype html", "is a web page", "sign in where it comes from, and get the file itself"),
    (b"<html", "is a web page", "sign in where it comes from, and get the file itself"),
    (b"<?xml", "is XML, as servers answer when they refuse", "look into it, and get the file itself"),
    (b"{", "is JSON", "name the archive; a server's refusal may look so too: look into it"),
)
HEAD = BLOCK  # bytes of a file that `foreign` wants


def foreign(head: bytes) -> tuple[str, str]:
    """What a file that begins so is, in half a sentence, and what to do."""
    if not head:
        return "is empty: the run or the download was cut off", "measure again, or get the file again"
    for magic, what, remedy in _MAGIC:
        if head.startswith(magic):
            return what, remedy
    if head[257:262] == b"ustar":
        if head.startswith(KIT.encode() + b"\0"):
            return "is a replay kit", "see `assay-runner replay`"
        return "is a tar that is not packed", f"{_ORIGINAL}; or unpack it, and name its folder"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for begun, what, remedy in _TEXTS:
        if text.startswith(begun):
            return what, remedy
    return "is no gzip file", _ORIGINAL
