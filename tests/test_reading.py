"""Written answers are read as each benchmark's authors read them; thoughts are left out; what is cut is no answer."""

import pytest

from evaluation.tasks import reading

# Usual forms of an answer "C", and what the benchmarks' own scripts make of them (run once on all of these): Video-MME,
# Video-MME-v2, LVBench, and whether MVBench counts it where (C) Green. is right.
FORMS = [
    ("C", "C", "C", "C", True),
    ("c", "", "", "c", True),
    ("C.", "C", "C", "C", True),
    ("C. Green.", "C", "C", "C", True),
    ("(C)", "C", "C", "C", True),
    ("(c)", "", "", "c", True),
    ("[C]", "C", "C", "[", False),
    ("C)", "C", "C", "C", True),
    ("C:", "C", "C", "C", False),
    ("Answer: C", "A", "C", "A", False),
    ("answer: C", "C", "C", "a", False),
    ("The answer is C.", "C", "C", "T", False),
    ("The best answer is: C", "C", "C", "T", False),
    ("The correct answer is C.", "C", "C", "T", False),
    ("The correct option is C", "C", "C", "T", False),
    ("The best option is C", "C", "C", "T", False),
    ("Best answer: C", "B", "C", "B", False),
    ("Best option:(C)", "B", "C", "C", False),
    ("Option C", "C", "C", "O", False),
    ("Final Answer: C", "A", "C", "F", False),
    ("Final answer: C", "C", "F", "F", False),
    ("**C**", "C", "C", "*", False),
    ("'C'", "C", "C", "'", False),
    ("\nC", "C", "C", "C", False),
    (" C ", "C", "C", "C", True),
    ("C. Green. Because the scarf is green.", "C", "C", "C", True),
    ("Green", "", "G", "G", False),
    ("It's C.", "C", "C", "I", False),
    ("Based on the video, the answer is C", "B", "B", "B", False),
    ("According to the video, the correct answer is C.", "A", "A", "A", False),
    ("A or C", "A", "A", "A", False),
    ("Not A but C", "A", "A", "N", False),
    ("C, not A", "C", "C", "C", False),
    ("None", "", "", "N", False),
    ("", "", "", "", True),  # MVBench's own check finds "(" in "(c)"
    ("The man wears a green scarf all through the video and nothing else of note", "", "", "T", False),
    ("Definitely C", "D", "D", "D", False),
    ("<answer>C</answer>", "C", "C", "<", False),
]


@pytest.mark.parametrize(("response", "videomme", "videommev2", "lvbench", "mvbench"), FORMS)
def test_forms_are_read_as_the_authors_read_them(response, videomme, videommev2, lvbench, mvbench):
    assert reading.videomme_letter(response) == videomme
    assert reading.videommev2_letter(response) == videommev2
    assert reading.lvbench_letter(response) == lvbench
    assert reading.mvbench_is_right(response, "C", "Green.") == mvbench


@pytest.mark.parametrize(
    ("response", "letter"),
    [("'C'", "C"), ("C's", "C"), ("c", "C"), ("(c)", "C"), ("No BUS", None), ("D'Artagnan", None), ("It is C", "C")],
)
def test_lone_letters(response, letter):
    assert reading.lone_letter(response, "ABCD") == letter


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>First I look at Commentary A.</think>\nCommentary B", "Commentary B"),
        ("I weigh both: A, then B.</think>C", "C"),  # the template began the thought
        ("<think>one</think><think>two</think> C", "C"),
        ("<thinking>\nA</thinking>\n\nB", "B"),
        ("[THINK]A[/THINK]B", "B"),
        ("◁think▷A◁/think▷B", "B"),
        ("Commentary A", "Commentary A"),
    ],
)
def test_thoughts_are_left_out(text, said):
    assert reading.final_answer(text, False, "") == said


@pytest.mark.parametrize(
    ("text", "is_cut"), [("<think>Commentary A is", False), ("", False), ("<think>A</think>", False), ("C", True)]
)
def test_what_is_cut_off_or_empty_is_no_answer(text, is_cut):
    with pytest.raises(reading.Unfinished, match="raise --limit"):
        reading.final_answer(text, is_cut, "raise --limit")


@pytest.mark.parametrize(
    ("response", "options", "named"),
    [("Yes, it is.", ("No", "Yes"), "Yes"), ("Yes or No", ("No", "Yes"), None), ("Nobody", ("No", "Yes"), None)],
)
def test_options_of_several_letters(response, options, named):
    assert reading.named_option(response, options) == named
