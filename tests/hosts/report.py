"""docs/hosts.md: what the rows came to, as tables."""

from collections.abc import Sequence

from tests.hosts.boot import Accelerator
from tests.hosts.matrix import GATES, KITS, ROWS, RowDone, StepDone

_HEAD = """# Where it runs

Written by `./enter nox -s hosts`, which boots each machine below with this tree inside and no network card,
and takes every step there. Do not edit it; run the session. What is **bold** is red, and is its exit 1.

{how}
"""

_STEPS = """
## What each step is

| step | what is done in the machine |
|---|---|
| enter | `PATH=/usr/bin:/bin ./enter true`, without a network; the second call must say nothing |
| doctor | `assay-runner doctor` |
| gates | {gates} |
| capture | `tests/linux/test_capture.py`: exact counts, two unpaced producers, back-pressure |
| loss | `tests/faults/test_loss_counters.py` and `test_ring_drops.py`: each way to lose a record is told |
| oracle | `tests/linux/test_oracle.py`: eBPF and strace tell the same, call for call |
| replay | kits of {kits}, made on the build machine, give the same bytes here |
| kits | the same three made here; *replayed back* on the build machine |

Lost records and events that the kernel skipped are summed over all archives that a machine gave back. Times
are seconds{emulated}.
"""

_NONE = "\n**No machine has been run to its end yet: nothing is shown here.**\n"

_FOOT = """
## What is not here

- **arm64**: refused by the product.
- **Kernels before 6.1**: Debian 11's 5.10 does not count the events that it skips, so the product refuses it;
  no Debian has 5.15.
"""


_MACHINE = (
    "machine", "system", "kernel", "cgroups", "AppArmor", "engine", "CPUs", "accelerator", "up after", "tree",
    "at (UTC)",
)  # fmt: skip


def page(rows: Sequence[RowDone], how: Accelerator) -> str:
    """The whole page, Markdown."""
    emulated = " of an emulated CPU: compare them with each other only" if how.name == "tcg" else ""
    chosen = (
        "KVM carries the machines." if how.name == "kvm" else f"The machines were emulated: {how.reason}."
    )
    gates = ", ".join(f"`{name}` ({'one run' if n == 1 else f'{n} runs'})" for name, n in GATES.items())
    if not rows:
        return _HEAD.format(how=chosen) + _NONE + _FOOT
    parts = [
        _HEAD.format(how=chosen),
        _machines(rows),
        "\n## Verdicts\n\n",
        _verdicts(rows),
        "\n## Evidence\n\n",
        _evidence(rows),
        _STEPS.format(gates=gates, kits=", ".join(KITS), emulated=emulated),
        _FOOT,
    ]
    if troubles := [row for row in rows if row.trouble]:
        parts.insert(6, "\n" + "".join(f"- **{row.name}**: {row.trouble}\n" for row in troubles))
    return "".join(parts)


def _machines(rows: Sequence[RowDone]) -> str:
    lines = [_line(_MACHINE)]
    for done in rows:
        row = ROWS[done.name]
        engine = f"{done.docker}, {'systemd driver' if row.engine == 'system' else 'private'}"
        cells = (
            done.name, row.machine.system.title, done.release, row.machine.cgroups,
            "on" if done.apparmor == "Y" else "off", engine, row.machine.cpus, done.accelerator,
            f"{done.boot_s:.0f} s", f"`{done.tree[:8]}`", done.at,
        )  # fmt: skip
        lines.append(_line(cells))
    return _table(lines)


def _verdicts(rows: Sequence[RowDone]) -> str:
    names = list(dict.fromkeys(step.name for row in rows for step in row.steps))
    lines = [_line(("machine", *names))]
    for row in rows:
        steps = {step.name: step for step in row.steps}
        lines.append(_line((row.name, *(_verdict(steps.get(name)) for name in names))))
    return _table(lines)


def _verdict(step: StepDone | None) -> str:
    if step is None:
        return "-"
    if step.code is None:
        return "**not reached**"
    word = "ok" if step.code == 0 else f"**exit {step.code}**"
    said = f" ({step.said})" if step.said and step.name != "replay" else ""
    return f"{word}{said} {step.seconds}"


def _evidence(rows: Sequence[RowDone]) -> str:
    lines = [
        _line(("machine", "archives", "records", "lost", "skipped", "kits replayed there", "replayed back"))
    ]
    for row in rows:
        counts = row.counts
        there = next((step.said for step in row.steps if step.name == "replay"), "") or "-"
        back = "; ".join(
            f"{kit.kit} {kit.said}" if kit.code == 0 else f"**{kit.kit} {kit.said}**" for kit in row.back
        )
        bad = [str(n) if n == 0 else f"**{n}**" for n in (counts.lost, counts.misses)]
        lines.append(_line((row.name, counts.archives, counts.received, *bad, there, back or "-")))
    return _table(lines)


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _table(lines: list[str]) -> str:
    rule = "|" + "---|" * (lines[0].count("|") - 1)
    return "\n".join((lines[0], rule, *lines[1:])) + "\n"
