"""MVBench: lines and published folders to items under both protocols, and its command."""

import json

import datasets
import pytest
from PIL import Image

from evaluation.mvbench import annotations, task
from evaluation.mvbench import distributed_evaluate_mvbench as script
from evaluation.mvbench.scores import TASKS
from evaluation.tasks.prompts import PromptTemplates
from tests.asking import ask, items_of, make_videos, write_lines
from tests.videos import numbered_frame
from utils.errors import UserError

ARGUMENTS = task.MVBenchArguments


def make_published(folder, videos=True):
    """The benchmark's own folders: a file a task in json/, the sources' folders in video/."""
    (folder / "json").mkdir(parents=True)
    questions = {name: [] for name in TASKS}
    questions["Action Sequence"] = [
        {
            "video": "a.mp4", "question": "What came first?", "candidates": ["Sitting.", "Standing."],
            "answer": "Standing.", "start": 0.5, "end": 1.5,
        }
    ]  # fmt: skip
    questions["Moving Count"] = [
        {"video": "b.mp4", "question": "How many move?", "candidates": ["3", "1", "0"], "answer": "0", "start": 1.0}
    ]
    questions["Episodic Reasoning"] = [
        {
            "video": "show_clip_1", "question": "Why?", "candidates": ["A: no", "B", "C", "D", "E"], "answer": "E",
            "start": 1, "end": 2.0,
        }
    ]  # fmt: skip
    for name, rows in questions.items():
        (folder / "json" / f"{annotations.task_stem(name)}.json").write_text(json.dumps(rows))
    if videos:
        make_videos(folder / "video", "star/Charades_v1_480/a.mp4", "data0613/clevrer/video_validation/b.mp4")
        frames = folder / "video/tvqa/frames_fps3_hq/show_clip_1"
        frames.mkdir(parents=True)
        for number in range(9):
            Image.fromarray(numbered_frame(number, 72, 160)).save(frames / f"{number + 1:05d}.jpg")
    return folder


@pytest.mark.parametrize(
    ("protocol", "window", "fps", "episode"),
    [("livecc", (None, None), 2.0, (None, None)), ("official", (0.5, 1.5), 3.0, (1.0, 2.0))],
)
def test_published_folders(tmp_path, protocol, window, fps, episode):
    items = items_of(task, ARGUMENTS(str(make_published(tmp_path)), protocol=protocol))
    assert list(items) == ["action_sequence_1", "moving_count_1", "episodic_reasoning_1"]
    bounded, open_, folder = items.values()
    assert (bounded.clip.start_s, bounded.clip.end_s) == window and bounded.clip.folder_fps is None
    assert (open_.clip.start_s, open_.clip.end_s) == (None, None)  # its start is no bound
    assert (folder.clip.start_s, folder.clip.end_s, folder.clip.folder_fps) == (*episode, fps)
    assert [item.truth for item in items.values()] == ["B", "C", "E"]
    if protocol == "livecc":
        assert [item.ask.options for item in items.values()] == [tuple("AB"), tuple("ABC"), tuple("ABCDE")]
        assert bounded.ask.text == "What came first?\nA. Sitting.\nB. Standing.\nPlease select the correct answer."
        assert bounded.ask.prefix == "Answer:" and bounded.ask.spaced and bounded.clip.min_frames is None
    else:
        assert "What came first?\nOptions:\n(A) Sitting.\n(B) Standing.\n" in bounded.ask.text
        assert bounded.ask.prefix == "Best option:(" and (bounded.clip.min_frames, bounded.clip.max_frames) == (16, 16)
    assert folder.shown["options"][0] == "A. A: no"
    assert [item.tags for item in items.values()] == [
        {"task_type": "Action Sequence"}, {"task_type": "Moving Count"}, {"task_type": "Episodic Reasoning"},
    ]  # fmt: skip


def test_a_file_of_lines(tmp_path):
    make_videos(tmp_path, "videos/x.mp4")
    line = {
        "video": "videos/x.mp4", "question": "What?", "options": ["(A) one", "(B) two"], "answer": "B",
        "task_type": "Action Localization", "start": 1, "end": 2,
    }  # fmt: skip
    path = write_lines(tmp_path / "mvbench.jsonl", [line, {**line, "start": None, "task_type": "state_change"}])
    items = items_of(task, ARGUMENTS(str(path), protocol="official"))
    assert [(item.clip.start_s, item.clip.end_s, item.truth) for item in items.values()] == [
        (1.0, 2.0, "B"), (None, None, "B"),
    ]  # fmt: skip
    assert len(task.load_task(ARGUMENTS(str(path)), PromptTemplates(), 1).items) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"task_type": "Chess"}, "line 1: task_type 'Chess' is none of"),
        ({"start": 3, "end": 2}, "line 1: start 3 is after end 2"),
        ({"start": "soon"}, "line 1: start is 'soon'; it must be a number of seconds"),
        ({"options": []}, "line 1: no options"),
        ({"options": "one"}, "line 1: options"),
        ({"answer": "C"}, "line 1: answer is 'C', which is none of the options"),
    ],
)
def test_a_bad_line_is_named(tmp_path, changed, message):
    make_videos(tmp_path, "x.mp4")
    line = {"video": "x.mp4", "question": "What?", "options": ["one", "two"], "answer": "A"}
    path = write_lines(
        tmp_path / "m.jsonl", [{**line, "task_type": "Action Sequence", "start": 0, "end": 1, **changed}]
    )
    with pytest.raises(UserError, match=message):
        items_of(task, ARGUMENTS(str(path), protocol="official"))


def test_what_is_missing_is_said_with_the_command_that_gets_it(tmp_path):
    with pytest.raises(UserError, match="no folder json/ in it; get the benchmark with: hf download OpenGVLab/MVBench"):
        items_of(task, ARGUMENTS(str(tmp_path)))
    with pytest.raises(UserError, match="no such file or folder; get it with: hf download OpenGVLab/MVBench"):
        items_of(task, ARGUMENTS(str(tmp_path / "mvbench.jsonl")))
    item = items_of(task, ARGUMENTS(str(make_published(tmp_path / "b", videos=False))))["moving_count_1"]
    assert item.clip is None and "no video 'b.mp4'" in item.problem and "hf download" in item.problem


def test_questions_of_the_hub(tmp_path, monkeypatch):
    asked = []

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        rows = {"video": "a.mp4", "question": "What?", "candidates": ["one", "two"], "answer": "two"}
        return datasets.Dataset.from_list([rows, rows])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.chdir(tmp_path)
    make_videos(tmp_path / "datasets/MVBench/video", "ssv2_video_mp4/a.mp4", n_frames=5)
    found = task.load_task(ARGUMENTS("OpenGVLab/MVBench"), PromptTemplates(), 5).items
    assert [item.id for item in found[:3]] == ["action_sequence_1", "action_sequence_2", "action_prediction_1"]
    assert asked == [("OpenGVLab/MVBench", f"action_{name}", "train") for name in ("sequence", "prediction", "antonym")]
    assert [item.clip is not None for item in found] == [False, False, False, False, True]


@pytest.mark.parametrize("protocol", ["livecc", "official"])
def test_the_command(tmp_path, tiny_checkpoint, monkeypatch, small, protocol):
    folder = make_published(tmp_path / "mvbench")
    flags = ("--model_name_or_path", tiny_checkpoint, "--benchmark_path", folder, "--protocol", protocol)
    result = ask(script, monkeypatch, tmp_path / "results", *flags)
    name = {"livecc": "livecc", "official": "official-but-prompt"}[protocol]
    assert (result.benchmark, result.protocol, len(result.results)) == ("mvbench", name, 3)
    assert not any(outcome.failed for outcome in result.results)
    if protocol == "livecc":
        assert all(outcome.answer in outcome.shown["logits"] for outcome in result.results)
