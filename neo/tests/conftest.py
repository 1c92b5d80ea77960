"""What holds for every test."""
import os

import pytest


def pytest_addoption(parser):
    parser.addoption('--rewrite', action='store_true',
                     help='write the traces of neo/tests/conversations anew')


def _fail_if_skipped(report, what):
    # An expected failure is reported as skipped too: that one is meant.
    if os.environ.get('CI') == 'true' and report.skipped and not hasattr(report, 'wasxfail'):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = 'failed'
        report.longrepr = '%s was skipped, which CI does not allow: %s' % (what, reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    _fail_if_skipped(report, item.nodeid)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _fail_if_skipped(report, collector.nodeid)
    return report
