"""Evaluation of the nano world: what is shown, what is kept over a kill, and what decides an answer."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.nano.corpus import CorpusArguments, make_corpus
from data.video.clip import VideoFile
from evaluation.nano.evaluate import (
    EvaluateArguments,
    ShownPredictor,
    evaluate_clips,
    load_predictor,
    load_task,
    read_event_rows,
    read_timed_text,
    steps_of,
)
from evaluation.tasks.item import Answer, ClipPlan
from models.nano import NanoArguments, build_nano
from utils.errors import UserError


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    make_corpus(CorpusArguments(str(folder / "test"), n_clips=3, split="test", duration_s=6.0, num_workers=1))
    build_nano(NanoArguments(output_dir=str(folder / "model"), hidden_size=64, num_layers=1, vision_width=32))
    events = str(folder / "test" / "events.jsonl")
    return EvaluateArguments(str(folder / "model"), events, str(folder / "out"), max_new_tokens=3, num_workers=1)


def answer(arguments: EvaluateArguments, number: int = 0) -> Answer:
    item = load_task(arguments, read_event_rows(arguments.events)).items[number]
    ((_, said),) = load_predictor(arguments).answer([item])
    return said


def test_a_killed_run_goes_on(arguments, monkeypatch):
    scores = Path(arguments.output_dir) / "video.scores.json"
    assert evaluate_clips(arguments) == 0
    before = json.loads(scores.read_text())
    (path,) = (Path(arguments.output_dir) / "answers").glob("answers-*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    assert before["n_clips"] == len(lines) == 3
    path.write_bytes(lines[0] + lines[1][:40])  # killed while the second row was written
    asked, real = [], ShownPredictor.answer

    def recorded(self, items):
        asked.extend(item.id for item in items)
        return real(self, items)

    monkeypatch.setattr(ShownPredictor, "answer", recorded)
    assert evaluate_clips(arguments) == 0 and json.loads(scores.read_text()) == before
    assert sorted(asked) == sorted({f"{i:06d}" for i in range(3)} - {json.loads(lines[0])["item"]})


def test_views(arguments, tmp_path):
    rows = read_event_rows(arguments.events)
    videos = [row["video"] for row in rows]
    other = load_task(replace(arguments, view="other_video"), rows)
    assert [item.clip.video for item in other.items] == [*videos[1:], videos[0]]
    assert [end_s for _, end_s, _ in answer(arguments).steps][:3] == [3.0, 4.0, 5.0]
    noise = load_predictor(replace(arguments, view="noise"))
    shown = []
    for number in (0, 1):  # two videos under one name
        path = tmp_path / str(number) / "000000.mp4"
        path.parent.mkdir()
        path.write_bytes(Path(videos[number]).read_bytes())
        with VideoFile(path) as video:
            shown.append(noise.read(ClipPlan(str(path)), video).frames)
            real = ShownPredictor.read(load_predictor(arguments), ClipPlan(str(path)), video).frames
        assert shown[-1].shape == real.shape and not torch.equal(shown[-1], real)
    assert torch.equal(*shown)


def test_captions_are_read_by_their_times(arguments):
    text = "Time=0.0-3.0s Red pass. ...\nnonsense\nTime=3.0-4.0s Blue\nTime=4.0-5.0s ..."
    assert read_timed_text(text) == [(3.0, "Red pass."), (4.0, "Blue"), (5.0, "")]
    assert steps_of({"steps": None, "response": text}) == read_timed_text(text)
    assert answer(replace(arguments, style="caption")).steps is None


def test_no_events_file():
    with pytest.raises(UserError, match=r"data\.nano\.corpus"):
        read_event_rows("/nowhere/events.jsonl")
