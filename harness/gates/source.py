"""What git says of the tree that gates run from, and of the change that they are to prove.

git runs with its own error messages and the user's own configuration; it is never told to write.
"""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from attrs import evolve

from harness.contracts.canonical import sha256_of
from harness.contracts.proof_pack import (
    GATE_LOG,
    GATE_SOURCE,
    GateSource,
    PathTree,
    Source,
    Workflow,
    pack_bytes,
)
from harness.errors import InputError
from harness.gates.lanes import is_gated

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0


class _GitError(Exception):
    """git's own words."""


def read_source(root: Path = ROOT) -> GateSource:
    """Commit, gated trees and workflow as they are now; what git cannot say is null, with its reason."""
    try:
        head = _commit(root, "HEAD")
        trees = gated_trees(root, head)
    except _GitError as error:
        head, trees = None, {".": PathTree(error=str(error))}
    env = os.environ
    workflow_ref = env.get("GITHUB_WORKFLOW_REF", "")
    repository = env.get("GITHUB_REPOSITORY")
    url = "/".join((env.get("GITHUB_SERVER_URL", ""), repository or "", "actions/runs"))
    return GateSource(
        source=Source(
            repository=repository,
            head_sha=head,
            ref=env.get("GITHUB_REF"),
            workflow_name=env.get("GITHUB_WORKFLOW"),
            workflow_path=workflow_ref.partition("@")[0].removeprefix(f"{repository}/") or None,
            workflow_sha=env.get("GITHUB_WORKFLOW_SHA"),
            run_id=env.get("GITHUB_RUN_ID"),
            run_attempt=env.get("GITHUB_RUN_ATTEMPT"),
            run_url=f"{url}/{env['GITHUB_RUN_ID']}" if "GITHUB_RUN_ID" in env else None,
        ),
        workflow=Workflow(event=env.get("GITHUB_EVENT_NAME"), runner=env.get("RUNNER_NAME")),
        path_trees=trees,
        ebpf={
            str(path.relative_to(root)): sha256_of(path.read_bytes())
            for path in sorted((root / "bpf").glob("*.[ch]"))
        },
        finished_at="",
    )


def write_record(folder: Path, source: GateSource, lines: Iterable[str]) -> None:
    """The gate's log, and beside it what the gate ran from; the folder is the gate's."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    (folder / GATE_SOURCE).write_bytes(pack_bytes(evolve(source, finished_at=now)))
    (folder / GATE_LOG).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def trees_at(revision: str, root: Path = ROOT) -> Mapping[str, str]:
    """Path -> object id of every gated path at a revision; InputError when git cannot say."""
    try:
        return _wholly_gated(_listed(root, _commit(root, revision)))
    except _GitError as error:
        raise InputError(
            str(error), place=f"revision {revision}", hint="name a commit of this clone"
        ) from None


def uncommitted_paths(root: Path = ROOT) -> tuple[str, ...]:
    """Every path whose content is not that of HEAD, untracked files included; InputError when git fails."""
    try:
        _commit(root, "HEAD")
        return _uncommitted(root)
    except _GitError as error:
        raise InputError(str(error), place=str(root), hint="git must work there") from None


def gated_trees(root: Path, head: str) -> dict[str, PathTree]:
    """The largest trees of `head` that are gated as a whole, and why one of them is not what ran."""
    trees = {path: PathTree(oid=oid) for path, oid in _wholly_gated(_listed(root, head)).items()}
    for changed in filter(is_gated, _uncommitted(root)):
        inside = [path for path in trees if changed == path or changed.startswith(f"{path}/")]
        for path in inside or [changed]:
            trees[path] = PathTree(error="uncommitted changes")
    return dict(sorted(trees.items()))


def changed_paths(base: str, root: Path = ROOT) -> tuple[str, ...]:
    """Every path that differs from the fork point with `base`: committed, uncommitted or not yet tracked.

    InputError when there is no clone, no such revision, or no common commit (a shallow clone).
    """
    try:
        commit = _commit(root, base)
    except _GitError as error:
        hint = "fetch it first (git fetch origin REV), or name another revision"
        raise InputError(str(error), place=f"--base {base}", hint=hint) from None
    try:
        fork = _git(root, "merge-base", commit, "HEAD").strip()
    except _GitError:
        raise InputError(
            "has no commit in common with HEAD in this clone",
            place=f"--base {base}",
            hint="a shallow clone lacks history: git fetch --unshallow",
        ) from None
    try:
        listed = _git(root, "diff", "--name-only", "--no-renames", "--no-ext-diff", "-z", fork, "--")
    except _GitError as error:
        raise InputError(str(error), place=str(root), hint="git diff must work there") from None
    return tuple(sorted({*_split(listed), *_untracked(root)}))


def _commit(root: Path, revision: str) -> str:
    top = _git(root, "rev-parse", "--show-toplevel").removesuffix("\n")
    if Path(top).resolve() != root.resolve():  # an installed copy that lies inside of another project
        raise _GitError(f"{root} is not a git repository of its own")
    return _git(root, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").strip()


def _listed(root: Path, head: str) -> Iterator[tuple[str, str, bool]]:
    """(path, object id, is a folder) of everything in the commit."""
    for line in _split(_git(root, "ls-tree", "-r", "-t", "-z", "--full-tree", head)):
        facts, path = line.split("\t", 1)
        _mode, kind, oid = facts.split(" ")
        yield path, oid, kind == "tree"


def _wholly_gated(listed: Iterable[tuple[str, str, bool]]) -> dict[str, str]:
    entries = list(listed)
    mixed = {""}  # folders with a file in them that no gate needs
    for path, _, folder in entries:
        if not folder and not is_gated(path):
            mixed |= {path[:at] for at, letter in enumerate(path) if letter == "/"}
    return {
        path: oid
        for path, oid, folder in entries
        if path.rpartition("/")[0] in mixed and (path not in mixed if folder else is_gated(path))
    }


def _uncommitted(root: Path) -> tuple[str, ...]:
    modified = _git(root, "diff", "--name-only", "--no-renames", "--no-ext-diff", "-z", "HEAD", "--")
    return (*_split(modified), *_untracked(root))


def _untracked(root: Path) -> list[str]:
    return _split(_git(root, "ls-files", "--others", "--exclude-standard", "-z"))


def _split(text: str) -> list[str]:
    return [part for part in text.split("\0") if part]


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=DEADLINE_S)
    except OSError as error:
        raise _GitError(f"git cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise _GitError(f"git gave no answer in {DEADLINE_S:.0f} s") from None
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _GitError(words[-1] if words else f"git ended with {done.returncode}")
    return done.stdout.decode("utf-8", "backslashreplace")
