"""Builds the layers of all gates' images into the default state's cache, no engine needed.

`nox -s tests` runs it beside the pure tests: from nothing it takes minutes. Builders take turns; the wheels,
most of what is waited for, are fetched before, for several images at once.
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.engine.images import build_image
from harness.engine.packages import keep_wheels
from harness.gates.catalog import all_gates
from harness.host.state import default_state
from harness.plan import FIXTURES

AT_ONCE = 3


def build() -> None:
    """What is there already is left alone."""
    state = default_state().prepare()
    names = list(dict.fromkeys(fixture.file.image for fixture in all_gates(FIXTURES)))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        fetched = [pool.submit(fetch, FIXTURES / name / "requirements.lock", state.cache) for name in names]
        for name, wheels in zip(names, fetched, strict=True):
            wheels.result()
            image = build_image(name, state=state.root, fixtures=FIXTURES, progress=print)
            print(f"{name} {image.id}")


def fetch(lock: Path, store: Path) -> None:
    """The wheels of a lock, if there is one, into the store."""
    if lock.is_file():
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=store) as scratch:
            keep_wheels(lock, Path(scratch), store)


if __name__ == "__main__":
    build()
