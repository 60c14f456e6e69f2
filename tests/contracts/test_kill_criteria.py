"""docs/readiness/kill-criteria.md: what can be looked at is looked at, and every command named exists."""

import ast
import re
import tomllib
from pathlib import Path

import attrs
import pytest

from harness.contracts.compared import COMPARED
from harness.engine.containers import CHANGE_USER
from harness.engine.image_lock import LOCK_NAME
from harness.gates.catalog import all_fixtures, all_gates
from harness.spec import ID_SOURCES, FixtureFile, GateSpec, SubjectSpec, ToolsSpec

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "readiness").glob("*.md"))
KEYS = re.compile(
    rb"sk-[A-Za-z0-9_-]{20}|AIza[A-Za-z0-9_-]{30}|gh[pousr]_[A-Za-z0-9]{30}|-----BEGIN [A-Z ]*PRIVATE"
)


def commands() -> list[str]:
    texts = (page.read_text(encoding="utf-8") for page in PAGES)
    return sorted(
        {
            found
            for text in texts
            for found in re.findall(r"`((?:python|nox|lint-imports|assay-runner) [^`]+)`", text)
        }
    )


def test_the_pages_name_commands() -> None:
    assert len(commands()) > 20
    for line in (ROOT / "docs/readiness/kill-criteria.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith("| ends the line"):
            assert "`" in line or line.endswith("| for people |"), line


@pytest.mark.parametrize("command", commands())
def test_a_command_that_is_named_exists(command: str) -> None:
    words = command.split()
    if words[:3] == ["python", "-m", "pytest"]:
        file, _, name = words[3].partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in tests if name else any(test.startswith("test_") for test in tests)
    elif words[:2] == ["python", "-m"]:
        assert (ROOT / f"{words[2].replace('.', '/')}.py").is_file()
    elif words[0] == "nox":
        assert f"def {words[2]}(" in (ROOT / "noxfile.py").read_text(encoding="utf-8")
    elif words[0] == "assay-runner":
        assert any(
            f'"{words[1]}"' in path.read_text(encoding="utf-8")
            for path in (ROOT / "harness" / "arguments").glob("*.py")
        )
    else:
        assert "import-linter" in (ROOT / "requirements/dev.in").read_text(encoding="utf-8")


def test_there_is_one_verifier() -> None:
    """Gates, packs and comparisons ask harness.bundle.verify; none of them reads a digest for itself."""
    asking = [
        "harness/gates/acceptance.py",
        "harness/bundle/proof_gates.py",
        "harness/arguments/trust.py",
    ]
    for name in asking:
        assert "from harness.bundle.verify import" in (ROOT / name).read_text(encoding="utf-8"), name
    judges = [
        path.relative_to(ROOT)
        for path in (ROOT / "harness").rglob("*.py")
        if re.search(r"^RULES: tuple\[Rule", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(judges) == 1


def test_no_fixture_can_lower_the_bar() -> None:
    """What a gate may declare is what the fixture does; drops, filters and comparisons are not among it."""
    assert set(attrs.fields_dict(GateSpec)) <= {
        "name", "run_id", "label", "scenario", "filesystem_paths", "network_endpoints", "process_execs",
        "mcp_tools", "policy_decisions", "tool_call_ids", "correlation_status", "ambiguities", "absent_paths",
        "writes", "sdk",
    }  # fmt: skip
    assert {
        "observation-health.json", "capability-surface.json", "correlation-report.json", "layers/sdk.ndjson",
        "layers/policy.ndjson",
    } <= set(COMPARED)  # fmt: skip
    for fixture in all_gates():
        gate = fixture.file.gate
        assert gate is not None
        if len(gate.tool_call_ids) < 2:  # contracts §7.2: several calls in one session may be ambiguous
            assert (gate.correlation_status, gate.ambiguities) == ("clean", ()), gate.name


def test_every_tool_call_id_has_an_owner() -> None:
    with_sdk = [fixture for fixture in all_fixtures() if "sdk" in fixture.file.witnesses]
    assert len(with_sdk) >= 2
    assert {fixture.file.id_source for fixture in with_sdk} <= set(ID_SOURCES)
    assert not any("order" in source or "time" in source for source in ID_SOURCES)


def test_no_fixture_reaches_out_or_holds_a_key() -> None:
    assert {fixture.file.network for fixture in all_fixtures()} <= {"none", "loopback"}
    files = [path for path in (ROOT / "runner-fixtures").rglob("*") if path.is_file()]
    assert len(files) > 50
    assert [path for path in files if KEYS.search(path.read_bytes())] == []
    assert KEYS.search(b"token = sk-" + b"a" * 20)


def test_no_fixture_can_ask_for_privileges() -> None:
    asked = {name for cls in (FixtureFile, SubjectSpec, ToolsSpec) for name in attrs.fields_dict(cls)}
    words = ("priv", "cap_", "device", "user", "root", "mount", "secur", "host", "pid", "ipc")
    assert [name for name in asked if any(word in name for word in words)] == []
    containers = (ROOT / "harness/engine/containers.py").read_text(encoding="utf-8")
    assert 'cap_drop=["ALL"]' in containers
    assert containers.count("cap_add") == 1  # what the tools' first process gives up: KILL, SETGID, SETUID
    assert CHANGE_USER == ("KILL", "SETGID", "SETUID")
    assert "privileged" not in containers.replace("unprivileged", "")


def test_every_image_is_locked() -> None:
    for fixture in all_fixtures():
        lock = fixture.folder.parent / fixture.file.image / LOCK_NAME
        assert re.fullmatch("sha256:[0-9a-f]{64}", tomllib.loads(lock.read_text(encoding="utf-8"))["id"])


def test_no_normaliser_knows_a_runtime() -> None:
    names = {fixture.file.agent_shim for fixture in all_fixtures()} - {"none"}
    assert len(names) >= 2
    for folder in ("evidence", "bundle", "capture"):
        for path in (ROOT / "harness" / folder).glob("*.py"):
            text = path.read_text(encoding="utf-8").lower()
            assert [name for name in names if name in text] == [], path


def test_no_other_platform_is_half_supported() -> None:
    for path in (ROOT / "harness").rglob("*.py"):
        text = path.read_text(encoding="utf-8").lower()
        assert not re.search(r"darwin|win32|macos|msvcrt", text), path
