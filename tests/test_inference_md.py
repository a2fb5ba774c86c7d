"""The examples of inference.md run as they stand there; the last, which needs 7B weights, is compiled."""

import re
import subprocess
import sys

from tests.commands import code_blocks
from tests.conftest import REPOSITORY
from tests.waiting import PATIENCE_S

EXAMPLES = code_blocks(REPOSITORY / "inference.md", "python")
MAX_LINES = 20  # "about 15 lines each", blank lines and comments not counted


def test_there_are_four_short_examples():
    assert len(EXAMPLES) == 4
    for example in EXAMPLES:
        lines = [line for line in example.splitlines() if line.strip() and not line.strip().startswith("#")]
        assert len(lines) <= MAX_LINES


def run(example: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_live_commentary():
    assert re.search(r"^  0\.0-  3\.0 s  .*\(\d+ ms\)$", run(EXAMPLES[0]), re.MULTILINE)


def test_question_in_mid_stream():
    lines = run(EXAMPLES[1]).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(" 10.0 s"))
    assert not re.match(r" *\d+\.0 s", lines[at + 1]), "no answer after second 10"
    assert lines[at + 2].startswith(" 11.0 s"), "the commentary did not go on"


def test_question_about_a_whole_video():
    first, *answer = run(EXAMPLES[2]).splitlines()
    assert re.match(r"\d+ frames of \(\d+, \d+\) pixels", first) and "".join(answer).strip()


def test_the_7b_example_compiles_and_names_what_exists():
    # Not run: 16 GB of weights. Its imports are.
    code = compile(EXAMPLES[3], "inference.md", "exec")
    assert "load_checkpoint" in code.co_names
    run("\n".join(line for line in EXAMPLES[3].splitlines() if line.startswith(("import", "from"))))
