"""LiveSports-3K as tasks of lmms-eval: rows with their prompt, video and window, and nothing of this project."""

import ast
import json

import pytest
import yaml

from evaluation.lmms_eval import make_tasks
from tests.asking import make_videos, write_lines
from tests.test_real_rows import hub
from utils.errors import UserError


def test_the_folder_holds_all_that_lmms_eval_needs(tmp_path):
    questions = write_lines(tmp_path / "qa.jsonl", [hub("game", 10, 1, begin=0.5, end=1.5), hub("lost", 1, 1)])
    event = {"video": "game.mp4", "video_id": "game", "event_id": 3, "begin": 1, "end": 2, "event_title": "Red v blue"}
    events = write_lines(tmp_path / "cc.jsonl", [{**event, "event_asr_text": "a goal"}])
    make_videos(tmp_path / "videos", "game.mp4", n_frames=60)
    out = tmp_path / "tasks"
    flags = ["--questions", questions, "--events", events, "--video_dir", tmp_path / "videos", "--output_dir", out]
    make_tasks.main([str(flag) for flag in flags])
    (asked,) = map(json.loads, (out / "livesports3k_qa.jsonl").read_text().splitlines())
    assert (asked["id"], asked["start_s"], asked["end_s"], asked["answer"]) == ("game_e10_q1", 0.5, 1.5, "B")
    assert asked["letters"] == "ABCD" and "Who scores in event 10?" in asked["prompt"]
    (told,) = map(json.loads, (out / "livesports3k_cc.jsonl").read_text().splitlines())
    assert (told["event_id"], told["begin"], told["end_s"]) == ("3", 1, 2.0) and "Red v blue" in told["prompt"]
    functions = {node.name for node in ast.parse((out / "livesports3k.py").read_text()).body if hasattr(node, "name")}
    for name in ("livesports3k_qa", "livesports3k_cc"):
        described = yaml.load((out / f"{name}.yaml").read_text().replace("!function ", ""), yaml.SafeLoader)
        assert described["task"] == name and described["dataset_kwargs"]["data_files"]["test"] == str(
            out / f"{name}.jsonl"
        )
        named = [value for value in described.values() if str(value).startswith("livesports3k.")]
        assert {value.split(".")[1] for value in [*named, described["metric_list"][0]["aggregation"]]} <= functions
    with pytest.raises(UserError, match="none of the 1 events of"):
        make_tasks.main(
            [str(flag) for flag in (*flags[2:4], "--questions", "", "--output_dir", out, "--video_dir", out)]
        )
