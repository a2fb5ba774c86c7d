"""The examples of inference.md run as they stand there; the last, which needs 7B weights, is compiled."""

import functools
import json
import re
import subprocess
import sys

from tests.commands import code_blocks
from tests.conftest import REPOSITORY

EXAMPLES = code_blocks(REPOSITORY / "inference.md", "python")
MAX_LINES = 20  # "about 15 lines each", blank lines and comments not counted


def test_there_are_four_short_examples():
    assert len(EXAMPLES) == 4
    for example in EXAMPLES:
        lines = [line for line in example.splitlines() if line.strip() and not line.strip().startswith("#")]
        assert len(lines) <= MAX_LINES


@functools.cache
def run(example: str) -> str:
    done = subprocess.run([sys.executable, "-c", example], cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commentary(printed: str) -> list[tuple[str, str]]:
    """(end, words) of each step, from the lines of the first two examples."""
    lines = re.findall(r"^ *(?:\d+\.0- *)?(\d+\.0) s  (.*?) *(?:\(\d+ ms\))?$", printed, re.MULTILINE)
    return [(end, words.strip()) for end, words in lines]


def test_live_commentary():
    """Every second of the match has its step, and the words are not always the same."""
    printed = run(EXAMPLES[0])
    assert re.search(r"^  0\.0-  3\.0 s  .*\(\d+ ms\)$", printed, re.MULTILINE)
    steps = commentary(printed)
    assert [end for end, _ in steps] == [f"{second}.0" for second in range(3, 32)]
    assert len({words for _, words in steps}) > 12


def test_question_in_mid_stream():
    """The answer is the score of the match at that second, and the commentary goes on as if nothing had been asked."""
    lines = run(EXAMPLES[1]).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(" 10.0 s"))
    assert not re.match(r" *\d+\.0 s", lines[at + 1]), "no answer after second 10"
    match = json.loads((REPOSITORY / "demo/sources/match_1.events.json").read_text())
    score = [line["score"] for line in match["lines"] if line["time_s"] < 10][-1]
    assert score == [0, 1] and "nil one" in lines[at + 1]
    assert commentary(run(EXAMPLES[1])) == commentary(run(EXAMPLES[0]))


def test_question_about_a_whole_video():
    """The answer is the score at the match's end."""
    first, answer = run(EXAMPLES[2]).splitlines()
    match = json.loads((REPOSITORY / "demo/sources/match_1.events.json").read_text())
    assert re.match(r"16 frames of \(\d+, \d+\) pixels", first)
    assert match["lines"][-1]["score"] == [0, 2] and "nil two" in answer


def test_the_7b_example_compiles_and_names_what_exists():
    # Not run: 16 GB of weights. Its imports are.
    code = compile(EXAMPLES[3], "inference.md", "exec")
    assert "load_checkpoint" in code.co_names
    run("\n".join(line for line in EXAMPLES[3].splitlines() if line.startswith(("import", "from"))))
