"""Every code that a run can end with has words and a next step."""

import re
from pathlib import Path

import pytest

from harness.evidence import accounting, causes, tripwires
from harness.evidence.accounting import capture_counts, counter_codes
from harness.evidence.model import CaptureAccounting, Kind, KindCounters

HARNESS = Path(causes.__file__).parents[1]
ROLES = ("subject", "tools")
# Where codes are made, and how they stand there: what a code begins with, file, pattern.
SOURCES = (
    ("", "recorder/apart.py", r'yield "(proxy_\w+)"'),
    ("", "evidence/tripwires.py", r'add\("(\w+)"\)'),
    ("decisions:", "recorder/channel.py", r'(?:fail|_flood)\("(\w+)"\)'),
    ("sdk:", "recorder/channel.py", r'(?:fail|_flood)\("(\w+)"\)'),
    ("decisions:", "evidence/layers.py", r'(?:_RefusedError|LayerProblem)\(\s*"(\w+)"'),
    ("decisions:", "contracts/companion_policy.py", r'UNTOLD_PROBLEM = "(\w+)"'),
    ("sdk:", "evidence/layers.py", r'(?:_RefusedError|LayerProblem)\(\s*"(\w+)"'),
    ("capture:", "capture/meter.py", r'(?:_errors \+= \(|_stop\()"(\w+)"'),
    ("capture:", "capture/session.py", r'"errors": \["(\w+)"\]'),
    ("", "run.py", r'problems\.append\("(\w+)"\)'),
    ("", "evidence/accounting.py", r'(?m)^ +\("(\w+)", '),
    ("identity_broken:", "evidence/accounting.py", r'_equal\("(\w+)"'),
)


def codes() -> set[str]:
    found = {
        begun + name
        for begun, file, pattern in SOURCES
        for name in re.findall(pattern, (HARNESS / file).read_text(encoding="utf-8"))
    }
    counted = KindCounters(submitted=1, **dict.fromkeys(("dropped", "oversized", "fault"), 1))
    everything = CaptureAccounting(
        kinds=dict.fromkeys(Kind, counted), received=0, received_bytes=0, decoded=0, decode_errors=1,
        recursion_misses=1, sentinels_expected=0, sentinels_seen=0, boundaries=frozenset(), ring_bytes=1,
        ring_high_water=0, freezes=0, frozen_ns=0,
    )  # fmt: skip
    found |= set(counter_codes(capture_counts(everything))) | set(accounting.LOSSES)
    found |= {
        f"{name}:{role}" for name in ("boundary_missing", "network_seal", "network_packets") for role in ROLES
    }
    found |= {f"control_touched:{role}" for role in ROLES}
    found |= {f"{code}subject" if code.endswith(":") else code for code in tripwires.CODES}
    found |= {f"missing_witness:{name}" for name in ("kernel", "policy", "sdk")}
    return found | {f"{layer}:{accounting.LEFT_OUT}" for layer in ("kernel", "decisions", "sdk")}


def test_the_codes_are_found_where_they_are_made() -> None:
    assert {
        "ring_drops", "slice_not_empty", "sdk:InvalidJson", "decisions:closed_early", "capture:spool_failed",
        "capture:capture_process_died", "proxy_not_ready", "identity_broken:records", "left_slice",
    } <= codes()  # fmt: skip


@pytest.mark.parametrize("code", sorted(codes()))
def test_every_code_has_words_and_a_next_step(code: str) -> None:
    found = causes.cause(code)
    assert found.hint
    assert found.hint != causes._UNKNOWN[1]
    assert found.text != code
    assert "{" not in found.text
    assert "_" not in found.text.replace("io_uring", "")


def test_every_word_is_for_a_code() -> None:
    known = codes() | {causes.MISSING_ID, "engine_lost"}
    families = {code.partition(":")[0] + ":" for code in known}
    assert [key for key in causes.WORDS if key not in known | families] == []


def test_the_links_lead_somewhere() -> None:
    for _, hint in causes.WORDS.values():
        for file, _, place in re.findall(r"(docs/[\w/-]+\.md)(#([\w-]+))?", hint):
            text = (HARNESS.parent / file).read_text(encoding="utf-8")
            headings = [re.sub(r"[^\w -]", "", line.strip("# ")).lower() for line in text.splitlines()]
            assert not place or place in [heading.replace(" ", "-") for heading in headings], hint


def test_what_stopped_a_run_comes_first() -> None:
    found = causes.causes(["decisions:closed_early", "proxy_failed", "capture:too_many_bytes"])
    assert found[0].code == "capture:too_many_bytes"
