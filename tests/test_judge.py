"""The judging of pairs: verdicts read strictly, both orders, and rows that last."""

from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.judge.judge import ApiJudge, CommentaryPair, Contest, JudgeRefusal, Judging, read_verdict
from evaluation.scoring.preference import summary
from utils.endpoint import RequestFailed
from utils.errors import UserError
from utils.journal import Journal


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Commentary A", "A"),
        ("Commentary B.", "B"),
        ("commentary b", "B"),
        ("**Commentary A**", "A"),
        ("Verdict: **Commentary B**", "B"),
        ("The better one is: Commentary A", "A"),
        ("My final answer is Commentary B", "B"),
        ("I prefer Commentary B: it tells of the goal.", "B"),
        ("Commentary A\nIt says more of what Commentary B leaves out.", "A"),
        ("Commentary A is longer than Commentary B.\n\nCommentary B", "B"),
        ("Commentary A is better than Commentary B", "unparsable"),
        ("Commentary A\nCommentary B", "unparsable"),
        ("Commentary A:\nfine\nCommentary B:\nfine too\nVerdict: Commentary A", "A"),
        ("Commentary A is not better.", "unparsable"),
        ("Commentary A is worse.", "unparsable"),
        ("Commentary A doesn't fit", "unparsable"),
        ("A", "unparsable"),
        ("Comment A", "unparsable"),
        ("Commentary AB", "unparsable"),
        ("", "unparsable"),
        ("\ufffd\x00 42 <html>", "unparsable"),
        ("It is a tie.", "tie"),
        ("Both are equally close.", "tie"),
        ("Neither Commentary A nor Commentary B", "tie"),
        ("I'm sorry, I can't help with that.", "refusal"),
        ("I cannot compare Commentary A and Commentary B", "refusal"),
        ("As an AI I have no taste", "refusal"),
    ],
)
def test_verdicts(text: str, verdict: str):
    assert read_verdict(text) == verdict


class RuleJudge:
    """A judge without a model: the text with more of the human's words, and what a test has it do instead."""

    def __init__(self, **settings):
        self.settings = {"judge": "rule", **settings}
        self.pairs: list[CommentaryPair] = []
        self.instead: dict[int, Exception | str] = {}

    def __call__(self, pair: CommentaryPair) -> str:
        self.pairs.append(pair)
        outcome = self.instead.get(len(self.pairs) - 1)
        if isinstance(outcome, Exception):
            raise outcome
        human = set(pair.human.split())
        first, second = (len(human & set(text.split())) for text in (pair.first, pair.second))
        return outcome or ("Commentary A" if first > second else "Commentary B" if second > first else "a tie")


def contest(number: int = 0, commentary: str = "a goal", baseline: str = "a pass") -> Contest:
    return Contest(f"video{number // 2}_{number}", f"video{number // 2}", commentary, baseline, "goal for red")


def judging(folder: Path, judge: RuleJudge | ApiJudge) -> Judging:
    return Judging(judge, "ours", "GPT-4o", Journal(folder, "judged"))


def test_both_orders_are_judged_with_the_model_first_in_ab(tmp_path: Path):
    judge = RuleJudge()
    (row,) = judging(tmp_path, judge).run([contest()])
    assert judge.pairs == [
        CommentaryPair("video0_0", "a goal", "a pass", "goal for red"),
        CommentaryPair("video0_0", "a pass", "a goal", "goal for red"),
    ]
    del row["key"]
    assert row == {
        "video_event_id": "video0_0",
        "ab_winner": "ours",
        "ba_winner": "ours",
        "ab_end": "model",
        "ba_end": "model",
        "ab_verdict": "Commentary A",
        "ba_verdict": "Commentary B",
        "error": None,
    }


def test_ends_without_a_winner_are_kept_apart(tmp_path: Path):
    judge = RuleJudge()
    judge.instead = {0: JudgeRefusal("I must not"), 1: "Commentary A beats Commentary B", 2: "it is a tie"}
    contests = [contest(0), contest(1)]
    judged = judging(tmp_path, judge)
    rows = judged.run(contests)
    assert [(row["ab_winner"], row["ba_winner"]) for row in rows] == [("tie", "tie"), ("tie", "ours")]
    assert [(row["ab_end"], row["ba_end"]) for row in rows] == [("refusal", "unparsable"), ("tie", "model")]
    outcomes = judged.results(contests, rows)
    assert [outcome.value for outcome in outcomes] == [0.0, 0.5]
    assert not any(outcome.failed for outcome in outcomes)
    lines = {row.name: row.value for row in summary(outcomes)[1].rows}
    assert lines["no winner: refusal"] == lines["no winner: unparsable"] == lines["no winner: tie"] == 0.25
    assert len(judge.pairs) == 4  # none of them is asked again


def test_a_failed_event_is_tried_once_more_and_stays_in_the_denominator(tmp_path: Path):
    judge = RuleJudge()
    judge.instead = {0: RequestFailed("down"), 3: RuntimeError("memory"), 5: RequestFailed("still down")}
    contests = [contest(0), contest(1), replace(contest(2), problem="no commentary")]
    judged = judging(tmp_path, judge)
    rows = judged.run(contests)
    # 0 and 1: event 0; 2 and 3: event 1; then both again, of which the first order of event 0 is call 4.
    assert [row["error"] for row in rows] == ["ba: RequestFailed: still down", None, "no commentary"]
    assert [row["ab_winner"] for row in rows] == ["tie", "ours", "tie"]
    outcomes = judged.results(contests, rows)
    assert [(outcome.value, outcome.failed) for outcome in outcomes] == [(0.0, True), (1.0, False), (0.0, True)]
    assert summary(outcomes)[0].rows[0].value == pytest.approx(1 / 3)
    again = RuleJudge()
    assert [row["error"] for row in judging(tmp_path, again).run(contests)] == [None, None, "no commentary"]
    assert len(again.pairs) == 2


def test_rows_are_reused_only_for_the_same_question(tmp_path: Path):
    judging(tmp_path, RuleJudge()).run([contest()])
    for judge, asked in (
        (RuleJudge(), contest()),
        (RuleJudge(templates={"judge": "other"}), contest()),
        (RuleJudge(), contest(commentary="another goal")),
        (RuleJudge(), contest(baseline="another pass")),
        (RuleJudge(), replace(contest(), human="nothing")),
    ):
        judging(tmp_path, judge).run([asked])
        same = asked == contest() and judge.settings == RuleJudge().settings
        assert len(judge.pairs) == (0 if same else 2)
    assert len(list(Journal(tmp_path, "judged").rows())) == 5


def test_names_must_differ(tmp_path: Path):
    for name in ("GPT-4o", "tie"):
        with pytest.raises(UserError, match="two names that differ"):
            Judging(RuleJudge(), name, "GPT-4o", Journal(tmp_path, "judged"))
