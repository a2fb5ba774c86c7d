"""The set of skipped tests is compared both ways, and a malformed line of the expected file is an error."""

from types import SimpleNamespace

import pytest

from tests.skip_report import SkipReport, covers, read_expected

LINES = "# comment\nalways | tests/a.py::b | reason\nno gpu | tests/a.py::c[1 x] | needs CUDA\n\n"


def test_conditions_choose_the_lines(tmp_path):
    path = tmp_path / "expected.txt"
    path.write_text(LINES)
    assert read_expected(path, {"always"}) == {"tests/a.py::b"}
    assert read_expected(path, {"always", "no gpu"}) == {"tests/a.py::b", "tests/a.py::c[1 x]"}


@pytest.mark.parametrize("line", ["tests/a.py::b | reason", "sometimes | tests/a.py::b | reason", "always | x |"])
def test_a_malformed_line_names_itself(tmp_path, line):
    path = tmp_path / "expected.txt"
    path.write_text(line)
    with pytest.raises(ValueError, match=r"expected\.txt:1: "):
        read_expected(path, {"always"})


def test_differences_in_both_directions(tmp_path):
    path = tmp_path / "expected.txt"
    path.write_text(LINES)
    options = {"--expected-skips": str(path), "--golden": "folder"}
    report = SkipReport(SimpleNamespace(getoption=lambda name, default=None: options.get(name, default)))
    skipped = SimpleNamespace(skipped=True, nodeid="tests/a.py::d", longrepr=("a.py", 1, "Skipped: no reason"))
    report.pytest_runtest_logreport(skipped)
    assert report.reasons == {"tests/a.py::d": "no reason"}
    first, *others = report.differences()
    assert first.endswith("does not list it: tests/a.py::d")
    assert others[0].endswith("was not skipped: tests/a.py::b")


def test_a_star_covers_all_cases_of_a_test():
    assert covers("tests/a.py::b[full*", "tests/a.py::b[full-1]")
    assert not covers("tests/a.py::b[full*", "tests/a.py::b[cut-1]")
    assert not covers("tests/a.py::b", "tests/a.py::b[full]")
