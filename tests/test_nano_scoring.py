"""The nano world's scorer: events matched one to one, by kind, side and time; counts made by hand and by scipy."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from data.nano.parser import ParsedLine
from data.nano.world import KINDS
from evaluation.nano.scoring import (
    ParsedCommentary,
    TimedLine,
    grounding,
    kind_and_team,
    match,
    read_steps,
    score_commentaries,
    word_counts,
)

TRUE = [(4, "pass", "red"), (6, "tackle", "blue"), (9, "shot", "red"), (11, "save", "blue")]


def line(time_s: float, kind: str, team: str, zone=None, goals=None) -> TimedLine:
    return TimedLine(time_s, ParsedLine(kind, team, zone, goals), "")


def clip(*events, n_unparsed: int = 0) -> ParsedCommentary:
    return ParsedCommentary([line(*event) for event in events], n_unparsed, 3 * len(events), 20.0)


def some_events(numbers: np.random.Generator) -> list[TimedLine]:
    """Events of two kinds and two sides, in time order, many of them close together."""
    times_s = sorted(numbers.integers(40, size=numbers.integers(1, 25)) / 2)
    return [line(time_s, str(numbers.choice(KINDS[:2])), str(numbers.choice(["red", "blue"]))) for time_s in times_s]


def fit(one: TimedLine, other: TimedLine) -> bool:
    return kind_and_team(one.said) == kind_and_team(other.said) and abs(one.time_s - other.time_s) <= 2


def test_as_many_events_match_as_can():
    numbers = np.random.default_rng(0)
    for _ in range(60):
        ours, theirs = some_events(numbers), some_events(numbers)
        fits = np.array([[fit(one, other) for other in theirs] for one in ours])
        pairs = match(ours, theirs, kind_and_team)
        assert all(fits[i, j] for i, j in pairs)
        assert len(pairs) == len({i for i, _ in pairs}) == len({j for _, j in pairs})
        assert len(pairs) == (maximum_bipartite_matching(csr_matrix(fits)) >= 0).sum()


@pytest.mark.parametrize(
    ("said", "precision", "recall", "team_accuracy"),
    [
        (TRUE, 1.0, 1.0, 1.0),
        ([(t, kind, {"red": "blue", "blue": "red"}[team]) for t, kind, team in TRUE], 0.0, 0.0, 0.0),
        ([TRUE[0], (6, "tackle", "red"), TRUE[2]], 2 / 3, 2 / 4, 2 / 3),
        ([(t + 2, kind, team) for t, kind, team in TRUE], 1.0, 1.0, 1.0),
        ([(t + 2.1, kind, team) for t, kind, team in TRUE], 0.0, 0.0, 0.0),
        ([(t - 2.1, kind, team) for t, kind, team in TRUE], 0.0, 0.0, 0.0),
        ([(4, "goal", "red"), TRUE[1]], 1 / 2, 1 / 4, 1.0),
        ([TRUE[0]] * 3, 1 / 3, 1 / 4, 1.0),
        ([], 0.0, 0.0, 0.0),
    ],
)
def test_only_the_right_kind_side_and_time_count(said, precision, recall, team_accuracy):
    result = score_commentaries([clip(*said), clip()], [clip(*TRUE), clip()])
    assert result["precision"] == pytest.approx(precision) and result["recall"] == pytest.approx(recall)
    f1 = 2 * precision * recall / (precision + recall) if precision else 0.0
    assert result["event_f1"] == pytest.approx(f1) and result["team_accuracy"] == pytest.approx(team_accuracy)
    assert result["n_events"] == 4 and result["n_clips"] == 2


def test_kinds_lateness_and_confusions_are_counted():
    said = [(5, "pass", "red"), (6, "tackle", "red"), (8, "goal", "red"), (18, "corner", "blue")]
    result = score_commentaries([clip(*said, n_unparsed=2)], [clip(*TRUE)])
    assert result["f1_per_kind"] == {"pass": 1.0, "tackle": 0.0, "shot": 0.0, "save": 0.0}
    assert result["f1_mean_over_kinds"] == 0.25 and result["n_unparsed_lines"] == 2
    assert result["timing_error_s"] == result["timing_bias_s"] == 1.0
    assert result["words_per_second"] == 12 / 20
    assert result["confusion"] == {
        "pass": {"pass": 1},
        "tackle": {"tackle (other team)": 1},
        "shot": {"goal": 1},
        "save": {"(missed)": 1},
        "(extra)": {"corner": 1},
    }


def test_a_line_has_the_time_of_its_first_word():
    steps = [
        (3.0, "Red pass out left. Blue"),
        (4.0, "tackle"),
        (5.0, "in midfield. Well well."),
        (6.0, "Red shoot out"),
    ]
    said = read_steps([*steps, (7.0, "right")], 7.0)
    found = [(event.time_s, event.said.kind, event.said.team, event.said.zone) for event in said.events]
    assert found == [(3.0, "pass", "red", "left"), (3.0, "tackle", "blue", "middle"), (6.0, "shot", "red", "right")]
    assert said.n_unparsed == 1 and said.n_words == 14


def test_words_of_place_and_score_are_compared_on_matched_events_only():
    true = clip((4, "pass", "red", "left"), (6, "goal", "red", None, (2, 1)), (9, "shot", "blue", "right"))
    said = clip((4, "pass", "red", "right"), (6, "goal", "red", None, (2, 1)), (15, "shot", "blue", "right"))
    assert word_counts(said, true, "zone").tolist() == [0, 1, 1]
    assert word_counts(said, true, "score").tolist() == [1, 1, 1]
    assert word_counts(clip((6, "goal", "red", None, None)), true, "score").tolist() == [0, 0, 1]


def test_grounding_is_what_is_lost_when_commentaries_are_shuffled():
    zones = ["left", "right", "middle", "left", "middle", "right"]
    true = [clip((4, "pass", "red", zone)) for zone in zones]
    grounded, blind = grounding(true, true, "zone"), grounding([true[0]] * 6, true, "zone")
    assert grounded["f1"] == 1.0 and grounded["gain_95"][0] > 0.2
    assert blind["f1"] == pytest.approx(2 / 6) == blind["f1_shuffled"] and blind["gain"] == pytest.approx(0)
