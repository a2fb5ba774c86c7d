"""The report: one safe page with scores, plots, failures and samples."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.pages.report_plot import plot
from evaluation.pages.report_samples import choose_samples, read_frames, spread
from evaluation.report import main
from evaluation.scoring.results import BenchmarkRun, ItemResult, causes_of
from evaluation.scoring.scored_runs import ScoredRun
from evaluation.scoring.stats import Floor, Score
from tests.videos import frame_number, make_video
from utils.errors import UserError

HOSTILE = "<script>alert(1)</script>\"'& $x^{ <img src=http://evil>"


class Page(HTMLParser):
    """Tags, addresses, and the text that a reader sees."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.text, self.addresses, self.handlers = [], "", [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def video(repository: Path) -> str:
    return str(repository / "tests/golden/videos/odd9_320x180.mp4")


def question(i: int, value: float, video: str, **more) -> ItemResult:
    tags = {"duration": "short", "domain": HOSTILE, "sub_category": "Law", "task_type": "OCR Problems"}
    shown = {"question": f"{HOSTILE} {i}?", "options": ["A. Red.", f"B. {HOSTILE}"], "clip": {"video": video}, **more}
    return ItemResult(f"{i}-1", str(i), value, "error" in more, tags, "A" if value else "B", "A", shown)


@pytest.fixture
def results(tmp_path: Path, video: str) -> Path:
    """Two runs on questions, one with a failure, and a commentary that was judged."""
    clip = {"video": video, "start_s": 1.0, "end_s": 3.0, "rule": "stream", "frame_times": "grid"}
    first = [question(i, i % 2, video, logits={"A": 1.0, "B": 0.0}) for i in range(6)]
    second = [question(i, 1, video) for i in range(5)] + [question(5, 0, video, error=f"VideoError: {HOSTILE}")]
    BenchmarkRun("videomme", "livecc", HOSTILE.replace("/", ""), "", first).write(tmp_path)
    BenchmarkRun("videomme", "official", "second", "", second).write(tmp_path)
    steps = [[0.0, 1.0, "Red pass ..."], [1.0, 2.0, " ..."], [2.0, 3.0, HOSTILE]]
    said = {"clip": clip, "steps": steps, "reference": "the human's words", "baseline": "a much longer caption of it"}
    judged = [
        ItemResult(f"v{i}_1", f"v{i}", 0.5, shown={**said, "commentary": "Red pass", "ab": "model", "ba": "baseline"})
        for i in range(4)
    ]
    BenchmarkRun("livesports3kcc", "livecc", "third", "", judged).write(tmp_path)
    return tmp_path


def test_the_page_is_whole_and_safe(results: Path, capsys):
    assert main([str(results)]) == 0
    path = results / "report.html"
    assert capsys.readouterr().out == f"{path}\n" and not list(results.glob("*.partial"))
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert "default-src 'none'" in html and html.endswith("</html>\n")
    assert not {"script", "iframe", "link", "object"} & {*page.tags} and not page.handlers
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in page.addresses)
    assert not re.search(r"url\((?!#)", html)
    assert page.text.count(HOSTILE) > 6


def test_the_page_shows_what_a_reader_needs(results: Path):
    main([str(results), "--output", str(results / "new folder/page.html")])
    html = (results / "new folder/page.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.tags.count("svg") == 1 + 4 + 1 + 2  # headlines, VideoMME's categories, judge and length
    assert page.tags.count("img") == 6 * 4 + 4 * 4
    for text in ("50.00", "83.33", "+33.33", "probability 0.73 among 2 options", "shown first: model won"):
        assert text in page.text, text
    assert "Items without an answer" in page.text and f"VideoError: {HOSTILE}" in page.text
    assert "the highest logit" in page.text and "protocol official" in page.text
    steps = re.search(r'<ol class="steps">.*?</ol>', html)[0]
    assert steps.count("<li>") == 2 and "Red pass" in steps  # the silent second is left out
    assert "the human's words" in page.text and "a much longer caption" in page.text
    assert "1.0 s</figcaption>" in html


def test_a_video_that_is_gone_leaves_its_question(results: Path, video: str):
    outcomes = [question(1, 1, video + ".gone"), question(2, 0, video)]
    (sample, other) = choose_samples([ScoredRun(BenchmarkRun("videomme", "livecc", "m", "", outcomes))], 5)
    assert sample.frames == [] and "no such file any more" in sample.note
    assert len(other.frames) == 4 and not other.note


def test_samples_show_frames_of_their_own_video_and_window(tmp_path: Path):
    """Films of numbered frames, one wide and one high; the pictures on the page say which they are."""
    wide = make_video(tmp_path / "wide.mp4", 100, size_hw=(90, 200))
    high = make_video(tmp_path / "höher.mp4", 100, size_hw=(200, 180))
    windows = [(wide, 0.0, 1.0), (high, 2.0, 3.0), (wide, 3.0, 4.0)]
    outcomes = [
        question(i, i % 2, "", clip={"video": str(path), "start_s": start_s, "end_s": end_s})
        for i, (path, start_s, end_s) in enumerate(windows)
    ]
    samples = choose_samples([ScoredRun(BenchmarkRun("videomme", "livecc", "m", "", outcomes))], 5)
    for sample, (path, start_s, end_s) in zip(samples, windows, strict=True):
        assert len(sample.frames) > 1 and not sample.note
        for frame in sample.frames:
            shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(frame.address.split(",")[1]))))
            assert (shown.shape[1] > 1.5 * shown.shape[0]) == (path == wide)
            assert frame_number(shown.transpose(2, 0, 1)) == pytest.approx(25 * frame.time_s, abs=1)
            assert start_s <= frame.time_s <= end_s


@pytest.mark.parametrize(
    "clip",
    [None, "x", {}, {"video": 3}, {"video": "http://127.0.0.1:9/x.mp4"}, {"video": "concat:/etc/passwd|/etc/hosts"}],
)
def test_only_local_files_are_opened(clip: object):
    frames, _ = read_frames(clip)
    assert frames == []


@pytest.mark.parametrize("wrong", [{"start_s": "x"}, {"end_s": [1]}, {"start_s": 900.0}, {"folder_fps": 2}])
def test_a_clip_that_makes_no_sense_is_said(video: str, wrong: dict):
    frames, note = read_frames({"video": video, **wrong})
    assert frames == [] and note.startswith("no frames: ")


def test_frames_of_a_folder(repository: Path):
    folder = repository / "tests/golden/images"
    frames, note = read_frames({"video": str(folder), "folder_fps": 3.0, "start_s": None, "end_s": None})
    assert len(frames) == 1 and not note


def test_samples_are_half_wrong_where_there_are_enough():
    outcomes = [ItemResult(str(i), str(i), float(i >= 40)) for i in range(100)]
    scored = [ScoredRun(BenchmarkRun("mvbench", "livecc", "m", "", outcomes))]
    for n, n_wrong in ((10, 5), (0, 0), (1, 0), (90, 40)):
        values = [sample.answers[0][1].value for sample in choose_samples(scored, n)]
        assert (len(values), values.count(0.0)) == (n, n_wrong)
    assert spread("abcdefgh", 4) == ["a", "c", "e", "g"] and spread("ab", 5) == ["a", "b"]


def test_failures_are_grouped_by_cause():
    errors = ["VideoError: /a/1.mp4: broken at 3.5 s", "VideoError: /b/2.mp4: broken at 7 s", "no memory", None]
    outcomes = [ItemResult(str(i), "v", 0.0, True, shown={"error": error}) for i, error in enumerate(errors)]
    causes = causes_of([*outcomes, ItemResult("fine", "v", 1.0)])
    assert [(cause.n, cause.items) for cause in causes] == [(2, ["0", "1"]), (1, ["2"]), (1, ["3"])]
    assert causes[0].text == errors[0] and causes[2].text == "no cause is kept"


def test_a_plot_holds_its_names_and_follows_the_page():
    found = Score("x", 0.4, 10, 0, (0.3, 0.5), (Floor("chance", 0.25),))
    svg = plot([HOSTILE, "b"], [[found, None], [None, found]])
    assert svg.startswith("<svg") and "currentColor" in svg and "#010203" not in svg
    assert "<script" not in svg and "&lt;script&gt;" in svg
    assert svg == plot([HOSTILE, "b"], [[found, None], [None, found]])


def test_bad_flags_and_empty_folders_are_named(tmp_path: Path):
    with pytest.raises(UserError, match="run an evaluation first"):
        main([str(tmp_path)])
    with pytest.raises(UserError, match="--samples -1"):
        main([str(tmp_path), "--samples", "-1"])
    kept = {"format": "livecc-result-1", "benchmark": "no_such", "protocol": "", "model": "", "setting": ""}
    row = {"id": "1", "cluster": "1", "value": 1.0}
    (tmp_path / "x.result.json").write_text(json.dumps({**kept, "outcomes": [row]}))
    with pytest.raises(UserError, match="no such benchmark"):
        main([str(tmp_path)])
