"""What `verify` found, for people and for programs."""

from typing import Any

from harness.bundle.verify import Verification


def as_text(result: Verification) -> str:
    """One line for the archive, and one for each problem and each rule that could not be checked."""
    lines = [
        f"{'ok' if result.ok else 'FAILED'} {result.place} run_id={result.run_id} identity={result.identity}"
    ]
    for problem in result.problems:
        lines.append(f"  {' '.join(filter(None, (problem.code, problem.where)))}: {problem.text}")
        if problem.remedy:
            lines.append(f"    {problem.remedy}")
    if result.more:
        lines.append("  and more of the same stage")
    if result.not_reached:
        lines.append(f"  not reached: {', '.join(result.not_reached)}")
    lines += [f"  not checked: {rule.rule} ({rule.text}): {rule.why}" for rule in result.unchecked]
    # Archives come from strangers, and a terminal obeys what is printed on it.
    return "\n".join("".join(c if c.isprintable() else "\ufffd" for c in line) for line in lines)


def as_json(result: Verification) -> dict[str, Any]:
    """All fields, problems with code, member, place, expected, actual and remedy."""
    return {
        "archive": result.place,
        "ok": result.ok,
        "run_id": result.run_id,
        "identity": result.identity,
        "checks": list(result.checks),
        "not_reached": list(result.not_reached),
        "unchecked": [{"rule": rule.rule, "text": rule.text, "why": rule.why} for rule in result.unchecked],
        "more_problems": result.more,
        "problems": [
            {
                "code": problem.code,
                "member": problem.member,
                "place": problem.place,
                "expected": problem.expected,
                "actual": problem.actual,
                "remedy": problem.remedy,
            }
            for problem in result.problems
        ],
    }
