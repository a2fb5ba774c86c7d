"""The corpus command: files, repeatability, going on after a kill; the nano checkpoint reads them."""

import json

import pytest

from data.nano.commentator import score_phrase
from data.nano.corpus import CorpusArguments, make_corpus
from data.nano.questions import QUESTIONS
from data.nano.states import STATE_QUERY
from evaluation.nano.scoring import kind_and_team, match, read_steps, reference, reference_steps
from utils.errors import UserError


def arguments(folder, **changes) -> CorpusArguments:
    return CorpusArguments(str(folder), **{"n_clips": 2, "num_workers": 1, "duration_s": 6.0, **changes})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(arguments(tmp_path_factory.mktemp("corpus") / "train"))


def rows(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_files_name_each_other(corpus):
    for user, assistant, *asked in rows(corpus, "commentary"):
        assert [message["role"] for message in asked] == ["user", "assistant"] * 3
        video, text = user["content"]
        assert (corpus / "clips" / video["video"].rsplit("/", 1)[1]).stat().st_size > 1000
        assert text["text"] and assistant["content"][0]["text_stream"]
    looks = [user["content"][0] for user, _ in rows(corpus, "states")]
    assert len(looks) == 12  # one a second
    assert all((corpus / "looks").joinpath(*look["video"].split("/")[-2:]).exists() for look in looks)
    assert all(len(look["pos"]) == 2 for look in looks)


def test_questions_are_about_the_clips_end(tmp_path):
    """The state is that of the look at the clip's last second, the score that of the last event before it."""
    folder = make_corpus(arguments(tmp_path, n_clips=3, duration_s=11.0, seed=42))
    looks = {}
    for user, assistant in rows(folder, "states"):
        clip, second = user["content"][0]["video"].split("/")[-2:]
        looks[clip, int(second.removesuffix(".pack"))] = assistant["content"][0]["text"]
    ends, n_changed = set(), 0
    for (user, _, *asked), row in zip(rows(folder, "commentary"), rows(folder, "events"), strict=True):
        video = user["content"][0]
        clip, end_s = video["video"].rsplit("/")[-1].removesuffix(".mp4"), video["video_end"]
        texts = [message["content"][0]["text"] for message in asked]
        said = dict(zip(texts[::2], texts[1::2], strict=True))
        assert said[STATE_QUERY] == looks[clip, int(end_s) - 1] != looks[clip, 0]
        ends.add(end_s)
        scores = [line["score"] for line in row["lines"] if line["time_s"] <= end_s - 0.5]
        for answer in (said[wording] for wording in QUESTIONS["score"][0] if wording in said):
            n_changed += scores[-1] != scores[0]
            assert answer == f"It is {score_phrase(tuple(scores[-1]))}."
    assert len(ends) > 1 and n_changed, "clips that end early, and a goal"


def test_a_killed_run_goes_on_and_ends_alike(corpus, tmp_path):
    folder = make_corpus(arguments(tmp_path / "again", n_clips=1))
    (folder / "notes" / "000001.123.partial").write_text("{")
    make_corpus(arguments(tmp_path / "again"))
    for name in ("commentary", "states", "events"):
        again = (folder / f"{name}.jsonl").read_text().replace(str(folder), str(corpus))
        assert again == (corpus / f"{name}.jsonl").read_text()


def test_other_arguments_do_not_mix(corpus):
    with pytest.raises(UserError, match="other arguments"):
        make_corpus(arguments(corpus, seed=1))


@pytest.mark.parametrize("wrong", [{"split": "dev"}, {"n_clips": 0}, {"width": 141}, {"fps": 3}])
def test_wrong_arguments_are_named(tmp_path, wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        make_corpus(arguments(tmp_path, **wrong))


def test_the_commentator_scores_full_marks(corpus):
    for row in rows(corpus, "events"):
        true = reference(row)
        spoken = read_steps(reference_steps(row), row["duration_s"])
        assert len(match(spoken.events, true.events, kind_and_team)) >= len(true.events) - 1
