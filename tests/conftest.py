"""For all tests: which may run at once, and that one which did not run is a failure where CI is set."""

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.machine"]

# How long an example takes says more of the host than of the code.
settings.register_profile("any host", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any host")

_ON_THE_MACHINE = ("tests/linux/", "tests/adversarial/", "tests/faults/", "tests/oracle/")
# Two queues of much the same length. Gates' run ids are in one of them only, because a host has each id once.
_GATES = tuple(
    f"tests/linux/test_{name}.py"
    for name in ("containerd_store", "declared_network", "gates", "oracle", "replay", "runtimes")
)
_MACHINE = (
    "tests/adversarial/",
    "tests/faults/",
    *(
        f"tests/linux/test_{name}.py"
        for name in (
            "beside",
            "cgroup",
            "engine",
            "gemini_cassette",
            "image_locks",
            "images",
            "namespaces",
            "network",
            "probe",
            "view",
        )
    ),
)


def _queue(nodeid: str) -> str:
    """Tests of one queue are run one after the other, by one worker with an engine of its own."""
    file = nodeid.partition("::")[0]
    if file.startswith(_GATES):
        return "gates"
    return "machine" if file.startswith(_MACHINE) else file


class Queues(LoadScopeScheduling):  # type: ignore[misc] # it carries no types
    """What stays together, in order, on one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return _queue(nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long queues first, pure tests last; in each queue last what waits to be alone."""
    order = ("gates", "machine")

    def rank(item: pytest.Item) -> tuple[int, bool]:
        queue = _queue(item.nodeid)
        place = order.index(queue) if queue in order else 2 if queue.startswith(_ON_THE_MACHINE) else 3
        return place, item.get_closest_marker("alone") is not None

    items.sort(key=rank)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Queues:
    """Used by pytest-xdist with `-n`."""
    config.option.loadscopereorder = False
    return Queues(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn skips and expected failures into failures."""
    report = yield
    if os.environ.get("CI") and (report.skipped or hasattr(report, "wasxfail")):
        reason = getattr(report, "wasxfail", call.excinfo.value if call.excinfo else "no reason given")
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} did not run, and CI is set: {reason}"
        report.__dict__.pop("wasxfail", None)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for whole modules that skip themselves."""
    report = yield
    if os.environ.get("CI") and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} skipped itself, and CI is set"
    return report
