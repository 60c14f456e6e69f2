"""For all tests: where CI is set, a test that did not run is a failure, never a quiet skip."""

import os
from collections.abc import Generator

import pytest

pytest_plugins = ["tests.machine"]


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
