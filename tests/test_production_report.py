"""The page of a run, and the files for the hub: safe, complete, and true to the run."""

import json
from collections import Counter
from itertools import pairwise

import pytest

from data.production.report import facts as report_facts
from data.production.report.facts import collect, sample
from data.production.report.histogram import N_BINS, histogram
from data.production.report.page import write_run_page
from data.production.run import RunnerArguments, run_config
from data.production.runner.config import read_run_config
from data.production.runner.progress import RunResult
from tests.production import CONFIG, make_videos, write_config
from tests.test_report import Page

HOSTILE = "<script>alert(1)</script>\"'& <img src=http://evil>"


@pytest.fixture(scope="module")
def made(tmp_path_factory, repository) -> tuple[RunResult, object]:
    """A run whose titles are hostile; every second video is a real one."""
    folder = tmp_path_factory.mktemp("report")
    videos = make_videos(folder / "videos.jsonl", 30)
    rows = [json.loads(line) for line in videos.open()]
    for i, row in enumerate(rows):
        row |= {"title": HOSTILE, "category": HOSTILE if i % 3 else "Sports", "language": "en-GB" if i % 2 else "en"}
        row |= {"query": f"Spiel {i}, bitte", "flags": ["profanity", "進球"] if i % 3 else []}
        if i % 2:
            row["video"] = str(repository / "demo/sources/match_1.mp4")
    videos.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = CONFIG.replace("name: made", "name: made, parquet: true, license: cc-by-4.0")
    config = read_run_config(write_config(folder, videos, {"most_words": 60}, text))
    return run_config(config, folder / "out", RunnerArguments(num_workers=1), shown=False), config


def test_the_page_is_safe_and_shows_the_run(made):
    result, config = made
    html = write_run_page(result, config).read_text(encoding="utf-8")
    page = Page(html)
    assert "script" not in page.tags and not page.handlers
    assert all(a.startswith(("data:image/jpeg", "#")) for a in page.addresses)
    assert any(a.startswith("data:image/jpeg") for a in page.addresses), "no example has frames"
    assert "default-src 'none'" in html and HOSTILE in page.text
    for count in result.progress.counts:
        assert f"{count.n_in:,}" in page.text
        for reason in count.reasons:
            assert reason.replace("_", " ") in page.text
    for (stage, reason), n in rejections_in(result).items():
        assert f"{reason.replace('_', ' ')} {stage}{n:,} records (" in page.text
    assert "too many words" in page.text and "words per s" in page.text
    assert "python -m data.preview" in page.text


def test_counts_are_those_of_the_files(made, monkeypatch):
    result, config = made
    monkeypatch.setattr(report_facts, "make_example", lambda record: report_facts.ShownExample(record, []))  # no frames
    facts = collect(result, config)
    n_lines = sum(len(path.read_bytes().splitlines()) for path in result.kept)
    assert (
        result.progress.counts[-1].kept.records
        == n_lines
        == sum(n for name, n in result.files.items() if name.startswith("made"))
    )
    assert len(facts.dropped) == result.files["rejected.jsonl"]
    steps = list(zip(result.steps, result.progress.counts, strict=True))
    tallies = {(step.stage, reason): tally.records for step, count in steps for reason, tally in count.reasons.items()}
    assert tallies == rejections_in(result) and len({stage for stage, _ in tallies}) >= 3
    for (stage, reason), examples in facts.reasons.items():
        found = {(example.record.rejection.stage, example.record.rejection.reason) for example in examples}
        assert found == {(stage, reason)}
    assert steps[0][1].n_in == 30 and all(a.kept.records == b.n_in for (_, a), (_, b) in pairwise(steps))
    assert facts.spent["pretrain_to_clips"].n_records and not facts.is_sample


def rejections_in(result: RunResult) -> dict[tuple[str, str], int]:
    """Numbers of rejections by stage and reason, counted in the file."""
    rejections = [json.loads(line)["rejection"] for line in (result.folder / "rejected.jsonl").open()]
    return Counter((rejection["stage"], rejection["reason"]) for rejection in rejections)


def test_a_sample_is_spread_over_the_run(tmp_path):
    paths = []
    for i in range(100):
        paths.append(tmp_path / f"{i}.jsonl")
        paths[-1].write_text("".join(f'{{"id":"{i}-{k}"}}\n' for k in range(10)))
    records = list(sample(paths, 300))
    shards = {int(record.id.partition("-")[0]) for record in records}
    assert len(records) == 300 and max(shards) > 90 and min(shards) < 10
    assert len(list(sample(paths, 5000))) == 1000


def test_histograms_bear_any_values():
    assert histogram([], []) is None and histogram([float("nan")], [float("inf")]) is None
    one = histogram([1.0], [], "s")
    assert (one.low, one.high, one.most, len(one.bars)) == (0.5, 1.5, 1, N_BINS)
    both = histogram([float("inf"), 2.0, 2.0], [3.0, 2.0, float("nan")], "s")
    assert [(bar.kept, bar.dropped) for bar in both.bars if bar.kept or bar.dropped] == [(2, 1), (0, 1)]
    assert (both.low, both.high, both.most) == (2.0, 3.0, 3)
    far = histogram([*range(1000), 1e9], [])
    assert far.high < 1000 and sum(bar.kept for bar in far.bars) == 1001


def test_parquet_and_its_card(made, tmp_path, monkeypatch):
    """Read as the hub reads it, by its card; every column says what the training files and kept records say."""
    import datasets  # which takes as long as all other tests here

    result, _ = made
    folder = result.folder / "parquet"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    there = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
    channels = {}
    for split, name in (("train", "made_with_seeks.jsonl"), ("test", "made_held_out_with_seeks.jsonl")):
        rows = list(there[split])
        samples = [json.loads(line) for line in (result.folder / name).read_text(encoding="utf-8").splitlines()[:-1]]
        records = [json.loads(line) for path in result.kept for line in path.open(encoding="utf-8")]
        records = [record for record in records if record.get("split") == {"test": "held_out"}.get(split)]
        assert rows == [expected_row(*pair) for pair in zip(records, samples, strict=True)]
        channels[split] = {row["channel"] for row in rows}
        assert len(rows) > 3 and any(row["flags"] for row in rows) and any(row["previous"] for row in rows)
        assert f"| {split} | {len(rows):,} |" in (folder / "README.md").read_text(encoding="utf-8")
    assert channels["train"].isdisjoint(channels["test"])
    assert "license: cc-by-4.0" in (folder / "README.md").read_text(encoding="utf-8")


def expected_row(record: dict, sample: list) -> dict:
    """A row, from a line of the training file and what is known of the record besides."""
    (video, context), (said,) = (message["content"] for message in sample)
    return {
        **{name: record[name] for name in ("id", "channel", "language")},
        **{name: video[name] for name in ("video", "video_start", "video_end")},
        **{name: context[name] for name in ("title", "category", "previous")}, "query": context["text"],
        "words": [{"start_s": start_s, "end_s": end_s, "text": text} for start_s, end_s, text in said["text_stream"]],
        "scores": [{"name": name, "value": value} for name, value in record["scores"].items()],
        "flags": record.get("flags", []),
        "messages": json.dumps(sample, ensure_ascii=False, separators=(",", ":")),
    }  # fmt: skip
