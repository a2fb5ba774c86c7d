"""Evaluation of the nano world: what is shown, what is kept over a kill, and what decides an answer."""

import json
from dataclasses import replace

import pytest

from data.nano.corpus import CorpusArguments, make_corpus
from evaluation.nano import evaluate as module
from evaluation.nano.evaluate import EvaluateArguments, Job, answer_key, evaluate, jobs_of, read_timed_text, speak
from models.load import load_checkpoint
from models.nano import NanoArguments, build_nano
from utils.errors import UserError


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    make_corpus(CorpusArguments(str(folder / "test"), n_clips=3, split="test", duration_s=6.0, num_workers=1))
    build_nano(NanoArguments(output_dir=str(folder / "model"), hidden_size=64, num_layers=1, vision_width=32))
    events = str(folder / "test" / "events.jsonl")
    return EvaluateArguments(str(folder / "model"), events, str(folder / "out"), max_new_tokens=3, num_workers=1)


def test_a_killed_run_goes_on_and_a_changed_setting_starts_anew(arguments, monkeypatch):
    scores = evaluate(arguments)
    path = module.Path(arguments.output_dir) / "video.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert scores["n_clips"] == len(lines) == 3
    path.write_bytes(lines[0] + lines[1][:40])  # killed while the second row was written
    asked = []
    real = module._run

    def recorded(arguments, jobs):
        asked.append([job.index for job in jobs])
        return real(arguments, jobs)

    monkeypatch.setattr(module, "_run", recorded)
    assert evaluate(arguments) == scores
    kept = json.loads(lines[0])["index"]
    assert [sorted(jobs) for jobs in asked] == [[i for i in range(3) if i != kept]]
    assert answer_key(replace(arguments, max_new_tokens=4)) != answer_key(arguments)
    assert answer_key(replace(arguments, limit=2, num_workers=2, output_dir="x")) == answer_key(arguments)


def test_views(arguments):
    checkpoint = load_checkpoint(arguments.model_name_or_path, device="cpu", dtype="float32")
    rows = module.read_rows(arguments.events, None)
    seen, other = jobs_of(rows, "video"), jobs_of(rows, "other_video")
    assert [job.video for job in other] == [seen[1].video, seen[2].video, seen[0].video]
    steps = speak(checkpoint, seen[0], arguments)
    assert [end_s for end_s, _ in steps][:3] == [3.0, 4.0, 5.0]
    noise = replace(arguments, view="noise")
    assert speak(checkpoint, seen[0], noise) == speak(checkpoint, replace(seen[0], video=seen[1].video), noise)


def test_captions_are_read_by_their_times(arguments):
    text = "Time=0.0-3.0s Red pass. ...\nnonsense\nTime=3.0-4.0s Blue\nTime=4.0-5.0s ..."
    assert read_timed_text(text) == [(3.0, "Red pass."), (4.0, "Blue"), (5.0, "")]
    checkpoint = load_checkpoint(arguments.model_name_or_path, device="cpu", dtype="float32")
    job = Job(0, module.read_rows(arguments.events, 1)[0]["video"], 6.0)
    assert isinstance(speak(checkpoint, job, replace(arguments, style="caption")), list)


def test_no_events_file():
    with pytest.raises(UserError, match=r"data\.nano\.corpus"):
        module.read_rows("/nowhere/events.jsonl", None)
