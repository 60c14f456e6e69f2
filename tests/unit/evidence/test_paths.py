"""Names made normal, and folders compared, against the plain definition."""

from hypothesis import given
from hypothesis import strategies as st

from harness.evidence.paths import normal, within

paths = st.text(alphabet="ab./", max_size=12).map(str.encode)


@given(paths)
def test_normal_is_the_lexical_walk(path: bytes) -> None:
    place: list[bytes] = []
    for step in path.split(b"/"):
        if step == b"..":
            del place[-1:]
        elif step not in (b"", b"."):
            place.append(step)
    assert normal(b"/" + path) == b"/" + b"/".join(place)


@given(paths, st.lists(st.sampled_from(["/a", "/a/b", "/b/", "/"]), max_size=3))
def test_within_is_the_folder_or_below_it(path: bytes, folders: list[str]) -> None:
    name = normal(b"/" + path).decode()
    assert within(name.encode(), *folders) == any(
        folder == "/" or name == folder.rstrip("/") or name.startswith(folder.rstrip("/") + "/")
        for folder in folders
    )
