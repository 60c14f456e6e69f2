"""The policy file: what it says, and every way it may not be written."""

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.policy.check import check_policy
from harness.policy.rules import Policy, PolicyError, load_policy, normalise

HEAD = 'schema = "assay.runner.policy.v1"\n'
RULE = '[[rule]]\nid = "a"\neffect = "allow"\ntools = ["t"]\n'


def policy(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(HEAD + text)
    return load_policy(path)


def decide(loaded: Policy, tool: str, **arguments: object) -> str:
    verdict = loaded.judge(tool, arguments)
    return f"{verdict.decision} {verdict.rule}"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("schema = 1\n", "schema", "schema is 1"),
        ("", "schema", "schema is None"),
        (HEAD + 'default = "maybe"\n', "default", "'maybe' is not an effect"),
        (HEAD + "defualt = 1\n", "top level", "unknown key 'defualt'"),
        (HEAD + "rule = 3\n", "rule", "not a list of tables"),
        (HEAD + "rule = [3]\n", "rule", "not a list of tables"),
        (HEAD + '[[rule]]\neffect = "allow"\ntools = ["t"]\n', "rule number 1", "has no id"),
        (HEAD + RULE + RULE, "rule 'a'", "an earlier rule has this id"),
        (HEAD + RULE.replace('"a"', '"default"'), "rule 'default'", "reserved"),
        (HEAD + RULE.replace('"allow"', '"permit"'), "rule 'a'", "effect is 'permit'"),
        (HEAD + RULE.replace('"allow"', "true"), "rule 'a'", "effect is True"),
        (HEAD + RULE.replace('["t"]', "[]"), "rule 'a'", "tools is no list of non-empty strings"),
        (HEAD + RULE.replace('["t"]', '"t"'), "rule 'a'", "tools is no list of non-empty strings"),
        (HEAD + RULE.replace('["t"]', '["t", 1]'), "rule 'a'", "tools is no list of non-empty strings"),
        (HEAD + RULE.replace('["t"]', '["t", "t"]'), "rule 'a'", "tools names something twice"),
        (HEAD + '[[rule]]\nid = "a"\neffect = "deny"\n', "rule 'a'", "has no tools"),
        (HEAD + RULE + "path = []\n", "rule 'a'", "unknown key 'path'"),
        (HEAD + RULE + "paths = []\n", "rule 'a'", "paths is no list"),
        (HEAD + RULE + 'paths = ["work/*"]\n', "rule 'a'", "'work/*' can match no absolute"),
        (HEAD + RULE + 'paths = ["/a/../b"]\n', "rule 'a'", "'/a/../b' can match no absolute"),
        (HEAD + RULE + 'paths = ["/a/"]\n', "rule 'a'", "'/a/' can match no absolute"),
        (HEAD + RULE + 'paths = ["//a"]\n', "rule 'a'", "'//a' can match no absolute"),
        (HEAD + RULE + 'path_args = ["p"]\n', "rule 'a'", "path_args but no paths"),
        (HEAD + "accepted_id_keys = []\n", "top level", "accepted_id_keys is no list"),
        (HEAD + "x = y\n", "", "line 2"),
    ],
)
def test_a_bad_policy_is_refused_with_its_place_and_a_remedy(
    tmp_path: Path, text: str, place: str, message: str
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert isinstance(caught.value, ValueError)
    assert message in str(caught.value)
    with pytest.raises(InputError) as shown:
        check_policy(path)
    assert shown.value.place == (f"{path}: {place}" if place else str(path))
    assert message in shown.value.message
    assert shown.value.hint
    assert shown.value.exit_code == 2


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"#" * ((1 << 20) + 1), b"x = " + b"[" * 100_000])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        check_policy(path)
    assert caught.value.hint


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the policy"):
        check_policy(tmp_path / "none.toml")


def test_without_rules_everything_is_denied_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    assert policy(tmp_path, "").judge("t", {}) == ("deny", "P_TOOL_NOT_ALLOWED", "default")
    assert policy(tmp_path, 'default = "allow"').judge("t", {}) == ("allow", "P_POLICY_ALLOW", "default")


def test_the_first_matching_rule_wins(tmp_path: Path) -> None:
    loaded = policy(
        tmp_path,
        '[[rule]]\nid = "no"\neffect = "deny"\ntools = ["write_*"]\n'
        '[[rule]]\nid = "yes"\neffect = "allow"\ntools = ["*"]\n',
    )
    assert loaded.judge("write_file", {}) == ("deny", "P_POLICY_DENY", "no")
    assert loaded.judge("read_file", {}) == ("allow", "P_POLICY_ALLOW", "yes")
    assert decide(loaded, "a/b\nc") == "allow yes"  # in names of tools a star crosses everything


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("/workspace/*", "/workspace/a", True),
        ("/workspace/*", "/workspace/a/b", False),
        ("/workspace/**", "/workspace/a/b", True),
        ("/workspace/**", "/workspace", False),
        ("/workspace/**/x", "/workspace/a/b/x", True),
        ("/workspace/?", "/workspace/a", True),
        ("/workspace/?", "/workspace/ab", False),
        ("/work.ace/a", "/workspace/a", False),
        ("/workspace/[ab]", "/workspace/a", False),
        ("/workspace/a", "/workspace/a\n", False),
        ("**", "/etc/passwd", True),
    ],
)
def test_globs(tmp_path: Path, glob: str, path: str, *, matches: bool) -> None:
    loaded = policy(tmp_path, RULE + f'paths = ["{glob}"]\n')
    assert decide(loaded, "t", path=path) == ("allow a" if matches else "deny default")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a", "/workspace/a"),
        ("", "/workspace"),
        ("./a//b/../c", "/workspace/a/c"),
        ("../etc/passwd", "/etc/passwd"),
        ("/workspace/../../etc/passwd", "/etc/passwd"),
        ("//etc/passwd", "/etc/passwd"),
        ("///etc", "/etc"),
        ("/", "/"),
        ("a\0b", None),
        ("~/x", None),
        ("file:///etc/passwd", None),
        ("file:/etc/passwd", None),
        ("a" * 4097, None),
        (7, None),
        (None, None),
        (["a"], None),
    ],
)
def test_path_arguments_are_normalised_lexically(value: object, path: str | None) -> None:
    assert normalise(value) == path


def test_an_allow_needs_every_path_inside_and_a_deny_one(tmp_path: Path) -> None:
    inside, outside = "/workspace/a", "/etc/passwd"
    allow = policy(tmp_path, RULE + 'paths = ["/workspace/**"]\n')
    assert decide(allow, "t", path=inside) == "allow a"
    assert decide(allow, "t", paths=[inside, inside], source=inside) == "allow a"
    assert decide(allow, "t", paths=[inside, outside]) == "deny default"
    assert decide(allow, "t", path=inside, destination=outside) == "deny default"
    assert decide(allow, "t") == "deny default"
    assert decide(allow, "t", path=5) == "deny default"
    assert decide(allow, "t", path=inside, Path=outside) == "deny default"
    deny = policy(
        tmp_path, RULE.replace("allow", "deny") + 'paths = ["/etc/**"]\n' + RULE.replace('"a"', '"b"')
    )
    assert decide(deny, "t", paths=[inside, outside]) == "deny a"
    assert decide(deny, "t", PATH=outside) == "deny a"
    assert decide(deny, "t", path={"not": "judgeable"}) == "deny a"
    assert decide(deny, "t", path=inside) == "allow b"
    assert decide(deny, "t") == "allow b"


def test_a_rule_can_name_its_own_path_arguments(tmp_path: Path) -> None:
    loaded = policy(tmp_path, RULE + 'paths = ["/workspace/**"]\npath_args = ["where"]\n')
    assert decide(loaded, "t", where="x") == "allow a"
    assert decide(loaded, "t", path="x") == "deny default"
    assert loaded.paths_of({"where": "b", "path": ["a", 3, "b"]}) == ["/workspace/a", "/workspace/b"]


def test_ids_are_found_in_the_order_of_the_keys_and_never_made_up(tmp_path: Path) -> None:
    loaded = policy(tmp_path, "")
    first, second = loaded.id_keys
    inner = {"_meta": {"tool_call_id": "i"}}
    assert loaded.find_id({second: "s", first: "f"}, inner) == ("f", first)
    assert loaded.find_id({second: "s"}, inner) == ("s", second)
    assert loaded.find_id({}, inner) == ("i", "arguments._meta.tool_call_id")
    wrongs: tuple[object, ...] = (None, 7, "", " ", ["x"], {})
    for wrong in wrongs:
        assert loaded.find_id({first: wrong, second: "s"}, inner) == (None, None)
    assert loaded.find_id({}, {"_meta": "x"}) == (None, None)
    own = policy(tmp_path, 'accepted_id_keys = ["org.example/id"]')
    assert own.find_id({first: "f", "org.example/id": "o"}, {}) == ("o", "org.example/id")
