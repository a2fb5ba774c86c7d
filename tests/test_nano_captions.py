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
