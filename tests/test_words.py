"""Which word is spoken at which step."""

import pytest

from data.samples.words import (
    SILENCE,
    Word,
    cut_trailing_silence,
    step_label,
    step_slices,
    step_window,
    words_by_step,
)


def speak(words, ends_s):
    return words_by_step([Word(*word) for word in words], ends_s)


def test_steps_are_three_seconds_then_one():
    assert step_slices(10) == [slice(0, 6), slice(6, 8), slice(8, 10)]
    assert [step_label(*step_window(i)) for i in range(3)] == [
        "Time=0.0-3.0s",
        "Time=3.0-4.0s",
        "Time=4.0-5.0s",
    ]


@pytest.mark.parametrize("n_frames", [2, 4, 6])
def test_a_short_clip_is_one_step(n_frames):
    assert step_slices(n_frames) == [slice(0, n_frames)]


@pytest.mark.parametrize("n_frames", [0, -2, 7])
def test_odd_or_missing_frames_are_refused(n_frames):
    with pytest.raises(ValueError, match=str(n_frames)):
        step_slices(n_frames)


def test_a_word_belongs_to_the_first_step_whose_last_frame_is_not_earlier():
    texts, counts = speak([(2.0, 2.5, "on"), (2.4, 2.51, "after"), (3.0, 3.5, "end")], [2.5, 3.5])
    assert texts == ["on ...", "after end ..."]
    assert counts["spoken"] == 3


def test_the_last_step_takes_words_up_to_half_a_second_late():
    texts, counts = speak([(2.6, 3.0, "late"), (2.6, 3.01, "lost")], [2.5])
    assert texts == ["late ..."]
    assert (counts["spoken"], counts["outside"]) == (1, 1)


def test_words_before_the_clip_are_outside_and_counted():
    words = [
        Word(8, 9, "gone"),
        Word(9.5, 10, "ended"),
        Word(9.8, 10.2, "across"),
        Word(10, 10, "point"),
        Word(11, 12, "in"),
    ]
    texts, counts = words_by_step(words, [12.5], start_s=10.0)
    assert texts == ["across point in ..."]
    assert (counts["spoken"], counts["outside"], counts["before"]) == (3, 2, 2)


def test_a_step_without_words_is_silent():
    assert speak([(0, 1, "a"), (4, 4.4, "b")], [2.5, 3.5, 4.5])[0] == ["a ...", SILENCE, "b ..."]


def test_nested_words_keep_their_order():
    texts, _ = speak([(0, 3.2, "long"), (1, 2, "inside")], [2.5, 3.5])
    assert texts == [SILENCE, "long inside ..."]


def test_words_are_stripped_and_dots_are_dropped():
    dots = [(1, 1, text) for text in ("...", " . ", "\u2026", " ")]
    texts, counts = speak([(0, 1, " two \t words "), *dots, (1, 2, "3.5")], [2.5])
    assert texts == ["two words 3.5 ..."]
    assert (counts["dots"], counts["empty"], counts["spoken"]) == (3, 1, 2)


def test_every_other_word_is_spoken_once_in_order():
    words = [(i * 0.37, i * 0.37 + 0.3, f"w{i}") for i in range(60)]
    ends_s = [2.5 + i for i in range(20)]
    texts, counts = speak(words, ends_s)
    spoken = " ".join(text.removesuffix(SILENCE) for text in texts).split()
    assert spoken == [word[2] for word in words if word[1] <= ends_s[-1] + 0.5]
    assert counts["spoken"] + counts["outside"] == 60


def test_trailing_silence_is_cut():
    assert cut_trailing_silence(["a ...", SILENCE, "b ...", SILENCE, SILENCE]) == ["a ...", SILENCE, "b ..."]
    assert cut_trailing_silence([SILENCE, SILENCE]) == []
