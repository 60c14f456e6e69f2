"""proof-pack and lanes --proof on the command line: exit codes, and what a person reads."""

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.contracts.proof_pack import PathTree, pack_bytes
from harness.gates import source
from tests.unit.bundle.gate_sessions import HIDDEN, SAFE, session
from tests.unit.bundle.gate_sessions import source as gate_source
from tests.unit.gates.test_lanes import clone, git

__all__ = ["clone"]


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    return session(tmp_path / "gates")


def test_make_and_verify(gates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = tmp_path / "pack"
    assert main(["proof-pack", str(gates), "-o", str(pack)]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {pack} (2 gates, ")
    assert main(["proof-pack", "verify", str(pack)]) == 0
    assert capsys.readouterr().out == f"ok {pack}\n  {SAFE}: passed\n  {HIDDEN}: passed\n"
    (pack / "payload/gates" / SAFE / "gate.log").write_text("")
    assert main(["proof-pack", "verify", str(pack), "--json"]) == 4
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["passed"]) == (False, False)
    assert {"code", "member", "place", "expected", "actual"} == set(document["problems"][0])
    assert main(["proof-pack", str(gates), "-o", str(pack)]) == 2


def test_a_gate_that_is_not_proven_is_a_finding(
    gates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (gates / SAFE / "run-3" / f"runner-{SAFE}.tar.gz").unlink()
    pack = tmp_path / "pack.tar"
    assert main(["proof-pack", str(gates), "-o", str(pack)]) == 1
    assert f"{SAFE}: incomplete: ProofRunMissing" in capsys.readouterr().out
    assert main(["proof-pack", "verify", str(pack)]) == 1
    assert f"{SAFE}: incomplete" in capsys.readouterr().out
    assert main(["proof-pack", str(gates), "--all", "-o", str(tmp_path / "all")]) == 1
    assert "kernel-only: missing" in capsys.readouterr().out


def test_bad_usage_is_exit_2(gates: Path, tmp_path: Path) -> None:
    pack = str(tmp_path / "pack.tar")
    for arguments in (
        [],
        [str(gates), str(gates)],
        [str(gates), "--at", "HEAD"],
        ["verify", str(gates), "-o", pack],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["proof-pack", *arguments])
        assert stopped.value.code == 2
    assert main(["proof-pack", "verify", pack]) == 2
    assert not Path(pack).exists()


def test_options_may_stand_anywhere(gates: Path, tmp_path: Path) -> None:
    pack = str(tmp_path / "pack.tar")
    assert main(["proof-pack", "-o", pack, "--gate", SAFE, str(gates)]) == 0
    assert main(["proof-pack", "verify", "--json", pack]) == 0
    assert main(["-q", "proof-pack", str(gates), "--gate", SAFE, "-o", str(tmp_path / "verify")]) == 0


def test_a_pack_covers_a_change_only_for_its_own_trees(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("changed_paths", "uncommitted_paths", "trees_at"):
        monkeypatch.setattr(getattr(source, name), "__defaults__", (clone,))
    fixture = clone / "runner-fixtures" / "openai-agents-hidden-write" / "fixture.toml"
    fixture.parent.mkdir(parents=True)
    fixture.write_text("changed")
    git(clone, "add", "-A")
    git(clone, "commit", "-qm", "three")
    gates = session(tmp_path / "gates")
    trees = {path: PathTree(oid=oid) for path, oid in source.trees_at("HEAD").items()}
    for gate in (SAFE, HIDDEN):
        (gates / gate / "source.json").write_bytes(pack_bytes(gate_source(path_trees=trees)))
    pack = str(tmp_path / "pack.tar")
    assert main(["proof-pack", str(gates), "-o", pack]) == 0
    assert main(["lanes", "--base", "HEAD~1", "--proof", pack]) == 0
    assert main(["proof-pack", "verify", pack, "--at", "HEAD"]) == 0
    # other gates are needed: not covered
    (clone / "harness/run.py").write_text("changed")
    assert main(["lanes", "--base", "HEAD", "--proof", pack]) == 1
    assert "harness/run.py (uncommitted)" in capsys.readouterr().err
    # the same gates, of another commit: not proven
    git(clone, "commit", "-qam", "four")
    assert main(["lanes", "--base", "HEAD~1", "--proof", pack]) == 4
    assert "ProofTreeMismatch" in capsys.readouterr().err
    assert main(["proof-pack", "verify", "--at", "HEAD~1", pack]) == 0
    assert main(["proof-pack", "verify", pack, "--at", "HEAD"]) == 4
