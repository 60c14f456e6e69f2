"""Records become operations: names, joins, results."""

import pytest

from harness.evidence.addresses import endpoint, sockaddr
from harness.evidence.model import ENTRY, Flag, KernelRecord, Kind, Role
from harness.evidence.operations import Operation, build_operations, name_codes, unpaired
from harness.evidence.paths import hex_if_lossy, normal, path_of, text
from harness.evidence.processes import read_processes
from harness.evidence.syscalls import outcome_of
from tests.unit.evidence.build import AGENT, CREAT, Trace, inet, unix


def operations(trace: Trace) -> tuple[Operation, ...]:
    return build_operations(trace.records, trace.processes())


def only(trace: Trace) -> Operation:
    (operation,) = operations(trace)
    return operation


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"/a//b/./c", b"/a/b/c"), (b"/a/../b", b"/b"), (b"/../../b", b"/b"), (b"/", b"/"),
        (b"a/../../b", b"../b"), (b"/a/b/", b"/a/b"), (b"a/..", b"."),
    ],
)  # fmt: skip
def test_names_are_normalised_lexically(raw: bytes, wanted: bytes) -> None:
    assert normal(raw) == wanted


@pytest.mark.parametrize(
    ("syscall", "argument", "wanted"),
    [
        (87, 0, "unlink"), (263, 0, "unlink"), (263, 0x200, "rmdir"), (84, 0, "rmdir"), (83, 0, "mkdir"),
        (258, 0, "mkdir"), (259, 0, "mknod"), (76, 0, "truncate"), (268, 0, "chmod"), (452, 0, "chmod"),
        (260, 0, "chown"), (280, 0, "utimens"), (188, 0, "setxattr"), (199, 0, "removexattr"),
        (80, 0, "chdir"),
        (81, 0, "chdir"), (161, 0, "chroot"), (303, 0, "name_to_handle"), (9999, 0, "syscall_9999"),
    ],
)  # fmt: skip
def test_every_path_syscall_has_its_operation(syscall: int, argument: int, wanted: str) -> None:
    trace = Trace()
    trace.named(syscall, "/workspace/x", args=(argument, 0, 0))
    operation = only(trace)
    assert (operation.name, operation.path, operation.outcome) == (wanted, b"/workspace/x", "ok")


@pytest.mark.parametrize(
    ("result", "wanted"),
    [
        (0, "ok"), (7, "ok"), (-2, "ENOENT"), (-95, "EOPNOTSUPP"), (-133, "EHWPOISON"), (-512, "EINTR"),
        (-999, "errno_999"),
    ],
)  # fmt: skip
def test_results_have_the_kernels_names(result: int, wanted: str) -> None:
    assert outcome_of(result) == wanted


def test_a_relative_name_starts_at_the_walked_directory() -> None:
    trace = Trace()
    trace.named(87, "../b//c", walked=b"/workspace/a")
    assert only(trace).path == b"/workspace/b/c"


def test_an_absolute_name_ignores_the_directory() -> None:
    trace = Trace()
    trace.named(87, "/x", walked=b"/workspace")
    assert only(trace).path == b"/x"


def test_an_operation_on_a_descriptor_names_its_object() -> None:
    trace = Trace()
    trace.named(91, "", walked=b"/workspace/f", flags=Flag.OBJECT, args=(0o4755, 0, 0))
    operation = only(trace)
    assert (operation.path, operation.mode) == (b"/workspace/f", 0o4755)


def test_a_bad_descriptor_has_no_name() -> None:
    trace = Trace()
    trace.named(91, "", -9, flags=Flag.OBJECT)
    assert only(trace).path is None


def test_an_empty_name_is_the_descriptor_only_where_that_is_meant() -> None:
    trace = Trace()
    at_empty_path = trace.named(260, "", walked=b"/workspace/f")
    null_pointer = trace.named(280, "", walked=b"/workspace/f", flags=Flag.UNREADABLE)
    nothing = trace.named(87, "", -2, walked=b"/workspace")
    fault = trace.named(87, "", -14, walked=b"/workspace", flags=Flag.UNREADABLE)
    names = [path_of(record, str) for record in (at_empty_path, null_pointer, nothing, fault)]
    assert names == [b"/workspace/f", b"/workspace/f", None, None]


def test_rename_joins_its_two_names_across_other_threads() -> None:
    trace = Trace()
    trace.named(264, "old", walked=b"/workspace", tid=7)
    trace.named(264, "other-old", walked=b"/workspace", tid=8)
    trace.named(264, "new", walked=b"/workspace/sub", tid=7, part=1)
    trace.named(264, "other-new", walked=b"/workspace", tid=8, part=1)
    pairs = [(operation.path, operation.path2) for operation in operations(trace)]
    assert pairs == [
        (b"/workspace/old", b"/workspace/sub/new"),
        (b"/workspace/other-old", b"/workspace/other-new"),
    ]
    assert unpaired(operations(trace)) == 0


def test_half_a_rename_is_kept_and_counted() -> None:
    trace = Trace()
    trace.named(82, "/a")
    trace.named(82, "/b")
    trace.named(82, "/c", part=1)
    trace.named(86, "/d", part=1)
    found = operations(trace)
    assert [(operation.path, operation.path2) for operation in found] == [
        (b"/a", None), (b"/b", b"/c"), (None, b"/d"),
    ]  # fmt: skip
    assert unpaired(found) == 2


def test_a_symlink_says_its_text_as_written() -> None:
    trace = Trace()
    trace.named(266, "link", walked=b"/workspace")
    trace.named(266, "../target", walked=b"/elsewhere", part=1)
    operation = only(trace)
    assert (operation.path, operation.path2) == (b"/workspace/link", b"../target")


def test_open_tells_access_flags_creation_and_type() -> None:
    trace = Trace()
    trace.opened(
        "/w/new", 0o1101, flags=Flag.OBJECT | Flag.CREATED, args=(0o1101, 0o644, 0), inode_mode=0o100644
    )
    trace.opened("/w/dir", 0o200000, inode_mode=0o040755)
    trace.opened("/w/path", 0o10000000)
    trace.opened("/w/rw", 0o2)
    new, folder, path, both = operations(trace)
    assert (new.name, new.access, new.flags, new.write) == ("create", "write", ("create", "truncate"), True)
    assert (new.mode, new.file_type) == (0o644, None)
    assert (folder.name, folder.access, folder.flags, folder.write) == ("open", "read", ("directory",), False)
    assert folder.file_type == "directory"
    assert (path.access, path.write) == ("path", False)
    assert (both.access, both.write) == ("read_write", True)


def test_creat_is_an_open_that_creates() -> None:
    trace = Trace()
    trace.failed_open("/w/x", 13, syscall=CREAT, args=(0, 0o600, 0))
    assert only(trace).flags == ("create", "truncate")
    assert only(trace).write


def test_nameless_files_do_not_bring_their_inode_number() -> None:
    trace = Trace()
    trace.opened("/workspace/#2146339", 0o20200002, flags=Flag.OBJECT | Flag.UNLINKED)
    trace.opened("/workspace/gone.txt", flags=Flag.OBJECT | Flag.UNLINKED)
    nameless, gone = operations(trace)
    assert nameless.path == b"/workspace/#tmpfile"
    assert "tmpfile" in nameless.flags
    assert gone.path == b"/workspace/gone.txt"
    assert gone.flags == ("unlinked",)


def test_detached_objects_cannot_pass_for_container_paths() -> None:
    trace = Trace()
    trace.opened("/memfd:code", flags=Flag.OBJECT | Flag.DETACHED)
    trace.failed_open("x/../y", walked=b"/outside")
    trace.named(87, "y", walked=b"/outside", flags=Flag.DETACHED)
    assert operations(trace)[0].path == b"detached:/memfd:code"
    assert operations(trace)[2].path == b"detached:/outside/y"


def test_memfd_is_a_label_no_path() -> None:
    trace = Trace()
    trace.named(319, "code", 5)
    assert only(trace).path == b"memfd:code"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/proc/1/maps", b"/proc/self/maps"), ("/proc/13/maps", b"/proc/<subject.0.0>/maps"),
        ("/proc/77", b"/proc/<?>"), ("/proc/self/fd/9", b"/proc/self/fd/<fd>"),
        ("/dev/fd/63", b"/dev/fd/<fd>"),
        ("/proc/1/task/14/comm", b"/proc/self/task/<thread>/comm"), ("/proc/13x/maps", b"/proc/13x/maps"),
        ("/proc/1/task/14/fdinfo/3", b"/proc/self/task/<thread>/fdinfo/<fd>"),
        ("/proc/meminfo", b"/proc/meminfo"),
    ],
)  # fmt: skip
def test_numbers_of_procfs_become_names(path: str, wanted: bytes) -> None:
    trace = Trace()
    trace.exec(AGENT)
    trace.fork(13)
    trace.opened(path)
    assert build_operations(trace.records[2:], trace.processes())[0].path == wanted


def test_bytes_that_are_no_text_are_shown_and_kept() -> None:
    assert text(b"/a\xff") == "/a�"
    assert hex_if_lossy(b"/a\xff") == "2f61ff"
    assert hex_if_lossy("/ä".encode()) is None


def test_a_hook_takes_the_result_of_its_call() -> None:
    trace = Trace()
    trace.net(0, bytes((93, 184, 216, 34)), 443, tid=5)
    trace.opened("/a", tid=6)
    trace.sock(42, inet((1, 2, 3, 4), 1), -101, tid=5)  # user memory may lie; the hook's copy may not
    connect, _ = operations(trace)
    assert connect.address is not None
    assert (connect.name, connect.address.text, connect.outcome) == (
        "connect",
        "93.184.216.34:443",
        "ENETUNREACH",
    )
    assert len(connect.records) == 2


def test_every_address_of_one_call_is_told_and_the_call_counts_once() -> None:
    trace = Trace()
    trace.net(1, bytes((10, 0, 0, 1)), 53)
    trace.net(1, bytes(15) + b"\1", 53)
    trace.sock(307, inet((10, 0, 0, 1), 53), 2)
    found = operations(trace)
    assert [(op.name, op.address and op.address.text) for op in found] == [
        ("sendmsg", "10.0.0.1:53"), ("sendmsg", "[::1]:53"),
    ]  # fmt: skip
    assert [op.outcome for op in found] == ["ok", "ok"]
    assert sum(len(op.records) for op in found) == 3


def test_a_hook_without_a_call_and_a_call_without_a_hook_stay_evidence() -> None:
    trace = Trace()
    trace.net(0, bytes((10, 0, 0, 1)), 80)
    trace.sock(49, inet((0, 0, 0, 0), 8081))
    hooked, bound = operations(trace)
    assert (hooked.name, hooked.outcome) == ("connect", "unknown")
    assert bound.address is not None
    assert (bound.name, bound.address.text) == ("bind", "0.0.0.0:8081")


@pytest.mark.parametrize(
    ("raw", "family", "address"),
    [
        (unix("/run/../tmp/a.sock"), "unix", "/tmp/a.sock"), (b"\1\0\0hidden", "unix", "@hidden"),
        (b"\1\0", "unix", "(autobind)"), (unix("a.sock"), "unix", "a.sock"),
        (inet((127, 0, 0, 1), 80), "inet", "127.0.0.1:80"),
        (b"\12\0" + b"\0\x50" + bytes(4) + bytes(15) + b"\1" + bytes(4), "inet6", "[::1]:80"),
        (b"\20\0" + bytes(10), "netlink", ""), (b"\143\0", "af_99", ""),
    ],
)  # fmt: skip
def test_socket_addresses(raw: bytes, family: str, address: str) -> None:
    trace = Trace()
    trace.sock(42, raw)
    found = only(trace).address
    assert found is not None
    assert (found.family, found.text) == (family, address)


@pytest.mark.parametrize("raw", [b"", b"\2", b"\2\0\0\0", b"\12\0" + bytes(10)])
def test_short_addresses_are_unknown_not_an_error(raw: bytes) -> None:
    trace = Trace()
    trace.sock(42, raw, -22)
    assert only(trace).address is None


def test_a_call_that_the_kernel_repeats_is_one_operation() -> None:
    trace = Trace()
    trace.net(0, bytes((10, 0, 0, 1)), 80)
    trace.sock(42, inet((10, 0, 0, 1), 80), -512)
    trace.net(0, bytes((10, 0, 0, 1)), 80)
    trace.sock(42, inet((10, 0, 0, 1), 80), -111)
    operation = only(trace)
    assert operation.outcome == "ECONNREFUSED"
    assert len(operation.records) == 4


def test_a_call_that_was_given_up_is_an_attempt() -> None:
    trace = Trace()
    trace.failed_open("/workspace/fifo", 512)
    trace.opened("/workspace/other")
    assert [(op.path, op.outcome) for op in operations(trace)] == [
        (b"/workspace/fifo", "EINTR"), (b"/workspace/other", "ok"),
    ]  # fmt: skip


def test_execution_tells_program_called_name_and_arguments() -> None:
    trace = Trace()
    trace.exec(("/bin/sh", "/workspace/x.sh", "a b"), path="/usr/bin/dash", called="/workspace/x.sh")
    trace.add(Kind.EXEC, syscall=59, raw=b"/usr/local/bin/env", result=-2)
    done, failed = operations(trace)
    assert (done.path, done.called) == (b"/usr/bin/dash", b"/workspace/x.sh")
    assert done.argv == (b"/bin/sh", b"/workspace/x.sh", b"a b")
    assert (failed.name, failed.path, failed.outcome, failed.argv) == (
        "exec",
        b"/usr/local/bin/env",
        "ENOENT",
        None,
    )


def test_operations_are_in_ring_order_and_hold_every_record() -> None:
    trace = Trace()
    trace.opened("/a", tid=9)
    trace.named(82, "/b", tid=8)
    trace.add(Kind.COMPAT, tid=8)
    trace.named(82, "/c", part=1, tid=8)
    trace.add(Kind.ATTACH, tid=8, raw=b"/other")
    found = operations(trace)
    assert [op.name for op in found] == ["open", "rename", "compat_syscall", "cgroup_attach"]
    assert sorted(r.seq for op in found for r in op.records) == [0, 1, 2, 3, 4]


def test_the_role_is_the_records() -> None:
    trace = Trace()
    trace.opened("/a", role=Role.TOOLS)
    assert only(trace).role is Role.TOOLS


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (bytes(10) + b"\xff\xff\x7f\0\0\x01", ("inet", "127.0.0.1:7001")),
        (b"\x7f\0\0\x01", ("inet", "127.0.0.1:7001")),
        (bytes(15) + b"\x01", ("inet6", "[::1]:7001")),
        (bytes(12) + b"\x7f\0\0\x01", ("inet6", "[::7f00:1]:7001")),  # "compatible", not mapped
    ],
)
def test_an_endpoint_has_one_name_however_it_is_written(data: bytes, told: tuple[str, str]) -> None:
    """An IPv4 address written as one of IPv6 is the same endpoint, by the hooks and by the sockaddr."""
    hooked = endpoint(data, 7001)
    assert (hooked.family, hooked.text) == told
    port = (7001).to_bytes(2, "big")
    family, gap = ((2, b""), (10, bytes(4)))[len(data) == 16]
    assert sockaddr(family.to_bytes(2, "little") + port + gap + data) == hooked


def _call(*parts: KernelRecord) -> Operation:
    records = tuple(record._replace(seq=seq, tid=7) for seq, record in enumerate(parts))
    (operation,) = build_operations(records, read_processes(()))
    return operation


def _named(part: int, raw: bytes, *, flags: int = 0, result: int = 0) -> KernelRecord:
    return KernelRecord(
        0, 1, Kind.PATH, 82, Role.SUBJECT, False, 9, 7, 9, 7, result, flags, part, b"", raw
    )  # fmt: skip


@pytest.mark.parametrize(
    ("begun", "first", "second", "code"),
    [
        (_named(ENTRY, b"/a\0/b\0"), {}, {}, set()),
        (_named(ENTRY, b"/x\0/b\0"), {}, {}, {"changed"}),
        (_named(ENTRY, b"/a\0/x\0"), {}, {}, {"changed"}),
        (_named(ENTRY, b"/a\0/x\0"), {"result": -2}, {"result": -2}, {"changed"}),
        (_named(ENTRY, b"/b\0", flags=Flag.UNREADABLE), {}, {}, {"unreadable"}),
        (_named(ENTRY, b"/b\0", flags=Flag.UNREADABLE), {"result": -14}, {"result": -14}, set()),
        (None, {"flags": Flag.ENTERED}, {}, {"entry_missing"}),
        (None, {"flags": Flag.ENTERED, "result": -1}, {"result": -1}, set()),  # seccomp comes before
        (None, {}, {}, set()),  # of a build that did not look
    ],
)
def test_names_must_be_the_same_when_a_call_begins_and_when_it_returns(
    begun: KernelRecord | None, first: dict[str, int], second: dict[str, int], code: set[str]
) -> None:
    ended = _named(0, b"/a", **first), _named(1, b"/b", **second)
    operation = _call(*(() if begun is None else (begun,)), *ended)
    assert (operation.path, operation.path2) == (b"/a", b"/b")
    assert len(operation.records) == 2 + (begun is not None)
    assert {record.result for record in operation.records} == {first.get("result", 0)}
    assert set(name_codes([operation])) == code
    assert unpaired([operation]) == 0


@pytest.mark.breaks("unclean:entry_missing")
def test_a_call_that_was_not_seen_to_return_is_told_and_not_clean() -> None:
    operation = _call(_named(ENTRY, b"/a\0/b\0"))
    assert (operation.name, operation.path, operation.outcome) == ("rename", None, "unknown")
    assert set(name_codes([operation])) == {"entry_missing"}
