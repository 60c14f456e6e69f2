"""Builds the layers of all gates' images into the default state's cache, no engine needed.

`nox -s tests` runs it beside the pure tests: from nothing it takes minutes, on one core and the network.
"""

from harness.engine.images import build_image
from harness.gates.catalog import all_gates
from harness.host.state import default_state
from harness.plan import FIXTURES


def build() -> None:
    """What is there already is left alone."""
    state = default_state().prepare()
    for name in dict.fromkeys(fixture.file.image for fixture in all_gates(FIXTURES)):
        image = build_image(name, state=state.root, fixtures=FIXTURES, progress=print)
        print(f"{name} {image.id}")


if __name__ == "__main__":
    build()
