"""Whoever meets a code finds it in the runbook: every exit code, every code of verification and of runs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import cli, errors

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
MAKERS = {"VerificationError", "ArchiveRefusedError", "Problem", "_failure", "_Failure"}
CODE = re.compile(r"(Integrity|Contract|Limit|Security|Proof)[A-Z][A-Za-z]+|[A-Z][a-z]+([A-Z][a-z]+)+")
FAMILIES = re.compile(r"(Integrity|Contract|Limit|Proof|Attestation)[A-Z][A-Za-z]+")


def _strings(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def verification_codes() -> set[str]:
    """First arguments of what makes a failure, and every word of the families of contracts §1.7."""
    found = set()
    for path in (ROOT / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS:
                found |= {word for word in _strings(node.args[0]) if CODE.fullmatch(word)}
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {node.value} if FAMILIES.fullmatch(node.value) else set()
    return found


def unclean_codes() -> set[str]:
    text = (ROOT / "harness/evidence/accounting.py").read_text(encoding="utf-8")
    plain = set(re.findall(r'\(\s*"([a-z_]+)", ', text)) - {"total_seen", "received", "decoded"}
    named = {f"{name}:" for name in re.findall(r'f"([a-z_]+):\{', text)}
    others = {"decisions:", "sdk:", "engine_lost", "proxy_not_ready"}
    identities = {"records", "classes", "sentinels", "bytes", "freezes"}
    return (plain - identities) | named | others


def test_what_is_looked_for_is_found() -> None:
    assert {
        "IntegrityTar",
        "ContractSurfaceMismatch",
        "ProofRunMissing",
        "ImageUnlocked",
    } <= verification_codes()
    assert {
        "ring_drops",
        "left_slice",
        "proxy_failed",
        "identity_broken:",
        "network_seal:",
    } <= unclean_codes()


def test_every_exit_code_is_explained() -> None:
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]
    assert len(classes) == 8
    for one in classes:
        assert issubclass(one, errors.AssayError)
        assert re.search(rf"^\| {one.exit_code} \|.*`{one.__name__}`", RUNBOOK, re.MULTILINE), one
    for code in (0, cli.INTERRUPTED, cli.TERMINATED):
        assert re.search(rf"^\| {code} \|", RUNBOOK, re.MULTILINE)


@pytest.mark.parametrize("code", sorted(verification_codes() | unclean_codes()))
def test_every_code_is_explained(code: str) -> None:
    rows = [line for line in RUNBOOK.splitlines() if line.startswith("|") and f"`{code}`" in line]
    assert len(rows) == 1, f"give {code} a row in docs/runbook.md: what it means, what to do"
    assert len([cell for cell in rows[0].strip("|").split("|") if cell.strip()]) == 3


def test_no_code_is_explained_that_is_not_there() -> None:
    section = RUNBOOK.partition("## Verification failed")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([A-Z][A-Za-z]+)`", section))
    # refused by the writer; composed from the name of what was wrong
    composed = {"ObservationHealth", "CapabilitySurface", "CorrelationReport"}
    assert named - composed - verification_codes() == set()
