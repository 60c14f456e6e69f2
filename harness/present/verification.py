"""What `verify` found, for people and for programs."""

from typing import Any

from harness.bundle.verify import Verification


def as_text(result: Verification) -> str:
    """One line for a good archive, one more for each problem otherwise."""
    lines = [
        f"{'ok' if result.ok else 'FAILED'} {result.place} run_id={result.run_id} identity={result.identity}"
    ]
    lines += [f"  {problem.code} {problem.where}: {problem.text}" for problem in result.problems]
    # Archives come from strangers, and a terminal obeys what is printed on it.
    return "\n".join("".join(c if c.isprintable() else "\ufffd" for c in line) for line in lines)


def as_json(result: Verification) -> dict[str, Any]:
    """All fields, problems with code, member, place, expected and actual."""
    return {
        "archive": result.place,
        "ok": result.ok,
        "run_id": result.run_id,
        "identity": result.identity,
        "checks": list(result.checks),
        "problems": [
            {
                "code": problem.code,
                "member": problem.member,
                "place": problem.place,
                "expected": problem.expected,
                "actual": problem.actual,
            }
            for problem in result.problems
        ],
    }
