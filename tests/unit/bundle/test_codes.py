"""The table of codes is complete, and docs/contracts/verification.md has it."""

import re
from pathlib import Path

from harness.bundle.codes import CODES
from harness.bundle.meaning import RULES
from harness.bundle.verify import CHECKS

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "contracts" / "verification.md"


def test_every_code_is_in_the_table_and_given_somewhere() -> None:
    names = (
        "books", "checked", "contents", "kernel_lines", "meaning*", "members", "payload", "reader", "verify",
    )  # fmt: skip
    files = {file for name in names for file in (ROOT / "harness" / "bundle").glob(f"{name}.py")}
    files.add(ROOT / "harness" / "contracts" / "canonical.py")
    given = {
        code
        for file in files
        for code in re.findall(
            r'"((?:Integrity|Contract|Limit|Security)[A-Z][A-Za-z]+)"', file.read_text(encoding="utf-8")
        )
    }
    assert given == set(CODES)
    for code in CODES.values():
        assert set(code.stages) <= set(CHECKS)


def test_the_page_has_stages_codes_and_rules() -> None:
    text = PAGE.read_text(encoding="utf-8")
    codes = re.findall(r"^\| `([A-Z][A-Za-z]+)` \| ([a-z_, ]+) \| (.+) \|$", text, re.MULTILINE)
    assert codes == [(name, ", ".join(code.stages), code.text) for name, code in CODES.items()]
    rules = re.findall(r"^\| `([a-z_0-9]+)` \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert [rule[:2] for rule in rules] == [(rule.name, rule.text) for rule in RULES]
    assert re.findall(r"^\d\. `([a-z_]+)`", text, re.MULTILINE) == list(CHECKS)
