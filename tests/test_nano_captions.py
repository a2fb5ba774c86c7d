"""data/nano/captions.py: noise that is there, within its bounds, and the same for the same seed."""

import json
import sys

import pytest

from data.nano import captions
from data.nano.corpus import CorpusArguments, make_corpus
from utils.errors import UserError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return make_corpus(CorpusArguments(str(folder), n_clips=4, duration_s=10.0, num_workers=1))


def run(monkeypatch, corpus, output, *flags) -> list:
    monkeypatch.setattr(sys, "argv", ["captions", "--corpus", str(corpus), "--output", str(output), *map(str, flags)])
    captions.main()
    return [json.loads(line) for line in output.read_text().splitlines()]


def words_of(sample) -> list:
    return sample[1]["content"][0]["text_stream"]


def test_noise_is_there_and_repeats(monkeypatch, corpus, tmp_path):
    clean = [json.loads(line) for line in (corpus / "commentary.jsonl").read_text().splitlines()]
    first = run(monkeypatch, corpus, tmp_path / "a.jsonl")
    again = run(monkeypatch, corpus, tmp_path / "b.jsonl")
    other = run(monkeypatch, corpus, tmp_path / "c.jsonl", "--seed", 1)
    assert first == again != other and len(first) == len(clean) == 4
    for noisy, was in zip(first, clean, strict=True):
        assert noisy[0]["content"][0] == was[0]["content"][0] and noisy[0]["content"][1]["text"] == ""
        assert noisy[0]["content"][1]["previous"] == was[0]["content"][1]["previous"] and len(noisy) == 2
        assert words_of(noisy) != words_of(was)
        times = [(start, end) for start, end, _ in words_of(noisy)]
        assert times == sorted(times) and all(start <= end <= was[0]["content"][0]["video_end"] for start, end in times)


def test_each_kind_of_noise_does_what_it_says(monkeypatch, corpus, tmp_path):
    clean = [json.loads(line) for line in (corpus / "commentary.jsonl").read_text().splitlines()]
    none = {"--lost": 0, "--misheard": 0, "--plain": 0, "--most_late_s": 0, "--jitter_s": 0}

    def noisy(**changed) -> list[list]:
        flags = {**none, **{f"--{name}": value for name, value in changed.items()}}
        return list(map(words_of, run(monkeypatch, corpus, tmp_path / "a.jsonl", *sum(flags.items(), ()))))

    words = [[word for *_, word in words_of(sample)] for sample in clean]
    n_words = sum(map(len, words))
    late_s = [late[0][0] - words_of(was)[0][0] for late, was in zip(noisy(most_late_s=0.8), clean, strict=True)]
    assert all(0.005 < seconds <= 0.81 for seconds in late_s) and len({round(seconds, 1) for seconds in late_s}) > 1
    assert 0.3 * n_words < sum(map(len, noisy(lost=0.5))) < 0.7 * n_words
    wrong = [
        (a[2], b) for one, was in zip(noisy(misheard=0.5), words, strict=True) for a, b in zip(one, was, strict=True)
    ]
    assert 0.3 * n_words < sum(a != b for a, b in wrong) < 0.7 * n_words
    plain = [word for one in noisy(plain=1) for *_, word in one]
    assert plain == [word.strip(".,!?").lower() for one in words for word in one] != [w for one in words for w in one]


def test_without_noise_the_words_stay(monkeypatch, corpus, tmp_path):
    flags = ["--lost", 0, "--misheard", 0, "--plain", 0, "--most_late_s", 0, "--jitter_s", 0]
    clean = [json.loads(line) for line in (corpus / "commentary.jsonl").read_text().splitlines()]
    for noisy, was in zip(run(monkeypatch, corpus, tmp_path / "a.jsonl", *flags), clean, strict=True):
        kept = [[round(start, 2), round(end, 2), text] for start, end, text in words_of(was)]
        assert words_of(noisy) == sorted(kept)


@pytest.mark.parametrize("flags", [["--lost", 1], ["--misheard", 2], ["--plain", -0.1]])
def test_shares_are_shares(monkeypatch, corpus, tmp_path, flags):
    with pytest.raises(UserError, match="between 0 and 1"):
        run(monkeypatch, corpus, tmp_path / "a.jsonl", *flags)


def test_a_folder_without_a_corpus_is_refused(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="make the corpus"):
        run(monkeypatch, tmp_path, tmp_path / "a.jsonl")
