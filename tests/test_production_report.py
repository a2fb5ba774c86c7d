"""The page of a run, and the files for the hub: safe, complete, and true to the run."""

import json

import pyarrow.parquet as pq
import pytest

from data.production.config import read_config
from data.production.report import facts as report_facts
from data.production.report.facts import collect, sample
from data.production.report.page import write_report
from data.production.report.plot import histogram
from data.production.result import RunResult
from data.production.run import EngineArguments, run_config
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
        row |= {"title": HOSTILE, "category": HOSTILE if i % 3 else "Sports"}
        if i % 2:
            row["video"] = str(repository / "demo/sources/match_1.mp4")
    videos.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = CONFIG.replace("name: made", "name: made, parquet: true, license: cc-by-4.0")
    config = read_config(write_config(folder, videos, {"most_words": 60}, text))
    return run_config(config, folder / "out", EngineArguments(num_workers=1), shown=False), config


def test_the_page_is_safe_and_shows_the_run(made):
    result, config = made
    html = write_report(result, config).read_text(encoding="utf-8")
    page = Page(html)
    assert "script" not in page.tags and not page.handlers
    assert all(a.startswith(("data:image/jpeg", "#")) for a in page.addresses)
    assert any(a.startswith("data:image/jpeg") for a in page.addresses), "no example has frames"
    assert "default-src 'none'" in html and HOSTILE in page.text
    for count in result.progress.counts:
        assert f"{count.n_in:,}" in page.text
        for reason in count.reasons:
            assert reason.replace("_", " ") in page.text
    assert "too many words" in page.text and "words per s" in page.text
    assert "python -m data.preview" in page.text


def test_counts_are_those_of_the_files(made, monkeypatch):
    result, config = made
    monkeypatch.setattr(report_facts, "make_example", lambda record: report_facts.Example(record, []))  # no frames
    facts = collect(result, config)
    n_lines = sum(len(path.read_bytes().splitlines()) for path in result.kept)
    assert (
        result.progress.counts[-1].kept.records
        == n_lines
        == sum(n for name, n in result.files.items() if name.startswith("made"))
    )
    assert len(facts.dropped) == result.files["rejected.jsonl"]
    assert facts.spent["pretrain_to_clips"].n_records and not facts.is_sample


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
    assert histogram([], [], "s") == ""
    assert "<svg" in histogram([1.0], [], "s") and "nan" not in histogram([float("inf"), 2.0], [3.0], "<s>")
    assert "<s>" not in histogram([1.0, 2.0], [], "<s>")


def test_parquet_and_its_card(made):
    result, _ = made
    folder = result.folder / "parquet"
    rows = pq.read_table(folder / "train-00000.parquet").to_pylist()
    lines = (result.folder / "made_with_seeks.jsonl").read_text(encoding="utf-8").splitlines()[:-1]
    assert [json.loads(row["messages"]) for row in rows] == [json.loads(line) for line in lines]
    first = json.loads(lines[0])[1]["content"][0]["text_stream"][0]
    assert list(rows[0]["words"][0].values()) == first and dict(rows[0]["scores"])["words_per_s"] > 0
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "license: cc-by-4.0" in card and f"| train | {len(rows):,} |" in card
    test_rows = pq.read_table(folder / "test-00000.parquet").to_pylist()
    assert {row["channel"] for row in rows}.isdisjoint(row["channel"] for row in test_rows)
