"""The quick way of taking kernel lines against the careful one, on lines made to tell the two apart."""

import random
from pathlib import Path

import pytest

from harness.bundle import kernel_lines
from harness.bundle.contents import Contents
from harness.bundle.kernel_lines import V0Kernel, V1Kernel
from harness.bundle.members import Bounded, Structured
from harness.bundle.numbered import Beginnings
from harness.bundle.problem import Kept
from harness.bundle.reader import read_archive
from harness.bundle.verify import verify
from harness.contracts import companion, manifest
from tests.unit.bundle.conftest import DIFFS, RUN_ID, S5, Forge, Members
from tests.unit.bundle.large import with_companion_lines, with_v0_lines

LAYERS = (manifest.KERNEL, companion.KERNEL)
BEGINNINGS = Beginnings(b'{"seq":', b",")


def read(path: Path) -> tuple[Contents, Kept]:
    kept = Kept()
    members = Structured(Bounded(path)).members
    return Contents(members, RUN_ID, kept.add), kept


def facts(found: Contents) -> object:
    return (
        found.v0.count,
        set(found.v0.facts()),
        found.v1.count,
        found.v1.classes,
        found.v1.processes,
        found.v1.unordered,
        set(found.v1.lines()),
        found.other_runs.problems,
        found.unordered.problems,
    )


def odd(line: bytes, another: bytes) -> dict[str, bytes]:
    """What may stand in the place of a line."""
    begin = line[: line.index(b'"seq":') + 6]
    named = {
        "escaped": b'/w\\u0001\xc3\xa9\\n\\"',
        "needless escape": b"/w\\/x",
        "escaped newline and prefix": b"/\\n" + begin.replace(b'"', b'\\"'),
        "raw prefix": b"/" + begin,
        "raw control character": b"/\x01",
        "delete": b"/\x7f",
        "no UTF-8": b"/\xff",
        "half a character": b"/\xc3",
        "surrogate": b"/\xed\xa0\x80",
        "other line breaks": "/\u2028\u2029\x85".encode(),
        "carriage return": b"/\r",
        "form feed": b"/\x0c",
        "tab": b"/\t",
        "two lines": b"/\n",
        "quote": b'/"',
        "closed early": b'/","flags":0,"x":"',
        "backslash at the end": b"/\\",
        "like a number": b'/,"pid":1,',
        "long": b"/" + b"x" * 3000,
        "wide": "/é€😀".encode(),
    }
    number = line.index(b",", len(begin))
    pid = line.replace(b'"pid":50', b'"pid":%s50')
    narrow = line.replace(b'"pid":50', b'"pid":%s0')
    found = {
        **{name: line.replace(b"/workspace", value, 1) for name, value in named.items()},
        "another access": line.replace(b'"read"', b'"write"'),
        "another run": line.replace(RUN_ID.encode(), b"other"),
        "status that does not follow": line.replace(b'"status":"success"', b'"status":"error"'),
        "flags": line.replace(b":524288,", b":1577024,"),
        "no value": line.replace(b'"value":"/', b'"value":null,"x":"/'),
        **{f"pid {sign!r}": pid.replace(b"%s", sign) for sign in (b"0", b"1", b"-", b"+", b" ", b"9" * 17)},
        # as wide as those of the other lines
        **{
            f"narrow pid {sign!r}": narrow.replace(b"%s", sign)
            for sign in (b"0", b"-", b"+", b" ", b".", b"x")
        },
        "pid of one other digit": line.replace(b'"pid":50', '"pid":٥'.encode()),
        "pid with a fraction": line.replace(b',"event_type"', b'.0,"event_type"'),
        "pid of other digits": pid.replace(b"%s50", "٥٠".encode()),
        **{
            f"number {sign!r}": line.replace(b'"seq":', b'"seq":' + sign)
            for sign in (b"0", b"1", b"-", b"+", b" ", b"\n")
        },
        "space before": b" " + line,
        "space after": line + b" ",
        "return after": line + b"\r",
        "zero after": line + b"\0",
        "cut": line[:-1],
        "cut within the number": begin,
        "empty": b"",
        "spaces": b"  ",
        "another's": another,
        "another's rest": line[:number] + another[another.index(b",", len(begin)) :],
        "key twice": line[:-1] + b',"seq":0}',
        "key more": line[:-1] + b',"more":0}',
        "byte order mark": b"\xef\xbb\xbf" + line,
    }
    return {name: changed for name, changed in found.items() if changed != line}


def same_both_ways(path: Path, monkeypatch: pytest.MonkeyPatch, what: object) -> bool:
    """Do both ways accept it? They must agree on everything."""
    quick, quick_problems = read(path)
    with monkeypatch.context() as careful:
        careful.setattr(V0Kernel, "take", lambda *_: False)
        careful.setattr(V1Kernel, "take", lambda *_: False)
        slow, slow_problems = read(path)
    assert quick_problems.problems == slow_problems.problems, what
    if slow_problems.problems:  # then nobody asks for facts
        return False
    assert facts(quick) == facts(slow), what
    return True


@pytest.fixture(scope="module")
def many() -> Members:
    return dict(read_archive(S5).members) | {
        companion.KERNEL: with_companion_lines(10)[companion.KERNEL],
        manifest.KERNEL: with_v0_lines(40)[manifest.KERNEL],
    }


@pytest.mark.parametrize("layer", LAYERS)
def test_each_odd_line_ends_the_same_both_ways(
    layer: str, many: Members, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = many[layer].splitlines()
    good = 0
    # As the first of its shape, and in a later block than a line that differs in its name alone.
    monkeypatch.setattr("harness.bundle.payload.CHUNK", 3000)
    cases = [(place, *case) for place in (0, 36) for case in odd(lines[place], lines[3]).items()]
    for place, name, line in cases:
        data = b"".join(each + b"\n" for each in [*lines[:place], line, *lines[place + 1 :]])
        good += same_both_ways(forge(many | {layer: data}), monkeypatch, (name, place))
    assert 10 < good < len(cases) - 10


@pytest.mark.parametrize("layer", LAYERS)
def test_odd_ends_of_the_layer_end_the_same_both_ways(
    layer: str, many: Members, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = many[layer]
    for changed in (data[:-1], data + b"\n", b"\n" + data, data.replace(b"\n", b"\r\n"), b"\n", b"", b"\r"):
        same_both_ways(forge(many | {layer: changed}), monkeypatch, changed[-40:])


def test_odd_lines_across_chunks_end_the_same_both_ways(
    many: Members, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(40):
        chance = random.Random(seed)
        changed = many.copy()
        for layer in LAYERS:
            lines = many[layer].splitlines()
            for _ in range(chance.choice((0, 1, 3))):
                at = chance.randrange(len(lines))
                lines[at] = chance.choice(list(odd(lines[at], chance.choice(lines)).values()))
            changed[layer] = b"".join(line + b"\n" for line in lines)
        monkeypatch.setattr("harness.bundle.payload.CHUNK", chance.choice((90, 1000, 5000, 1 << 18)))
        same_both_ways(forge(changed), monkeypatch, seed)


def test_plain_lines_never_need_the_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    for cls in (V0Kernel, V1Kernel):
        monkeypatch.setattr(cls, "add", never)
    monkeypatch.setattr(kernel_lines, "_is_canonical", never)
    for path in sorted(DIFFS.glob("*.tar.gz")):
        assert verify(path).ok


def test_what_only_saves_time_may_be_forgotten(
    many: Members, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = forge(many)
    wanted = facts(read(path)[0])
    monkeypatch.setattr(kernel_lines, "MAX_KNOWN", 1)
    monkeypatch.setattr("harness.bundle.payload.CHUNK", 1000)
    assert facts(read(path)[0]) == wanted


def numbered(numbers: range) -> list[bytes]:
    return [b'{"seq":%d,"x":%d}' % (number, number % 7) for number in numbers]


@pytest.mark.parametrize("first", [0, 5, 10, 99, 100, 900, 1000, 1001, 1999, 9000, 10000, 123_456, 998_900])
def test_running_numbers_are_told_from_others(first: int) -> None:
    for count in (1, 2, 90, 1000, 2300):
        lines = numbered(range(first, first + count))
        same_width = len(str(first)) == len(str(first + count - 1))
        end = BEGINNINGS.end(lines, first)
        assert end == (len('{"seq":,') + len(str(first)) if same_width else None)
        assert BEGINNINGS.end(lines, first + 1) is None
        for at in {0, count // 2, count - 1}:
            for wrong in (
                b"",
                lines[at][:5],
                b" " + lines[at],
                lines[at - 1] + b"x",
                b"{" + lines[at][1:][::-1],
            ):
                if wrong[: end or 0] != lines[at][: end or 0] or not same_width:
                    assert BEGINNINGS.end([*lines[:at], wrong, *lines[at + 1 :]], first) is None


def test_what_one_line_lacks_the_next_cannot_bring() -> None:
    lines = numbered(range(1000, 1004))
    end = BEGINNINGS.end(lines, 1000)
    assert end is not None
    whole = b"".join(line[:end] for line in lines)
    for cut in range(1, end):
        shifted = [whole[: end - cut], whole[end - cut : 2 * end], *lines[2:]]
        assert BEGINNINGS.end(shifted, 1000) is None


def test_a_quote_is_not_taken_for_an_escaped_one(
    many: Members, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second line differs from the first, which is good, in the backslash alone."""
    monkeypatch.setattr("harness.bundle.payload.CHUNK", 3000)
    lines = many[manifest.KERNEL].splitlines()
    rest = lines[5][lines[5].index(b',"pid"') :]
    for name, wanted in ((b'/\\"', True), (b'/"', False)):
        lines[5] = lines[5].replace(b"/workspace", b'/\\"')
        lines[36] = lines[36][: lines[36].index(b',"pid"')] + rest.replace(b"/workspace", name)
        data = b"".join(line + b"\n" for line in lines)
        assert same_both_ways(forge(many | {manifest.KERNEL: data}), monkeypatch, name) == wanted


def test_neighbours_in_the_wrong_order_are_seen(
    many: Members, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = many[companion.KERNEL].splitlines()
    at = next(number for number, line in enumerate(lines) if b"package_0001" in line)
    begins = [line[: line.index(b',"role"')] for line in lines]
    rests = [line[line.index(b',"role"') :] for line in lines]
    for wrong in ((rests[at + 1], rests[at]), (rests[at], rests[at])):
        changed = [*rests[:at], *wrong, *rests[at + 2 :]]
        data = b"".join(begin + rest + b"\n" for begin, rest in zip(begins, changed, strict=True))
        for size in (90, 1 << 18):
            monkeypatch.setattr("harness.bundle.payload.CHUNK", size)
            found, kept = read(forge(many | {companion.KERNEL: data}))
            assert not kept.problems
            assert found.v1.unordered == at + 2
