"""Path arguments and resource URIs: what each is judged as, or why it cannot be judged.

Stdlib only, shipped beside the proxy. Nothing is repaired: a name that servers may read in more
than one way is not judged, which no `allow` takes and every `deny` does.
"""

import posixpath
import re
import unicodedata
from typing import NamedTuple

MAX_PATH = 4096  # PATH_MAX: a longer name cannot be opened, and keeps glob matching cheap

# What some language's trim() takes off beside Python's: zero-width space, byte order mark.
_MORE_BLANKS = "\u200b\ufeff"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:")
_ODD_IN_URI = re.compile(r"[\x00-\x20\x7f\\]|\s|%(?![0-9A-F]{2})")
# Escapes that a server may undo before it looks: of letters, digits, "-._~", and of separators.
_ESCAPES = re.compile(r"%(?:3[0-9]|[46][1-9A-F]|[57][0-9A]|2[DEF]|5[CF]|7E|00)")

_LETTERS = re.compile(r"(?:%[89A-F][0-9A-F])+")


class Judged(NamedTuple):
    """`path` is absolute, lexically normalised and in the Unicode form that was sent.

    None for what cannot be judged, and `why`: "not_a_string", "too_long", "nul", "not_unicode",
    "blank", "home", "url" or "relative".
    """

    path: str | None
    why: str = ""


def judged_path(value: object, base: str | None) -> Judged:
    """`base`: the folder that relative names start from; None: the policy names none."""
    if not isinstance(value, str):
        return Judged(None, "not_a_string")
    why = _never(value)
    if not why and not value.startswith("/"):
        why = _odd_start(value) or ("relative" if base is None else "")
    if why:
        return Judged(None, why)
    # POSIX normpath keeps a leading "//"; the kernel does not.
    return Judged("/" + posixpath.normpath(posixpath.join(base or "/", value)).lstrip("/"))


def odd_uri(uri: str) -> str:
    """Why a resource's URI cannot be judged; empty if it can, because it is in its one normal form.

    RFC 3986 §6.2.2: scheme in lower case, no dot segments, no escapes that stand for themselves.
    """
    why = _never(uri)
    if why:
        return why
    scheme = _SCHEME.match(uri)
    if scheme is None or _ODD_IN_URI.search(uri) or _ESCAPES.search(uri):
        return "not_normal"
    # A file has no host, and every other spelling of one reads differently somewhere.
    if scheme[0] == "file:" and not re.match(r"file:///(?!/)", uri):
        return "not_normal"
    path = re.split(r"[?#]", uri[scheme.end() :], maxsplit=1)[0]
    if path.startswith("//"):
        path = "/" + path[2:].partition("/")[2]
    *folders, last = path.removeprefix("/").split("/")
    if last in (".", "..") or {"", ".", ".."} & set(folders):
        return "not_normal"
    return "" if uri_text(uri) is not None else "not_normal"


def uri_text(uri: str) -> str | None:
    """With the letters beyond ASCII that its escapes stand for; None if they are no UTF-8."""
    try:
        return _LETTERS.sub(lambda found: bytes.fromhex(found[0].replace("%", "")).decode(), uri)
    except UnicodeDecodeError:
        return None


def nfc(text: str) -> str:
    """The one Unicode form that names are compared in."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def folded(key: str) -> str:
    """A key as a decoder reads it that ignores case."""
    return nfc(nfc(key).casefold())


def is_unicode(text: str) -> bool:
    """False for lone surrogates: some servers make bytes of them, and no record can hold them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_blank(text: str) -> bool:
    return not text.strip().strip(_MORE_BLANKS)


def _never(value: str) -> str:
    if len(value) > MAX_PATH:
        return "too_long"
    if "\0" in value:
        return "nul"
    if not is_unicode(value):
        return "not_unicode"
    # URL parsers drop leading control characters, servers trim.
    if value and (value.strip() != value or value.strip(_MORE_BLANKS) != value or value[0] < " "):
        return "blank"
    return ""


def _odd_start(value: str) -> str:
    if value.startswith("~"):
        return "home"
    return "url" if ":" in value.split("/", 1)[0] else ""
