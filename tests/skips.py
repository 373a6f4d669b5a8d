"""Says loudly, at the end of a run, what was not tested and why; with `CI=true` a skip fails the run.

A skip is how a suite rots without anybody noticing: a missing Redis turns a hundred tests into green nothing.
Load it with `pytest_plugins = ["tests.skips"]` in a conftest or `-p tests.skips`. Expected failures are not
skips and are not listed.
"""

import os
from collections import defaultdict

import pytest

_FOUND = pytest.StashKey[dict[str, set[str]]]()


def pytest_configure(config: pytest.Config) -> None:
    found: dict[str, set[str]] = defaultdict(set)
    config.stash[_FOUND] = found
    config.pluginmanager.register(_Listener(found), "switchboard-skips")


class _Listener:
    """Collects skips by reason. Under xdist the workers' reports arrive here in the controller too."""

    def __init__(self, found: dict[str, set[str]]) -> None:
        self._found = found

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An expected failure is reported as skipped as well.
        if report.skipped and not hasattr(report, "wasxfail"):
            self._found[_reason(report.longrepr)].add(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._found[_reason(report.longrepr)].add(f"{report.nodeid} (the whole file)")


def _reason(longrepr: object) -> str:
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


def _strict() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    is_worker = hasattr(session.config, "workerinput")
    if (
        session.config.stash[_FOUND]
        and _strict()
        and not is_worker
        and session.exitstatus == pytest.ExitCode.OK
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash[_FOUND]
    if not found:
        return
    total = sum(map(len, found.values()))
    terminalreporter.section(
        f"NOT TESTED: {total} skipped", sep="!", red=_strict(), yellow=not _strict(), bold=True
    )
    for reason, names in sorted(found.items()):
        terminalreporter.line(f"{len(names)} x {reason}", bold=True)
        for name in sorted(names):
            terminalreporter.line(f"      {name}")
    if _strict():
        terminalreporter.line(
            "CI is set: nothing may be skipped here, so this run has FAILED.", red=True, bold=True
        )
