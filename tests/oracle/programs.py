"""Programs drawn by hypothesis, as tests/oracle/agent.py runs them: few names, so that they meet."""

from typing import Any

from hypothesis import strategies as st

Action = list[Any]
Program = list[Action]

_FLAGS = (0, 1, 2, 0o100, 0o101, 0o1102, 0o301, 0o2101, 0o200000, 0o400000, 0o10000000, 0o1001, 0o20200002)
# x86-64, arch/x86/entry/syscalls/syscall_64.tbl: calls by the shape of their arguments
_NAME_ALONE = (84, 87)  # rmdir, unlink
_NAME_AND_MODE = (83, 90)  # mkdir, chmod
_TWO_NAMES = (82, 86, 88)  # rename, link, symlink

_parts = st.sampled_from(("a", "b", "c", "d", "..", ".", "a b", "\udcff", "é"))
_relative = st.lists(_parts, min_size=1, max_size=3).map("/".join)
_names = st.one_of(
    _relative,
    _relative.map(lambda name: name + "/"),
    _relative.map(lambda name: f"./{name}"),
    _relative.map(lambda name: f"/workspace/{name}"),
    _relative.map(lambda name: f"/tmp//{name}"),
    st.sampled_from(
        ("", "/", "/usr/bin/env", "/nowhere/x", "/usr/lib/../bin/env", "/dev/null", "/proc/self/stat")
    ),
)
_flags = st.sampled_from(_FLAGS)
_modes = st.sampled_from((0o600, 0o644, 0o700, 0o755))
_places = st.integers(-1, 3)


def _action(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Action]:
    return st.tuples(*arguments).map(lambda values: [name, *values])


# Any thread may do these: no name in them starts from a folder that another thread can change.
_from_anywhere = st.one_of(
    _action("openat", _places, _names, _flags, _modes),
    _action("openat2", _places, _names, _flags, _modes),
    _action("at1", st.just(258), _places, _names, _modes),  # mkdirat
    _action("at1", st.just(263), _places, _names, st.sampled_from((0, 0x200))),  # unlinkat
    _action("at1", st.just(268), _places, _names, _modes),  # fchmodat
    _action("at1", st.just(280), _places, _names, st.just(0), st.just(0)),  # utimensat
    _action("at2", st.just(264), _places, _names, _places, _names),  # renameat
    _action("at2", st.just(316), _places, _names, _places, _names, st.sampled_from((0, 1, 2))),  # renameat2
    _action("at2", st.just(265), _places, _names, _places, _names, st.sampled_from((0, 0x400))),  # linkat
    _action("symlinkat", _names, _places, _names),
    _action("descriptor", st.just(91), _places, _modes),  # fchmod
)
_simple = st.one_of(
    _from_anywhere,
    _action("open", _names, _flags, _modes),
    _action("creat", _names, _modes),
    _action("path1", st.sampled_from(_NAME_ALONE), _names),
    _action("path1", st.sampled_from(_NAME_AND_MODE), _names, _modes),
    _action("path1", st.just(76), _names, st.integers(0, 9)),  # truncate
    _action("path1", st.just(133), _names, st.sampled_from((0o100644, 0o100600)), st.just(0)),  # mknod
    _action("path2", st.sampled_from(_TWO_NAMES), _names, _names),
    _action("chdir", _names),
    _action("fchdir", _places),
    _action("unix", st.sampled_from((1, 2)), st.sampled_from(("bind", "connect", "send")),
            st.one_of(_names.filter(bool), st.sampled_from(("\0abstract", "\0/workspace/a")))),
    _action("inet", st.just(2), st.sampled_from(("bind", "connect", "send")),
            st.just("127.0.0.1"), st.sampled_from((7001, 7002))),
    _action("inet", st.just(10), st.sampled_from(("bind", "connect", "send")),
            st.sampled_from(("::1", "::ffff:127.0.0.1")), st.sampled_from((7001, 7003))),
    _action("spawn", st.sampled_from(("/usr/bin/env", "/nowhere/x", "/workspace/agent.py", "../no", "a")),
            st.lists(st.sampled_from(("env", "-u", "x y", "")), min_size=1, max_size=3)),
)  # fmt: skip
_bodies = st.lists(_simple, min_size=1, max_size=6)
_actions = st.one_of(
    _simple,
    _simple,
    _simple,
    _action("fork", _bodies, st.sampled_from((0, 3))),
    _action("killed", _bodies),
    _action("passed", _places, st.lists(_from_anywhere, max_size=4)),
    _action("threads", st.lists(st.lists(_from_anywhere, max_size=4), min_size=2, max_size=3)),
)
programs: st.SearchStrategy[Program] = st.lists(_actions, min_size=5, max_size=16)
