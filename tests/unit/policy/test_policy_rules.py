"""The policy file: what it says, and every way it may not be written."""

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.policy.check import check_policy
from harness.policy.paths import Judged, judged_path
from harness.policy.rules import Policy, PolicyError, load_policy

HEAD = 'schema = "assay.runner.policy.v1"\n'
DENY = '[[rule]]\nid = "a"\neffect = "deny"\ntools = ["t"]\npaths = ["/workspace/secret"]\n'
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
        (HEAD + RULE + 'resources = ["x"]\n', "rule 'a'", "has tools and resources"),
        (HEAD + RULE.replace("tools", "prompts") + 'paths = ["/a"]\n', "rule 'a'", "paths beside prompts"),
        (HEAD + 'base = "workspace"\n', "base", "base is 'workspace'"),
        (HEAD + 'base = "/a/../b"\n', "base", "base is '/a/../b'"),
        (HEAD + 'base = "/a/"\n', "base", "base is '/a/'"),
        (HEAD + "base = 3\n", "base", "base is 3"),
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
        ("./a:b", "/workspace/a:b"),
        ("/workspace/a:b", "/workspace/a:b"),
        ("/workspace/~", "/workspace/~"),
        ("a b", "/workspace/a b"),
    ],
)
def test_path_arguments_are_normalised_lexically(value: str, path: str) -> None:
    assert judged_path(value, "/workspace") == Judged(path)
    assert judged_path(value, None) == (Judged(path) if value[:1] == "/" else Judged(None, "relative"))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("a\0b", "nul"),
        ("~/x", "home"),
        ("~root/x", "home"),
        (" ~/x", "blank"),
        ("\t/etc/passwd", "blank"),
        ("/workspace/secret ", "blank"),
        ("/workspace/secret\n", "blank"),
        ("\ufefffile:///etc/passwd", "blank"),
        ("\x01file:///etc/passwd", "blank"),
        ("\u200b~", "blank"),
        (" ", "blank"),
        ("file:///etc/passwd", "url"),
        ("file:/etc/passwd", "url"),
        ("file:etc/passwd", "url"),
        ("file:%2Fetc%2Fpasswd", "url"),
        ("file://localhost/etc/passwd", "url"),
        ("FILE:passwd", "url"),
        ("fi\nle:///etc/passwd", "url"),
        (" file:///etc/passwd", "blank"),
        ("https:x", "url"),
        ("a" * 4097, "too_long"),
        ("/workspace/\udcc3\udca9", "not_unicode"),
        (7, "not_a_string"),
        (None, "not_a_string"),
        (["a"], "not_a_string"),
    ],
)
def test_what_servers_may_read_in_more_than_one_way_is_not_judged(
    tmp_path: Path, value: object, why: str
) -> None:
    assert judged_path(value, "/workspace") == Judged(None, why)
    for base in ("", 'base = "/workspace"\n', 'base = "/"\n'):
        allow = policy(tmp_path, base + RULE + 'paths = ["/workspace/**", "/**"]\n')
        assert decide(allow, "t", path=[value]) == "deny default"
        deny = policy(tmp_path, base + 'default = "allow"\n' + DENY)
        assert decide(deny, "t", path=[value]) == "deny a"
        assert f"not_judged:path:{why}" in deny.notes(
            "t", {"path": [value]}, deny.judge("t", {"path": [value]})
        )


def test_a_relative_path_is_judged_only_from_a_base(tmp_path: Path) -> None:
    """Servers resolve it from a root of their own."""
    rules = RULE + 'paths = ["/workspace/**"]\n'
    assert decide(policy(tmp_path, rules), "t", path="a") == "deny default"
    assert decide(policy(tmp_path, 'base = "/workspace"\n' + rules), "t", path="a") == "allow a"
    assert decide(policy(tmp_path, 'base = "/srv"\n' + rules), "t", path="a") == "deny default"
    denies = policy(tmp_path, 'default = "allow"\n' + DENY)
    assert decide(denies, "t", path="anything") == "deny a"
    assert decide(denies, "t", path="/elsewhere") == "allow default"


NFC, NFD = "/workspace/caf\u00e9", "/workspace/cafe\u0301"


@pytest.mark.parametrize(("written", "sent"), [(NFC, NFD), (NFD, NFC), (NFC, NFC), (NFD, NFD)])
def test_names_are_compared_in_one_unicode_form_and_kept_as_sent(
    tmp_path: Path, written: str, sent: str
) -> None:
    """Servers and file systems take either form for the other."""
    differs = written != sent
    for default, effect, outcome in (("allow", "deny", "deny a"), ("deny", "allow", "allow a")):
        text = f'default = "{default}"\n' + RULE.replace("allow", effect) + f'paths = ["{written}"]\n'
        loaded = policy(tmp_path, text)
        assert decide(loaded, "t", path=sent) == outcome
        notes = loaded.notes("t", {"path": sent}, loaded.judge("t", {"path": sent}))
        assert notes == (["unicode_form:path"] if differs else [])
        assert loaded.paths_of({"path": sent}) == [sent]
    tool = policy(tmp_path, RULE.replace('"t"', f'"{written}"'))
    assert decide(tool, sent) == "allow a"
    assert tool.notes(sent, {}, tool.judge(sent, {})) == (["unicode_form:tool"] if differs else [])


def test_path_argument_names_are_compared_in_one_unicode_form(tmp_path: Path) -> None:
    loaded = policy(tmp_path, RULE + 'paths = ["/a"]\npath_args = ["cafe\u0301"]\n')
    assert loaded.judge("t", {"caf\u00e9": "/a"}).decision == "allow"
    assert loaded.judge("t", {"CAF\u00c9": "/b"}).decision == "deny"


def test_names_are_taken_as_they_are(tmp_path: Path) -> None:
    loaded = policy(
        tmp_path,
        '[[rule]]\nid = "no"\neffect = "deny"\ntools = ["read_file"]\npaths = ["/s"]\n'
        + RULE.replace('"t"', '"*"'),
    )
    assert decide(loaded, "read_file", path="/s") == "deny no"
    for name in (" read_file", "read_file ", "READ_FILE", "read_file\u200b"):
        assert decide(loaded, name, path="/s") == "allow a"
    assert loaded.find_id({loaded.id_keys[0]: " tc_1"}, {})[0] == " tc_1"


@pytest.mark.parametrize(
    ("uri", "outcome"),
    [
        ("file:///workspace/docs/a.md", "allow docs"),
        ("file:///workspace/docs/a/b.md", "allow docs"),
        ("demo:note/1", "allow docs"),
        ("demo:note/a/b", "deny default"),
        ("file:///workspace/docs/secret", "deny secret"),
        ("file:///workspace/docs/x/../secret", "deny secret"),
        ("file:///workspace/docs/%73ecret", "deny secret"),
        ("file:///workspace/docs/.%2Fsecret", "deny secret"),
        ("file:///workspace/docs//secret", "deny secret"),
        ("file:///workspace/docs/secret\n", "deny secret"),
        ("file://localhost/workspace/docs/a.md", "deny secret"),
        ("file:/workspace/docs/a.md", "deny secret"),
        ("File:///workspace/docs/a.md", "deny secret"),
        ("file:///workspace/docs/%c3%a9", "deny secret"),
        ("file:///workspace/docs/%FF", "deny secret"),
        ("file:///workspace/docs/caf%C3%A9", "deny accent"),
        ("file:///workspace/docs/cafe%CC%81", "deny accent"),
        ("file:///workspace/docs/caf\u00e9", "deny accent"),
        ("/workspace/docs/a.md", "deny secret"),
        ("other://x", "deny default"),
    ],
)
def test_resources_are_judged_by_their_uri_in_normal_form(tmp_path: Path, uri: str, outcome: str) -> None:
    loaded = policy(
        tmp_path,
        '[[rule]]\nid = "secret"\neffect = "deny"\nresources = ["file:///workspace/docs/secret"]\n'
        '[[rule]]\nid = "accent"\neffect = "deny"\nresources = ["file:///workspace/docs/caf\u00e9"]\n'
        '[[rule]]\nid = "docs"\neffect = "allow"\nresources = ["file:///workspace/docs/**", "demo:note/*"]\n',
    )
    verdict = loaded.judge_name("resources", uri)
    assert f"{verdict.decision} {verdict.rule}" == outcome
    assert loaded.served == {"resources"}
    assert loaded.judge("file:///workspace/docs/a.md", {}).decision == "deny"  # no rule about tools


def test_prompts_have_rules_of_their_own(tmp_path: Path) -> None:
    loaded = policy(tmp_path, RULE + '[[rule]]\nid = "p"\neffect = "allow"\nprompts = ["greet_*"]\n')
    assert loaded.served == {"prompts"}
    assert loaded.judge_name("prompts", "greet_me").rule == "p"
    assert loaded.judge_name("prompts", "t").rule == "default"
    assert loaded.judge_name("resources", "greet_me").rule == "default"
    assert decide(loaded, "greet_me") == "deny default"


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
    rule = RULE + 'paths = ["/workspace/**"]\npath_args = ["where"]\n'
    loaded = policy(tmp_path, 'base = "/workspace"\n' + rule)
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
