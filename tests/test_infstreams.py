"""Inf-Streams-Eval: windows in its format, and games that are commented in bounded memory and cut to them."""

from pathlib import Path

import pytest

from evaluation.infstreams import distributed_generate_infstreams
from evaluation.infstreams.task import GameArguments, covers, cut, load_task, load_windows, stretches
from evaluation.livesports3kcc.events import load_events
from evaluation.predictors import live
from evaluation.predictors.checkpoint import CheckpointPredictor
from evaluation.predictors.live import MAX_PIXELS, LivePredictor
from evaluation.predictors.live_memory import LiveMemory
from evaluation.predictors.predictor_arguments import PredictorArguments
from evaluation.runner.run import FAILED
from evaluation.tasks.item import ClipPlan, Commentary, Item
from evaluation.tasks.prompts import PromptTemplates
from tests.events import NANO, VIDEOS, read_rows, run_main, write_rows
from utils.errors import UserError

# What the public format holds: whole seconds are cut from the words' times.
WINDOWS = [
    {"video": "match_1.mp4", "title": "Orange v cyan", "content": [[4.2, 5.0, "cyan pass"], [6.0, 9.9, "in midfield"]]},
    {"video": "match_2.mp4", "title": "", "content": [[5, 10.5, "goal"]]},
    {"video": "match_1.mp4", "title": "Orange v cyan", "content": [[12.2, 15.0, "cyan shoot"]]},
]


@pytest.fixture
def windows_path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "windows.jsonl", WINDOWS)


def arguments(path: Path, **changes) -> GameArguments:
    return GameArguments(str(path), str(VIDEOS), **{"start_s": 2.0, **changes})


def test_windows_are_read_with_their_words(windows_path: Path):
    first, _, third = load_windows(windows_path)
    assert (first.video_id, first.number, first.begin, first.end) == ("match_1", 1, 4, 9)
    assert (third.video_id, third.number, third.begin, third.end) == ("match_1", 2, 12, 15)
    assert first.words == "cyan pass in midfield"


@pytest.mark.parametrize("content", [[], [[1, 2]], [[5, 5.5, "x"]], "words", [["a", "b", "c"]]])
def test_a_window_that_is_none_names_its_line(windows_path: Path, content):
    write_rows(windows_path, [WINDOWS[0], {"video": "match_1.mp4", "content": content}])
    with pytest.raises(UserError, match="line 2"):
        load_windows(windows_path)


def test_a_game_is_one_item_or_one_a_chunk(windows_path: Path):
    whole = load_task(arguments(windows_path), PromptTemplates())
    assert [(item.id, item.clip.start_s, item.clip.end_s) for item in whole.items] == [
        ("match_1_2", 2.0, 15.0),
        ("match_2_2", 2.0, 10.0),
    ]
    assert whole.value is None and whole.protocol == "infinite"
    chunks = load_task(arguments(windows_path, chunk_s=6.0), PromptTemplates())
    assert [(item.clip.start_s, item.clip.end_s) for item in chunks.items[:3]] == [(2, 8), (8, 14), (14, 15)]
    first = load_windows(windows_path)[0]
    assert [covers(item, first) for item in chunks.items] == [True, True, False, False, False]


def test_a_window_before_the_start_is_refused(windows_path: Path):
    with pytest.raises(UserError, match="a window starts at 4 s, before --start_s 5"):
        stretches(arguments(windows_path, start_s=5.0), load_windows(windows_path)[:1])


def test_steps_belong_to_the_window_in_which_they_end(windows_path: Path):
    window = load_windows(windows_path)[0]  # 4 to 9 s
    steps = [(2.0, 4.0, "before"), (4.0, 5.0, "one ..."), (5.0, 6.0, " ..."), (8.0, 9.0, "two"), (9.0, 10.0, "after")]
    assert cut(steps, window) == "one two"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"start_s": -1.0}, "start_s"), ({"chunk_s": 0.0}, "chunk_s"), ({"max_new_tokens": 0}, "max_new_tokens")],
)
def test_flags_that_cannot_work_are_refused(changes: dict, message: str):
    with pytest.raises(UserError, match=message):
        GameArguments("windows.jsonl", **changes)


def test_remembering_everything_is_the_commentary_of_a_clip():
    """Frame by frame from the live reader, with the full cache: the steps of the clip that is read at once."""
    ask = Commentary("Please describe the video.", 20, 1.05)
    item = Item("m", "m", ask, None, ClipPlan(str(VIDEOS / "match_1.mp4"), 0.0, 12.5, rule="stream"))
    model = PredictorArguments(model_name_or_path=str(NANO), device="cpu")
    ((_, at_once),) = CheckpointPredictor.load(model).answer([item])
    ((_, full),) = LivePredictor.load((model, LiveMemory(cache_policy="full"))).answer([item])
    assert [tuple(step) for step in full.steps[:11]] == [tuple(step) for step in at_once.steps[:11]]
    assert any(text for _, _, text in full.steps)


def test_what_is_remembered_decides_and_is_kept_with_the_answers(monkeypatch):
    model = PredictorArguments(model_name_or_path=str(NANO), device="cpu")
    window = LivePredictor.load((model, LiveMemory(vision_s=4.0, text_tokens=64)))
    assert window.settings["retention"]["cache_policy"] == "window" and window.settings["retention"]["vision_s"] == 4.0
    assert window.limits.max_pixels <= MAX_PIXELS
    item = Item("m", "m", Commentary("Describe.", 20, 1.05), None, ClipPlan(str(VIDEOS / "match_1.mp4"), 2.0, 26.0))
    n_context, real = [], live.comment

    def comment(session, frames):
        for step in real(session, frames):
            n_context.append(step.n_context)
            yield step

    monkeypatch.setattr(live, "comment", comment)
    ((_, answer),) = window.answer([item])
    assert answer.steps[0][0] == 2.0 and answer.steps[-1][1] == 26.0
    bounded = n_context.copy()
    n_context.clear()
    list(LivePredictor.load((model, LiveMemory(cache_policy="full"))).answer([item]))
    assert len(bounded) == len(n_context) > 15
    assert max(bounded) < max(n_context) / 2 and n_context == sorted(n_context)
    lost = Item("l", "l", item.ask, None, ClipPlan(str(VIDEOS / "match_1.mp4"), 500.0, 600.0))
    ((_, error),) = window.answer([lost])
    assert "holds no frame from 500 s on" in str(error)
    with pytest.raises(UserError, match="--cache_policy full"):
        LivePredictor.load((PredictorArguments(model_name_or_path=str(NANO), compat="livecc"), LiveMemory()))


def test_the_command_writes_windows_for_the_judge(windows_path: Path, tmp_path: Path, monkeypatch, capsys):
    late = {"video": "match_2.mp4", "title": "", "content": [[40, 90, "after the video's end"]]}
    write_rows(windows_path, [*WINDOWS, late, {**WINDOWS[1], "video": "lost.mp4"}])
    out = tmp_path / "out"
    flags = ["--model_name_or_path", NANO, "--device", "cpu", "--windows_path", windows_path, "--video_dir", VIDEOS]
    flags += ["--output_dir", out, "--start_s", 2, "--num_workers", 1]
    assert run_main(distributed_generate_infstreams.main, monkeypatch, *flags) == FAILED
    said = read_rows(out / "nano_checkpoint.jsonl")
    assert [(row["video_id"], row["event_id"], row["begin"], row["end"]) for row in said] == [
        ("match_1", 1, 4, 9),
        ("match_2", 1, 5, 10),
        ("match_1", 2, 12, 15),
    ]
    assert all(row["pred"] for row in said)
    printed = capsys.readouterr()
    assert "3 of 5 events" in printed.out and "before its window does at 90 s" in printed.err
    assert "no video 'lost.mp4'" in printed.err
    # The windows are events for the captioner and the judge.
    events = load_events(str(out / "windows.jsonl"))
    assert [event.id for event in events] == ["match_1_1", "match_2_1", "match_1_2", "match_2_2", "lost_1"]
    assert events[0].event_asr_text == "cyan pass in midfield" and events[0].event_title == "Orange v cyan"
