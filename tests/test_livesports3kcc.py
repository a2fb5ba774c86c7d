"""LiveSports-3K-CC: what is asked of an event, and the file of commentaries that comes out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.livesports3kcc import distributed_generate_livecc
from evaluation.livesports3kcc.events import SportsEvent
from evaluation.livesports3kcc.task import (
    CommentaryArguments,
    EventCaptionArguments,
    base_context,
    find_event_video,
    instruct_context,
    load_captions,
    load_commentaries,
)
from evaluation.runner.run import FAILED
from evaluation.tasks.item import Commentary, Written
from evaluation.tasks.prompts import PromptTemplates
from tests.events import NANO, PREVIOUS, ROOT, TITLE, VIDEOS, read_rows, rows, run_main, write_rows
from utils.errors import UserError


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "events.jsonl", rows())


def event(title: str = "", previous: str = "") -> SportsEvent:
    return SportsEvent("v.mp4", "v", "1", 0.0, 1.0, title, previous)


def test_instruct_models_are_told_title_and_earlier_speech():
    speaker = instruct_context(event(), PromptTemplates())
    assert "expert commentator" in speaker and "real time" in speaker and "\n" not in speaker
    titled = instruct_context(event(TITLE), PromptTemplates())
    assert titled == f'{speaker}\nThe video is titled "{TITLE}".'
    whole = instruct_context(event(TITLE, PREVIOUS), PromptTemplates())
    assert whole.startswith(titled) and f"\n\n{PREVIOUS}\n\n" in whole and whole.endswith("commenting on the video.")
    assert TITLE not in instruct_context(event("", PREVIOUS), PromptTemplates())


@pytest.mark.parametrize(
    ("title", "previous", "expected"), [(TITLE, PREVIOUS, PREVIOUS), (TITLE, "", TITLE), ("", "", "")]
)
def test_base_models_get_earlier_speech_or_the_title(title: str, previous: str, expected: str):
    assert base_context(event(title, previous), PromptTemplates()) == expected


def test_commentary_items_hold_window_and_decoding(annotations: Path):
    arguments = CommentaryArguments(str(annotations), str(VIDEOS), repetition_penalty=1.2)
    task = load_commentaries(arguments, PromptTemplates())
    first = task.items[0]
    assert isinstance(first.ask, Commentary) and first.ask.repetition_penalty == 1.2 and first.ask.max_new_tokens == 32
    assert (first.clip.start_s, first.clip.end_s, first.clip.rule) == (2.0, 9.5, "stream")
    assert (first.id, first.truth, first.shown["title"]) == ("match_1_4", "words of match_1 4", TITLE)
    assert task.value is None and set(task.templates) >= {"commentary", "commentary_title", "commentary_previous"}
    lost = task.items[-1]
    assert lost.clip is None and "lost.mp4" in lost.problem
    published = load_commentaries(arguments, PromptTemplates(), limit=1, compat="livecc").items[0].clip
    assert (published.rule, published.frame_times, published.start_s) == ("question", "end32", 2.0)


def test_captions_are_of_the_event_or_as_published_of_the_whole_video(annotations: Path):
    official = load_captions(EventCaptionArguments(str(annotations), str(VIDEOS)), PromptTemplates()).items[0]
    assert isinstance(official.ask, Written) and official.ask.max_new_tokens == 512
    assert (official.clip.start_s, official.clip.end_s, official.clip.rule) == (2.0, 9.5, "question")
    published = EventCaptionArguments(str(annotations), str(VIDEOS), protocol="livecc")
    items = load_captions(published, PromptTemplates()).items
    assert items[0].clip == items[1].clip and items[0].clip.start_s is None


def test_videos_are_found_by_name_or_id(tmp_path: Path):
    for name in ("a.mp4", "id.mp4"):
        (tmp_path / name).touch()
    named = SportsEvent("somewhere/a.mp4", "b", "1", 0.0, 1.0)
    assert find_event_video(named, [tmp_path])[0] == tmp_path / "a.mp4"
    assert find_event_video(SportsEvent("x.mp4", "id", "1", 0.0, 1.0), [tmp_path])[0] == tmp_path / "id.mp4"
    path, problem = find_event_video(SportsEvent("../../etc/x.mp4", "no", "1", 0.0, 1.0), [tmp_path])
    assert path is None and "leads out" in problem


def test_without_any_video_the_command_that_gets_them_is_said(annotations: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"hf download stdKonjac/LiveSports-3K .*tar -x"):
        load_commentaries(CommentaryArguments(str(annotations), str(tmp_path)), PromptTemplates())


def test_two_videos_under_one_id_are_refused(tmp_path: Path):
    lines = rows()[:2]
    lines[1]["video"] = "match_2.mp4"
    annotations = write_rows(tmp_path / "events.jsonl", lines)
    with pytest.raises(UserError, match="video_id 'match_1' name two videos"):
        load_captions(EventCaptionArguments(str(annotations), str(VIDEOS)), PromptTemplates())


def test_events_longer_than_a_clip_are_said(annotations: Path, monkeypatch, caplog):
    arguments = CommentaryArguments(str(annotations), str(VIDEOS))
    load_commentaries(arguments, PromptTemplates())
    assert not caplog.records
    monkeypatch.setenv("FPS_MAX_FRAMES", "14")
    load_commentaries(arguments, PromptTemplates())
    assert "1 events are longer than the 14 frames" in caplog.text


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"repetition_penalty": 0.0}])
def test_decoding_that_cannot_work_is_refused(wrong: dict):
    with pytest.raises(UserError, match=next(iter(wrong))):
        CommentaryArguments(**wrong)


def test_the_commentary_of_a_run_is_a_file_in_the_published_format(
    annotations: Path, tmp_path: Path, monkeypatch, capsys
):
    out = tmp_path / "livecc"
    flags = ["--model_name_or_path", NANO, "--annotations", annotations, "--video_dir", VIDEOS, "--output_dir", out]
    flags += ["--device", "cpu", "--num_workers", 1, "--repetition_penalty", 1.15]
    main = distributed_generate_livecc.main
    assert run_main(main, monkeypatch, *flags, "--limit", 2) == 0
    half = read_rows(out / "nano_checkpoint.jsonl")
    assert [list(row) for row in half] == [["video_id", "event_id", "begin", "end", "pred"]] * 2
    assert [(row["video_id"], row["event_id"], row["begin"], row["end"]) for row in half] == [
        ("match_1", 4, 2.0, 9.5),
        ("match_1", 11, 12.0, 18.0),
    ]
    assert all(row["pred"].endswith("...") and len(row["pred"].split()) > 2 for row in half)
    kept = [row["item"] for path in (out / "answers").glob("*.jsonl") for row in read_rows(path)]

    # The rest is asked, and the lost video is missing from the file, not from the account.
    assert run_main(main, monkeypatch, *flags) == FAILED
    whole = read_rows(out / "nano_checkpoint.jsonl")
    assert whole[:2] == half and [row["video_id"] for row in whole] == ["match_1", "match_1", "match_2"]
    asked = [row["item"] for path in (out / "answers").glob("*.jsonl") for row in read_rows(path)]
    assert sorted(set(asked) - set(kept)) == ["lost_1", "match_2_7"] and asked.count("match_1_4") == 1
    said = capsys.readouterr()
    assert "3 of 4 events are in" in said.out and f"--annotations {annotations}" in said.out
    assert "llm_judge.py --model_id nano_checkpoint" in said.out and "1 events have no answer" in said.err

    # A base model's context, and another decoding, are other answers.
    assert run_main(main, monkeypatch, *flags, "--not_instruct_model", "--limit", 1) == 0
    (other,) = out.glob("nano_checkpoint_*.jsonl")
    assert read_rows(other)[0]["pred"] != half[0]["pred"]
    assert read_rows(out / "nano_checkpoint.jsonl") == whole  # other settings have a file of their own


def test_the_seed_command_in_two_processes_says_what_one_says(annotations: Path, tmp_path: Path, monkeypatch):
    # As the README writes it, on three events; the processes share them.
    write_rows(annotations, rows()[:3])
    command = [sys.executable, "evaluation/livesports3kcc/distributed_generate_livecc.py"]
    seed = ["--model_name_or_path", NANO, "--repetition_penalty", 1.15, "--not_instruct_model"]
    where = ["--annotations", annotations, "--video_dir", VIDEOS]
    two = [*seed, "--output_dir", tmp_path / "two", "--num_workers", 2, *where]
    done = subprocess.run(
        [*command, *map(str, two)], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one = [*seed, "--output_dir", tmp_path / "one", "--num_workers", 1, *where]
    assert run_main(distributed_generate_livecc.main, monkeypatch, *one) == 0
    files = [read_rows(tmp_path / folder / "nano_checkpoint.jsonl") for folder in ("one", "two")]
    assert files[0] == files[1] and len(files[0]) == 3
