"""What the commands of the delegated lane do: proof-pack, lanes."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.bundle.proof_pack import PackVerification, verify_pack
from harness.contracts.canonical import load_json
from harness.contracts.converter import parse
from harness.contracts.proof_pack import ALL_GATES, MANIFEST, SOFT_CAP_BYTES, UPLOAD, GateStatus, ProofPack
from harness.errors import FindingError, VerificationError
from harness.gates.catalog import all_gates, gate_name
from harness.gates.lanes import Lane, Verdict, classify, is_gated
from harness.gates.proof_pack import pack_gates, write_pack
from harness.gates.source import changed_paths, trees_at, uncommitted_paths

Say = Callable[[str], None]
_SHOWN = 3  # paths named for each rule without --explain


def make_proof_pack(arguments: argparse.Namespace, say: Say) -> int:
    """`proof-pack GATES`."""
    output = arguments.output or Path(UPLOAD)
    files = pack_gates(arguments.gates, tuple(arguments.gate), everything=arguments.all)
    write_pack(files, output)
    pack = parse(ProofPack, load_json(files[MANIFEST], MANIFEST))
    say(f"wrote {output} ({len(pack.gates)} gates, {pack.pack_size_bytes} bytes)")
    if pack.pack_size_bytes > SOFT_CAP_BYTES:
        say(f"warning: more than {SOFT_CAP_BYTES} bytes")
    unproven = sorted(path for path, tree in pack.content_provenance.path_trees.items() if tree.oid is None)
    if unproven:
        say(f"warning: bound to no commit: {', '.join(unproven)}")
    not_passed = [gate for gate in pack.gates if gate.status is not GateStatus.PASSED]
    for gate in not_passed:
        say(f"  {gate.gate}: {gate.status}: {'; '.join(gate.notes or ())}")
    if not_passed:
        names = ", ".join(gate.gate for gate in not_passed)
        raise FindingError(
            f"not proven: {names}", place=str(output), hint="run these gates again, three times"
        )
    return 0


def verify_proof_pack(arguments: argparse.Namespace, say: Say) -> int:
    """`proof-pack verify PACK`."""
    found = verify_pack(arguments.pack, trees_at(arguments.at) if arguments.at else None)
    if arguments.json:
        say(json.dumps(_pack_document(found), indent=2, ensure_ascii=False))
    else:
        say("\n".join(_printable(line) for line in _pack_lines(found)))
    if not found.ok:
        return VerificationError.exit_code
    return 0 if found.passed else FindingError.exit_code


def lanes(arguments: argparse.Namespace, say: Say) -> int:
    """`lanes --base REV`."""
    lane = classify(changed_paths(arguments.base))
    missing = None if arguments.proof is None else _uncovered(lane, arguments.proof)
    if arguments.json:
        say(json.dumps(_lane_document(arguments.base, lane, missing), indent=2, ensure_ascii=False))
    else:
        say("\n".join(_lane_lines(lane, explain=arguments.explain)))
    if missing:
        raise FindingError(
            f"not covered: {', '.join(missing)}",
            place=str(arguments.proof),
            hint="run the delegated lane on this commit, and give its pack",
        )
    return 0


def _uncovered(lane: Lane, path: Path) -> list[str]:
    """What the change needs and the pack does not prove for the trees of HEAD."""
    if not lane.gates:
        return []
    found = verify_pack(path, trees_at("HEAD"))
    for problem in found.problems:
        raise VerificationError(
            problem.code,
            problem.text,
            place=f"{path}: {problem.where}",
            hint=f"assay-runner proof-pack verify --at HEAD {path}",
        )
    needed = lane.gates
    if needed == (ALL_GATES,):
        needed = tuple(gate_name(fixture) for fixture in all_gates())
    passed = {gate for gate, status in found.gates if status is GateStatus.PASSED}
    loose = [f"{path} (uncommitted)" for path in uncommitted_paths() if is_gated(path)]
    return [*(gate for gate in needed if gate not in passed), *loose]


def _pack_lines(found: PackVerification) -> list[str]:
    return [
        f"{'ok' if found.ok else 'FAILED'} {found.place}",
        *(f"  {gate}: {status}" for gate, status in found.gates),
        *(f"  {problem.code} {problem.where}: {problem.text}" for problem in found.problems),
    ]


def _pack_document(found: PackVerification) -> dict[str, Any]:
    return {
        "pack": found.place,
        "ok": found.ok,
        "passed": found.ok and found.passed,
        "gates": dict(found.gates),
        "problems": [
            {
                "code": problem.code,
                "member": problem.member,
                "place": problem.place,
                "expected": problem.expected,
                "actual": problem.actual,
            }
            for problem in found.problems
        ],
    }


def _lane_lines(lane: Lane, *, explain: bool) -> list[str]:
    lines = [f"needs: {' '.join(lane.gates) or 'none'}"]
    if explain:
        return [*lines, *map(_explained, lane.verdicts)]
    by_rule: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in lane.verdicts:
        by_rule.setdefault((_rule_name(verdict), verdict.why), []).append(verdict)
    for (name, why), verdicts in by_rule.items():
        paths = [verdict.path for verdict in verdicts[:_SHOWN]]
        if len(verdicts) > _SHOWN:
            paths.append(f"and {len(verdicts) - _SHOWN} more")
        needs = "all" if any(ALL_GATES in one.gates for one in verdicts) else _needs(verdicts)
        lines.append(_printable(f"  {name} ({needs}): {', '.join(paths)}: {why}"))
    return lines


def _needs(verdicts: list[Verdict]) -> str:
    return " ".join(dict.fromkeys(gate for verdict in verdicts for gate in verdict.gates)) or "none"


def _explained(verdict: Verdict) -> str:
    needs = " ".join(verdict.gates) or "none"
    return _printable(f"  {verdict.path}: {needs}: {_rule_name(verdict)}: {verdict.why}")


def _rule_name(verdict: Verdict) -> str:
    return verdict.rule.name if verdict.rule else "no rule"


def _lane_document(base: str, lane: Lane, missing: list[str] | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "base": base,
        "gates": list(lane.gates),
        "paths": [
            {"path": v.path, "rule": v.rule.name if v.rule else None, "gates": list(v.gates), "why": v.why}
            for v in lane.verdicts
        ],
    }
    return document if missing is None else {**document, "not_covered": missing}


def _printable(line: str) -> str:
    """Packs come from strangers, and a terminal obeys what is printed on it."""
    return "".join(c if c.isprintable() else "\ufffd" for c in line)
