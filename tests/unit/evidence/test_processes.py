"""Labels of the fork tree."""

from harness.evidence.model import Flag, Kind, Role
from harness.evidence.processes import UNKNOWN, process_tree
from tests.unit.evidence.build import AGENT, BRIDGE, PROXY, RUN_ID, Trace


def test_first_process_and_children_are_numbered_in_fork_order_threads_do_not_count() -> None:
    trace = Trace()
    trace.exec(AGENT)
    trace.fork(9, args=(9, 0, 1001))  # a thread
    trace.fork(13)
    trace.fork(8)
    trace.fork(40, vpid=13)
    first = trace.opened("/a", vpid=13)
    second = trace.opened("/a", vpid=8)
    grandchild = trace.opened("/a", vpid=40)
    processes = trace.processes()
    labels = [processes.label(record) for record in (first, second, grandchild)]
    assert labels == ["subject.0.0", "subject.0.1", "subject.0.0.0"]
    assert processes.unlabelled == 0


def test_fork_order_is_kernel_time_not_ring_order() -> None:
    trace = Trace()
    trace.exec(AGENT)
    trace.fork(13, time_ns=9000)
    trace.fork(8, time_ns=8000)
    early, late = trace.opened("/a", vpid=8), trace.opened("/a", vpid=13, time_ns=9001)
    processes = trace.processes()
    assert processes.label(early) == UNKNOWN  # it acts before it was forked: impossible, so not guessed
    assert processes.label(late) == "subject.0.1"


def test_a_used_again_pid_is_another_process() -> None:
    trace = Trace()
    trace.exec(AGENT)
    trace.fork(13)
    before = trace.opened("/first", vpid=13)
    trace.exit(vpid=13)
    between = trace.opened("/nobody", vpid=13)
    trace.fork(13)
    after = trace.opened("/second", vpid=13)
    processes = trace.processes()
    labels = [processes.label(record) for record in (before, between, after)]
    assert labels == ["subject.0.0", UNKNOWN, "subject.0.1"]
    assert processes.unlabelled == 1


def test_a_thread_that_exits_does_not_end_its_process() -> None:
    trace = Trace()
    trace.exec(AGENT)
    trace.exit(args=(0, 0, 0))
    assert trace.processes().label(trace.opened("/still")) == "subject.0"


def test_threads_that_exit_at_once_are_one_end() -> None:
    trace = Trace()
    trace.exec(AGENT)
    trace.exit(status=3 << 8, tid=71)
    trace.exit(status=3 << 8, tid=70)
    trace.exit(status=3 << 8, tid=72, args=(3 << 8, 0, 0))
    processes = trace.processes()
    assert processes.unlabelled == 0
    assert [process.label for process in processes.every] == ["subject.0"]


def test_both_containers_have_a_first_process_and_their_own_pid_numbers() -> None:
    trace = Trace()
    trace.exec(AGENT)
    trace.exec(PROXY, role=Role.TOOLS)
    trace.fork(7)
    trace.fork(7, role=Role.TOOLS)
    looking = trace.opened("/proc/7/maps", role=Role.TOOLS)
    processes = trace.processes()
    assert processes.seen_from(looking, 7) == "<tools.0.0>"
    assert processes.seen_from(looking, 1) == "self"
    assert processes.seen_from(looking, 99) == "<?>"


def test_setup_and_harness_make_no_process() -> None:
    trace = Trace()
    trace.fork(5, setup=True)
    trace.opened("/x", setup=True)
    trace.opened("/x", role=Role.HARNESS)
    processes = trace.processes()
    assert processes.every == ()
    assert processes.unlabelled == 0


def test_tree_tells_programs_and_ends_but_no_number_that_varies() -> None:
    trace = Trace()
    trace.exec(AGENT)
    trace.fork(13)
    trace.exec(BRIDGE, vpid=13)
    trace.exit(vpid=13, status=3 << 8)
    trace.fork(14)
    trace.exit(vpid=14, status=9)  # killed with the container, or not: a race
    trace.exit(status=6)
    tree = process_tree(RUN_ID, trace.processes())
    root, bridge, killed = tree.processes
    assert (root.process, root.parent, root.signal, root.exit_code) == ("subject.0", None, 6, None)
    assert (bridge.process, bridge.parent, bridge.exit_code) == ("subject.0.0", "subject.0", 3)
    assert bridge.execs[0].argv == BRIDGE
    assert (killed.process, killed.signal, killed.exit_code) == ("subject.0.1", None, None)


def test_labels_sort_by_number() -> None:
    trace = Trace()
    trace.exec(AGENT)
    for child in range(20, 32):
        trace.fork(child)
    last = process_tree(RUN_ID, trace.processes()).processes[-1]
    assert last.process == "subject.0.11"


def test_called_name_and_cut_argv_are_told() -> None:
    trace = Trace()
    trace.exec(("sh", "-c"), path="/usr/bin/dash", called="/bin/sh", flags=Flag.OBJECT | Flag.ARGS_CUT)
    image = process_tree(RUN_ID, trace.processes()).processes[0].execs[0]
    assert (image.path, image.called, image.argv, image.argv_cut) == (
        "/usr/bin/dash",
        "/bin/sh",
        ("sh", "-c"),
        True,
    )


def test_argv_area_with_its_last_nul_is_read_alike() -> None:
    trace = Trace()
    trace.add(Kind.EXEC, walked=b"/bin/x", raw=b"/bin/x\0x\0\0y\0", flags=Flag.OBJECT)
    assert trace.processes().every[0].executions[0].argv == (b"x", b"", b"y")
