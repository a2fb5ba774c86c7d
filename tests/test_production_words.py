"""Clips from captions and recognised words: every word comes out once, in order, in a clip or a counted rejection."""

from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.production.held_out_split import HeldOutSplit, SplitOptions
from data.production.metadata_filter import MetadataFilter, MetadataOptions
from data.production.pretrain_to_clips import PretrainClipOptions, PretrainToClips, sort_out, split_evenly
from data.production.record import Record, from_line, to_line
from data.production.run import RunnerArguments, run_config
from data.production.runner.config import read_run_config
from data.production.sft_to_clips import SftClipOptions, SftToClips
from data.production.to_conversation import ToConversation
from data.production.words.transcript import transcript_of
from dev.bench import bench_production
from dev.bench.parts.published_production import produce
from utils.errors import UserError

FUZZ = settings(derandomize=True, deadline=None, database=None)
TEXTS = ["the ball", "The ball.", "GOAL!", "he said “no.”", "iPhone", "3 points", "进球 了。", "é", "A. Müller scores"]
captions = st.lists(
    st.tuples(
        st.floats(0, 40),
        st.floats(0, 60),
        st.sampled_from([*TEXTS, "[Music]", "yes (laughs)", "  ", "so  so\nso"]),
    ),
    max_size=30,
)
words = st.lists(
    st.tuples(st.floats(0, 6), st.floats(0, 5), st.sampled_from(" ".join(TEXTS).split())), min_size=1, max_size=120
)


def timed(entries) -> list:
    """[start, end, text] in order of their start, from gaps and lengths."""
    start_s, made = 0.0, []
    for gap_s, length_s, text in entries:
        start_s = round(start_s + gap_s, 3)
        made.append([start_s, round(start_s + length_s, 3), text])
    return made


def parts_of(stage: PretrainToClips, record: Record) -> list[Record]:
    (parts,) = stage.process([record])
    return parts


def spoken(parts: list[Record]) -> list[str]:
    return [word for part in parts for entry in part.captions or part.words for word in entry[2].split()]


def by_reason(parts: list[Record], reason: str | None) -> list[Record]:
    return [part for part in parts if (part.rejection and part.rejection.reason) == reason]


@given(captions)
@FUZZ
def test_no_word_of_captions_is_lost_or_doubled(entries):
    record = Record("v", captions=timed(entries))
    parts = list(parts_of(PretrainToClips(PretrainClipOptions(min_s=5, max_s=40)), record))
    left_out = [part for part in parts if part.rejection and part.rejection.reason in ("bracketed", "repeated")]
    cut = [part for part in parts if part not in left_out]
    every = sorted(word for entry in entries for word in entry[2].split())
    assert sorted(spoken(parts)) == every
    in_order = [" ".join(e[2].split()) for e in entries if e[2].split() and not set(e[2]) & set("[](){}")]
    assert spoken(cut) == [word for text, _ in groupby(in_order) for word in text.split()]
    for clip in by_reason(parts, None):
        assert 5 <= clip.end_s - clip.start_s <= 40
        assert 1 <= len(clip.words) / (clip.end_s - clip.start_s) <= 4
        ends = [word[1] for word in clip.words]
        assert all(b - a <= 3 + 1e-9 for a, b in pairwise(ends))
    stream = [word for part in cut for word in part.words]
    assert all(a[0] <= a[1] <= b[0] for a, b in pairwise(stream))
    assert_previous(cut)


@given(words)
@FUZZ
def test_no_recognised_word_is_lost_or_doubled(entries):
    given_words = timed(entries)
    parts = list(SftToClips(SftClipOptions(min_s=5, max_s=40)).expand(Record("v", words=given_words)))
    assert [word for part in parts for word in part.words] == given_words
    for clip in by_reason(parts, None):
        assert 5 <= clip.end_s - clip.start_s <= 40
        assert not next(c for c in clip.words[0][2] if c.isalnum()).islower()
        starts = [word[0] for word in clip.words]
        assert all(b - a <= 3 + 1e-9 for a, b in pairwise(starts))
        at = given_words.index(clip.words[0])
        before = given_words[at - 1] if at else [-10, -10, ""]
        assert clip.words[0][0] - before[0] > 3 or before[2].strip("”\"')")[-1:] in tuple(".?!…。！？")
    assert_previous(parts)


@pytest.mark.parametrize(
    ("n_words", "seconds", "reason"),
    [
        (80, 30.0, None), (80, 29.9, "too_short"), (80, 240.0, "too_slow"), (240, 240.0, None), (40, 40.0, None),
        (39, 40.0, "too_slow"), (160, 40.0, None), (161, 40.0, "too_fast"), (121, 30.0, "too_fast"),
    ],
)  # fmt: skip
def test_limits_of_a_clip(n_words, seconds, reason):
    captions = [[5.0, 5.0 + seconds, " ".join(f"Wort{i}" for i in range(n_words))]]
    (part,) = parts_of(PretrainToClips(), Record("v", captions=captions))
    assert (part.rejection and part.rejection.reason) == reason and len(part.words) == n_words


@pytest.mark.parametrize(("gap_s", "n_parts"), [(2.0, 1), (2.5, 1), (2.6, 2), (60.0, 2)])
def test_a_clip_ends_where_the_next_word_ends_over_three_seconds_later(gap_s, n_parts):
    said = " ".join(f"Wort{i}" for i in range(80))
    captions = [[0.0, 40.0, said], [40.0 + gap_s, 80.0 + gap_s, said.upper()]]
    parts = parts_of(PretrainToClips(), Record("v", captions=captions))
    assert [part.rejection for part in parts] == [None] * n_parts and len(spoken(parts)) == 160


def assert_previous(parts: list[Record]) -> None:
    """A clip knows all that was said before it, in clips or not."""
    said: list[str] = []
    for part in parts:
        if part.rejection is None:
            assert part.previous == " ".join(said)
        said += [word[2] for word in part.words]


def test_the_last_word_and_a_clip_that_starts_at_the():
    text = "The keeper throws it out to the left and they go again . " * 8
    made = [[i * 0.5, i * 0.5 + 0.4, word] for i, word in enumerate(text.split())]
    (clip,) = SftToClips().expand(Record("v", words=made))
    assert clip.rejection is None and clip.words[0][2] == "The" and clip.words[-1] == made[-1]
    assert (clip.start_s, clip.end_s, clip.id) == (0, made[-1][1], "v#0000")


def test_long_speech_ends_with_a_sentence_and_the_next_clip_starts_with_the_next():
    text = "so yes. " + "And the ball goes to Henry who turns and shoots. " * 110
    made = [[i * 0.5, i * 0.5 + 0.4, word] for i, word in enumerate(text.split())]
    parts = list(SftToClips().expand(Record("v", words=made)))
    assert parts[0].rejection.reason == "before_first_sentence" and spoken(parts[:1]) == ["so", "yes."]
    clips = by_reason(parts, None)
    assert len(clips) == 3 and all(clip.words[0][2] == "And" and clip.words[-1][2] == "shoots." for clip in clips)
    assert spoken(parts) == [word[2] for word in made]


def test_speech_without_a_sentence_is_a_counted_rejection():
    made = [[i * 0.5, i * 0.5 + 0.4, "word"] for i in range(100)]
    (part,) = SftToClips().expand(Record("v", words=made))
    assert part.rejection.reason == "no_sentence_start" and part.words == made


def test_even_split_overlaps_and_captions_at_one_time():
    (made,) = split_evenly([sort_out([(0, 4, "a b c d"), (2, 5, "e f"), (5, 5, "g"), (5, 6, "h")])])
    edges = [(0, 0.5), (0.5, 1), (1, 1.5), (1.5, 2), (2, 3.5), (3.5, 5), (5, 5), (5, 6)]
    assert made.words(0, 8) == [[*edge, text] for edge, text in zip(edges, "abcdefgh", strict=True)]
    assert [*made.starts_ms] == [1000 * start_s for start_s, _ in edges] and made.ends_ms[-1] == 6000


@given(st.lists(captions, max_size=5))
@FUZZ
def test_a_video_is_cut_the_same_alone_and_beside_others(videos):
    def records():
        return [Record(f"v{i}", captions=timed(entries)) for i, entries in enumerate(videos)]

    stage = PretrainToClips(PretrainClipOptions(min_s=5, max_s=40))
    alone = [parts_of(stage, record) for record in records()]
    assert [list(map(to_line, parts)) for parts in stage.process(records())] == [list(map(to_line, p)) for p in alone]


@given(words)
@FUZZ
def test_packed_words_are_what_they_were_made_of(entries):
    made, stage = timed(entries), ToConversation()
    packed = transcript_of(made).words(0, len(made))
    assert packed == made and len(packed) == len(made) and packed[-1] == made[-1] and packed[1:3] == made[1:3]
    plain, other = (Record("v", video="v.mp4", words=timed_words) for timed_words in (made, packed))
    assert to_line(plain) == to_line(other) and plain.text == other.text and plain.n_words == other.n_words
    assert [to_line(r) for r in stage.expand(plain)] == [to_line(r) for r in stage.expand(other)]


def test_words_out_of_order_are_noticed_in_their_clip_alone():
    made = [[0, 1, "a"], [2, 3, "b"], [1, 4, "c"], [5, 6, "d"]]
    transcript = transcript_of(made)
    assert [transcript.words(*span).in_order for span in ((0, 2), (0, 4), (2, 4))] == [True, False, True]
    (record,) = ToConversation().expand(Record("v", video="v.mp4", words=transcript.words(0, 4)))
    assert record.rejection.reason == "words_out_of_order"


@given(captions, st.integers(0, 20000).map(lambda hundredths: hundredths / 100), st.booleans())
@FUZZ
def test_no_clip_goes_on_behind_the_picture_and_no_word_is_lost(entries, duration_s, recognised):
    record = Record("v", captions=timed(entries), duration_s=duration_s)
    pretrain = PretrainToClips(PretrainClipOptions(min_s=5, max_s=40))
    whole = [part for part in parts_of(pretrain, Record("v", captions=record.captions)) if not part.captions]
    if recognised:
        record.words, record.captions = [list(word) for part in whole for word in part.words], []
        parts = list(SftToClips(SftClipOptions(min_s=5, max_s=40)).expand(record)) if record.words else []
    else:
        parts = [part for part in parts_of(pretrain, record) if not part.captions]
    assert [word[2] for part in parts for word in part.words] == [word[2] for part in whole for word in part.words]
    behind = by_reason(parts, "beyond_video")
    assert all(word[0] >= duration_s - 1e-3 for part in behind for word in part.words)
    seen = [word for part in parts if part not in behind for word in part.words]
    assert all(word[0] < duration_s and word[1] <= duration_s for word in seen)
    assert all(part.end_s <= duration_s and part.previous is not None for part in by_reason(parts, None))


def test_a_window_that_ends_behind_the_picture_is_cut_and_says_how_many_words_were_lost():
    said = " ".join(f"Wort{i}" for i in range(80))
    record = Record("v", captions=[[0.0, 40.0, said], [41.0, 80.0, said.upper()]], duration_s=40.25)
    clip, behind = parts_of(PretrainToClips(), record)
    assert (clip.rejection, clip.start_s, clip.end_s, len(clip.words)) == (None, 0.0, 40.0, 80)
    assert behind.rejection.reason == "beyond_video" and behind.rejection.detail.startswith("80 words from 41.0 s on")
    record = Record("v", words=[[i, i + 0.9, "Wort."] for i in range(60)], duration_s=39.5)
    clip, behind = SftToClips().expand(record)
    assert clip.words[-1] == [39, 39.5, "Wort."] and clip.end_s == 39.5 and len(behind.words) == 20


def test_word_times_that_the_input_brings_can_be_kept():
    record = Record("v", captions=[[0, 4, "a b"]], words=[[0, 1, "a"], [1.2, 4, "b"]])
    (even,) = parts_of(PretrainToClips(PretrainClipOptions(min_s=1, min_words_per_s=0)), record)
    given_times_too = PretrainClipOptions(min_s=1, min_words_per_s=0, given_word_times=True)
    (given_times,) = parts_of(PretrainToClips(given_times_too), record)
    assert even.words == [[0, 2, "a"], [2, 4, "b"]] and given_times.words == [[0, 1, "a"], [1.2, 4, "b"]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"height": 479}, "height_too_small"),
        ({"height": None}, "height_unknown"),
        ({"duration_s": 601}, "length_too_large"),
        ({"duration_s": 29.9}, "length_too_small"),
        ({"language": "de"}, "language"),
        ({"language": ""}, "language_unknown"),
        ({"language": "en-GB"}, None),
        ({"category": "Gaming"}, "category"),
        ({"captions": [[0, 1, "Yes yes YES"]]}, "few_distinct_words"),
        ({"captions": []}, "no_captions"),
        ({"captions": [], "language": ""}, "no_captions"),
    ],
)
def test_metadata(change, reason):
    text = " ".join(f"word{i}" for i in range(40))
    known = {"height": 720, "duration_s": 60.0, "language": "en", "captions": [[0, 1, text]], "category": "Sports"}
    record = Record("v", **{**known, **change})
    MetadataFilter(MetadataOptions(drop_categories=["Gaming"])).judge(record)
    assert (record.rejection and record.rejection.reason) == reason


def test_every_limit_of_the_metadata_is_optional():
    none = {"min_height": None, "min_s": None, "max_s": None, "languages": [], "min_distinct_words": None}
    record = Record("v")
    MetadataFilter(MetadataOptions(**none)).judge(record)
    assert record.rejection is None


def test_a_channel_is_held_out_as_a_whole():
    stage = HeldOutSplit(SplitOptions(share=0.2))
    marked = [record for i in range(500) for record in stage.expand(Record(f"v{i}", channel=f"c{i % 50}"))]
    held_out = {record.channel for record in marked if record.split == "held_out"}
    assert all((record.channel in held_out) == (record.split == "held_out") for record in marked)
    assert 4 <= len(held_out) <= 16


def test_a_record_survives_its_line():
    record = Record("v", start_s=0.0, words=[[0, 0.5, "é"]], scores={"b": 0.0, "a": 1.5}, extra={"k": [1, None]})
    record.reject("stage", "reason", "detail", failed=True).reject("other", "later")
    again = from_line(to_line(record))
    assert again == record and to_line(again) == to_line(record) and again.rejection.reason == "reason"


def test_out_of_order_words_do_not_become_a_sample():
    (record,) = ToConversation().expand(Record("v", video="a.mp4", words=[[1, 2, "b"], [0, 1, "a"]]))
    assert record.rejection.reason == "words_out_of_order"


def test_clips_are_those_of_the_published_logic_written_plainly(tmp_path):
    """The benchmark's two sides on 60 videos, and its comparison, which finds what differs."""
    videos = bench_production.make_transcripts(tmp_path / "videos.jsonl", 60, longest_s=300.0)
    theirs = produce(videos, tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(bench_production.CONFIG.format(videos=videos))
    run_config(read_run_config(config), tmp_path / "ours", RunnerArguments(num_workers=1), shown=False)
    ours = tmp_path / "ours" / "train_with_seeks.jsonl"
    same = bench_production.compare(theirs, ours)
    assert same["clips"] > 60 and same["words"] > 5000 and 0 < same["words_1_ms_off"] < 0.1
    for old, new in (("word7", "word8"), ("videos/v", "videos/w"), ('"video_end":', '"video_end":1')):
        other = tmp_path / "other.jsonl"
        other.write_text(ours.read_text().replace(old, new, 1))
        with pytest.raises(UserError, match="differs"):
            bench_production.compare(theirs, other)
