"""Lanes: every rule is needed, every path of the repository is known, and what git lacks is said."""

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from harness.cli import main
from harness.contracts.proof_pack import ALL_GATES
from harness.errors import InputError
from harness.gates import source
from harness.gates.lanes import RULES, classify, fixture_gates, is_gated, rule_of
from harness.gates.source import ROOT, changed_paths, read_source, trees_at, uncommitted_paths

ALL = (ALL_GATES,)
LINTER = "What gates run never imports comparisons or presenters"


def git(folder: Path, *arguments: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = [
        "git",
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@t",
        "-c",
        "init.defaultBranch=main",
        *arguments,
    ]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, env=clean).stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Two commits: one of everything, one that changes a comparison."""
    folder = tmp_path / "clone"
    for name in ("bpf/capture.c", "bpf/README.md", "harness/run.py", "harness/compare/drift.py", "docs/a.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    (folder / "harness/compare/drift.py").write_text("changed")
    git(folder, "commit", "-qam", "two")
    return folder


def tracked() -> list[str]:
    return [path for path in git(ROOT, "ls-files", "-z").split("\0") if path]


def test_every_tracked_path_is_known_to_a_rule() -> None:
    assert [path for path in tracked() if rule_of(path) is None] == []


def test_every_rule_decides_about_some_path() -> None:
    used = {rule.name for path in tracked() if (rule := rule_of(path))}
    assert [rule.name for rule in RULES if rule.name not in used] == []
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(
    ("path", "gates"),
    [
        ("docs/limits.md", ()),
        ("bpf/README.md", ()),
        ("bpf/capture.c", ALL),
        ("harness/contracts/health.py", ALL),
        ("harness/evidence/classify.py", ALL),
        ("harness/bundle/verify.py", ALL),
        ("harness/capture/ring.py", ALL),
        ("harness/gates/proof_pack.py", ALL),
        ("harness/gates/lanes.py", ()),
        ("harness/compare/drift.py", ()),
        ("harness/compare/pointer.py", ALL),
        ("harness/present/html.py", ()),
        ("harness/present/progress.py", ALL),
        ("harness/new_module.py", ALL),
        ("schemas/any.schema.json", ()),
        ("tests/unit/any.py", ()),
        ("images/base.lock.toml", ALL),
        ("requirements/runtime.lock", ALL),
        ("requirements/dev.lock", ()),
        ("pyproject.toml", ALL),
        (".github/workflows/delegated-gates.yml", ALL),
        ("runner-fixtures/kernel-only/agent.py", ("kernel-only",)),
        (
            "runner-fixtures/openai-agents/agent.mjs",
            ("openai-agents-kernel-policy", "openai-agents-hidden-write", "openai-agents-multi-tool"),
        ),
        ("runner-fixtures/openai-agents-hidden-write/fixture.toml", ("openai-agents-hidden-write",)),
        ("runner-fixtures/crewai/agent.py", ()),
        ("runner-fixtures/not-there/agent.py", ALL),
        ("runner-fixtures/loose.txt", ALL),
        ("unheard-of/file", ALL),
    ],
)
def test_a_path_needs(path: str, gates: tuple[str, ...]) -> None:
    lane = classify([path])
    assert lane.gates == gates
    assert lane.verdicts[0].why


def test_the_gates_of_all_paths_together_are_needed() -> None:
    paths = [
        "runner-fixtures/kernel-policy/client.py",
        "docs/limits.md",
        "runner-fixtures/kernel-only/agent.py",
    ]
    assert classify(paths).gates == ("kernel-only", "kernel-policy")
    assert classify([*paths, "harness/run.py"]).gates == ALL
    assert classify([]).gates == ()


def test_every_gate_has_a_fixture_folder_that_needs_it() -> None:
    assert {path.parent.name for path in (ROOT / "runner-fixtures").glob("*/fixture.toml")} <= set(
        fixture_gates()
    )


def test_paths_without_a_gate_are_held_apart_by_the_import_linter() -> None:
    """The lint session checks the imports; here, that it checks them for exactly these paths."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one["name"] == LINTER]
    ungated = {
        path
        for path in tracked()
        if path.startswith("harness/") and path.endswith(".py") and not is_gated(path)
    } - {"harness/gates/lanes.py"}

    def module(path: str) -> str:
        return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def below(name: str, parents: list[str]) -> bool:
        return any(name == parent or name.startswith(f"{parent}.") for parent in parents)

    assert [path for path in ungated if not below(module(path), contract["forbidden_modules"])] == []
    excepted = [line.rpartition(" -> ")[2] for line in contract["ignore_imports"]]
    assert [name for name in excepted if not is_gated(name.replace(".", "/") + ".py")] == []
    program = {module(path).partition(".")[2].partition(".")[0] for path in tracked() if is_gated(path)}
    assert {"run", "capture", "engine", "evidence", "bundle", "contracts", "policy", "gates"} <= program
    for name in (
        "run",
        "plan",
        "capture",
        "engine",
        "evidence",
        "bundle",
        "contracts",
        "policy",
        "gates",
        "host",
    ):
        assert f"harness.{name}" in contract["source_modules"]


def test_committed_uncommitted_and_untracked_changes_count(clone: Path) -> None:
    assert changed_paths("HEAD", clone) == ()
    assert changed_paths("HEAD~1", clone) == ("harness/compare/drift.py",)
    (clone / "harness/run.py").rename(clone / "harness/new.py")
    (clone / "docs/ü\n.md").write_text("")
    expected = ("docs/ü\n.md", "harness/compare/drift.py", "harness/new.py", "harness/run.py")
    assert changed_paths("HEAD~1", clone) == expected
    assert classify(expected, {}).gates == ALL


def test_changes_on_the_base_since_the_fork_do_not_count(clone: Path) -> None:
    git(clone, "checkout", "-qb", "topic", "HEAD~1")
    (clone / "docs/b.md").write_text("")
    git(clone, "add", "-A")
    git(clone, "commit", "-qm", "three")
    assert changed_paths("main", clone) == ("docs/b.md",)


def test_a_shallow_clone_is_told_to_fetch(clone: Path, tmp_path: Path) -> None:
    git(clone, "checkout", "-q", "--orphan", "elsewhere")
    git(clone, "commit", "-qm", "no history")
    with pytest.raises(InputError, match=r"no commit in common[\s\S]*--unshallow"):
        changed_paths("main", clone)
    git(tmp_path, "clone", "-q", "--depth", "1", "--branch", "main", f"file://{clone}", "shallow")
    with pytest.raises(InputError, match=r"--base HEAD~1[\s\S]*fetch it first"):
        changed_paths("HEAD~1", tmp_path / "shallow")
    with pytest.raises(InputError, match="fetch it first"):
        changed_paths("--output=x", clone)
    with pytest.raises(InputError, match="not a git repository"):
        uncommitted_paths(tmp_path)


def test_trees_are_the_largest_that_are_wholly_gated(clone: Path) -> None:
    trees = trees_at("HEAD", clone)
    # bpf/ also holds a README and harness/ a comparison, whose changes need no gate
    assert sorted(trees) == ["bpf/capture.c", "harness/run.py"]
    assert trees["bpf/capture.c"] == git(clone, "rev-parse", "HEAD:bpf/capture.c").strip()
    assert trees == trees_at("HEAD~1", clone)
    with pytest.raises(InputError, match="name a commit"):
        trees_at("no-such-revision", clone)


def test_a_changed_tree_is_bound_to_no_commit(clone: Path) -> None:
    found = read_source(clone)
    assert found.source.head_sha == git(clone, "rev-parse", "HEAD").strip()
    assert all(tree.oid and not tree.error for tree in found.path_trees.values())
    (clone / "bpf/capture.c").write_text("changed")
    (clone / "bpf/README.md").write_text("changed")
    (clone / "harness/new.py").write_text("")
    trees = read_source(clone).path_trees
    assert {path: tree.error for path, tree in trees.items() if tree.oid is None} == {
        "bpf/capture.c": "uncommitted changes",
        "harness/new.py": "uncommitted changes",
    }


def test_without_git_the_source_says_why_it_is_bound_to_nothing(tmp_path: Path) -> None:
    found = read_source(tmp_path)
    assert found.source.head_sha is None
    assert "not a git repository" in (found.path_trees["."].error or "")


def test_a_copy_inside_of_another_clone_is_not_that_clone(clone: Path) -> None:
    """As where the program is installed below another project: that project's commit says nothing of it."""
    found = read_source(clone / "harness")
    assert found.source.head_sha is None
    assert "not a git repository of its own" in (found.path_trees["."].error or "")


def test_the_command_says_which_and_why(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(source, "ROOT", clone)
    for name in ("changed_paths", "uncommitted_paths", "trees_at"):
        monkeypatch.setattr(getattr(source, name), "__defaults__", (clone,))
    assert main(["lanes", "--base", "HEAD~1"]) == 0
    assert capsys.readouterr().out.startswith("needs: none\n  comparisons and presenters (none): ")
    (clone / "harness/run.py").write_text("changed")
    assert main(["lanes", "--base", "HEAD", "--explain"]) == 0
    assert "  harness/run.py: all: program: " in capsys.readouterr().out
    assert main(["lanes", "--base", "HEAD", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["gates"] == ["all"]
    assert [path["rule"] for path in document["paths"]] == ["program"]
    assert main(["lanes", "--base", "nowhere"]) == 2
