"""For all tests: which may run at once, and that one which did not run is a failure where CI is set."""

import os
from collections.abc import Generator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.machine"]

# Beside each other run: file by file what makes no runs, and two queues of what does, each with its own
# engine and capture program. Runs under gates' run ids are in one of them, because a host has each id once.
_ON_THE_MACHINE = ("tests/linux/", "tests/adversarial/", "tests/faults/")
_NO_RUNS = (
    "test_capture.py",
    "test_enter.py",
    "test_flake.py",
    "test_image_sources.py",
    "test_installed.py",
    "test_oci_tools.py",
)
_UNDER_GATE_IDS = (
    "test_declared_network.py",
    "test_gates.py",
    "test_oracle.py",
    "test_probe.py",
    "test_replay.py",
    "test_runtimes.py",
)


class Queues(LoadScopeScheduling):  # type: ignore[misc] # it carries no types
    """What stays together, in order, on one worker; what is named first is begun first."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if not file.startswith(_ON_THE_MACHINE) or file.endswith(_NO_RUNS):
            return file
        return "gates" if file.endswith(_UNDER_GATE_IDS) else "machine"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Last comes what waits to be alone: most others are done by then."""
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)


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
