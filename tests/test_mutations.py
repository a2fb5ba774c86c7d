"""Every mutation applies to the code as it is and names tests that exist; a dozen are applied, and the tests notice."""

import ast
import functools
from collections import Counter

import pytest

from dev.mutations.catalogue import AREAS, MUTATIONS
from dev.mutations.mutation import Mutation
from dev.mutations.run import Copies, chosen, judge
from tests.conftest import REPOSITORY
from utils.errors import UserError

QUICK = [mutation for mutation in MUTATIONS if mutation.quick]


@functools.cache
def functions_of(file: str) -> set[str]:
    """Names of the test functions in a file of tests/."""
    path = REPOSITORY / file
    assert path.is_file(), file
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("area", AREAS)
def test_every_mutation_applies_and_its_tests_exist(area):
    for mutation in AREAS[area]:
        assert mutation.mutated(REPOSITORY) != (REPOSITORY / mutation.file).read_text("utf-8"), mutation.name
        assert mutation.tests and mutation.promise, mutation.name
        for test in mutation.tests:
            file, _, name = test.partition("::")
            assert not name or name.split("[")[0] in functions_of(file), f"{mutation.name}: {test}"


def test_names_are_one_a_mutation():
    assert [name for name, n in Counter(mutation.name for mutation in MUTATIONS).items() if n > 1] == []


def test_a_dozen_mutations_are_killed(tmp_path):
    assert len(QUICK) >= 12
    copies = Copies(tmp_path, 1, None)
    verdicts = [copies.run(mutation) for mutation in QUICK]
    assert [f"{v.mutation.name}: {v.word} {v.by}" for v in verdicts if v.word != "killed"] == []


BROKEN = Mutation("broken", "a promise", "utils/errors.py", "return 1", "return 2", ("tests/test_order.py",))


@pytest.mark.parametrize(
    ("status", "printed", "word"),
    [
        (1, "FAILED tests/test_a.py::test_b - assert 1 == 2\n1 failed, 2 passed", "killed"),
        (1, "ERROR tests/test_a.py::test_b - fixture\n1 error", "killed"),
        (0, "3 passed in 2.00s", "SURVIVED"),
        (0, "1 skipped in 2.00s", "no evidence"),
        (2, "ERROR tests/test_a.py\n1 error during collection", "no evidence"),
        (4, "ERROR: not found: tests/test_a.py::test_c", "no evidence"),
        (None, "", "timed out"),
    ],
)
def test_only_a_test_that_ran_and_failed_is_a_kill(status, printed, word):
    assert judge(BROKEN, status, printed, 1.0).word == word


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"file": "utils/none.py"}, "does not exist"),
        ({"old": "no such text"}, "stands 0 times"),
        ({"old": "class UserError(Exception):", "new": "class UserError(Exception"}, "is no Python"),
    ],
)
def test_a_mutation_that_does_not_fit_the_code_is_an_error(changes, complaint):
    with pytest.raises(UserError, match=complaint):
        Mutation(**{**vars(BROKEN), **changes}).mutated(REPOSITORY)


def test_unknown_names_are_refused():
    from dev.mutations.run import RunArguments

    with pytest.raises(UserError, match="no mutation is called nothing_like_it"):
        chosen(RunArguments(names=["nothing_like_it"]))
