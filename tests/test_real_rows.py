"""Rows as the benchmarks' real files have them, made by hand in their formats: events, tables, sequences, odd items."""

import json
from dataclasses import replace

import pyarrow
import pyarrow.parquet
import pytest

from evaluation.infstreams.task import load_windows
from evaluation.livesports3kqa import task as sports
from evaluation.mvbench import task as mvbench
from evaluation.runner.run import FAILED
from evaluation.scoring.results import BenchmarkRun
from evaluation.streamingbench import task as streaming
from evaluation.streamingbench.scores import SEQUENTIAL
from evaluation.tasks.item import Commentary, Polled, Written
from evaluation.tasks.prompts import PromptTemplates
from evaluation.videomme import distributed_evaluate_videomme as videomme_script
from evaluation.videomme import task as videomme
from tests.asking import items_of, make_videos, run_main, write_lines
from utils.errors import UserError

OPTIONS = ["A: Red", "B: Blue", "C: White", "D: Nobody"]


def copied(event: int, question: int, path: str, **more) -> dict:
    """A row of LiveSports-3K-QA as copies of its file have it."""
    return {
        "problem": f"Who scores in event {event}?", "options": OPTIONS, "path": path, "solution": "<answer>B</answer>",
        "problem_id": f"{path.split('_')[0]}_e{event}_q{question}", "q_type_livesports": "Who",
        "ocr_livesports": 1, **more,
    }  # fmt: skip


def hub(video: str, event: int, number: int, **more) -> dict:
    """A row with fields of its own."""
    return {
        "video": f"{video}.mp4", "video_id": video, "event_id": event, "question_id": number, "q_type": "Who",
        "OCR": 0,
        "question": f"Who scores in event {event}?", "options": OPTIONS, "answer": "B", **more,
    }  # fmt: skip


def test_questions_of_sports_are_about_the_window_of_their_event(tmp_path, caplog):
    rows = [
        hub("game", 10, 1, begin=0.5, end=1.5),
        hub("game", 11, 1, begin=1.0, end=2.0, video_start=9, video_end=10),  # a row's own begin and end first
        hub("game", 10, 1, begin=0.5, end=1.5, question="Who else?"),  # real ids repeat
        copied(4, 1, "game_0.250_2.250.mp4"),
        copied(7, 2, "cut_117.719_167.588.mp4"),  # only the clip is there
        hub("game", 12, 3),
    ]
    path = write_lines(tmp_path / "qa.jsonl", rows)
    make_videos(tmp_path / "videos", "game.mp4", "cut_117.719_167.588.mp4", n_frames=60)
    items = items_of(sports, sports.LiveSports3KQAArguments(str(path)))
    windows = {
        name: (item.clip.video.rsplit("/", 1)[1], item.clip.start_s, item.clip.end_s) for name, item in items.items()
    }
    assert windows == {
        "game_e10_q1": ("game.mp4", 0.5, 1.5),
        "game_e11_q1": ("game.mp4", 1.0, 2.0),
        "game_e10_q1_row3": ("game.mp4", 0.5, 1.5),
        "game_e4_q1": ("game.mp4", 0.25, 2.25),
        "cut_e7_q2": ("cut_117.719_167.588.mp4", None, None),
        "game_e12_q3": ("game.mp4", None, None),
    }
    assert {item.truth for item in items.values()} == {"B"}
    assert items["cut_e7_q2"].tags == {"q_type": "Who", "ocr": "1"} and items["cut_e7_q2"].video_id == "cut"
    assert "1 questions name no window of their event" in caplog.text


def test_an_empty_window_of_an_event_is_named(tmp_path):
    path = write_lines(tmp_path / "qa.jsonl", [hub("game", 1, 1, begin=3, end=2)])
    with pytest.raises(UserError, match=r"line 1: the window from 3.0 s to 2.0 s is empty"):
        items_of(sports, sports.LiveSports3KQAArguments(str(path)))


def videomme_row(i: int, **more) -> dict:
    return {
        "video_id": f"{i:03d}", "duration": "short", "domain": "Knowledge", "sub_category": "Law",
        "videoID": f"name{i}",
        "question_id": f"{i:03d}-1", "task_type": "OCR Problems", "question": "Which?", "answer": "B",
        "options": ["A. Red.", "B. Blue."], **more,
    }  # fmt: skip


def test_the_hubs_table_and_videos_in_any_folder_and_format(tmp_path):
    table = tmp_path / "videomme/test-00000-of-00001.parquet"
    table.parent.mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([videomme_row(i) for i in range(1, 5)]), table)
    make_videos(tmp_path, "data/name1.mp4", "data/chunk_02/deep/name2.mp4", n_frames=5)
    (tmp_path / "data/name1.mp4").rename(tmp_path / "data/name1.MP4")
    (tmp_path / "data/chunk_02/deep/name2.mp4").rename(tmp_path / "data/chunk_02/deep/name2.mkv")
    make_videos(tmp_path, "data/a/name3.mp4", n_frames=5)
    items = items_of(videomme, videomme.VideoMMEArguments(str(table)))
    found = [item.clip and item.clip.video.removeprefix(f"{tmp_path}/") for item in items.values()]
    assert found == ["data/name1.MP4", "data/chunk_02/deep/name2.mkv", "data/a/name3.mp4", None]
    make_videos(tmp_path, "data/b/name3.mp4", n_frames=5)
    with pytest.raises(UserError, match="two videos are called 'name3'"):
        items_of(videomme, videomme.VideoMMEArguments(str(table)))


def test_all_videos_missing_ends_before_a_model_is_loaded(tmp_path, monkeypatch, capsys):
    path = write_lines(tmp_path / "videomme.jsonl", [videomme_row(1), videomme_row(2)])
    flags = ["--benchmark_path", path, "--model_name_or_path", tmp_path / "no model", "--output_dir", tmp_path / "out"]
    with pytest.raises(UserError, match=r"none of the 2 items has its video: no video 'name1\.mp4'"):
        run_main(videomme_script.main, monkeypatch, *flags)


def test_bad_lines_end_the_command_or_are_counted(tmp_path, tiny_checkpoint, monkeypatch, small, capsys):
    good = [json.dumps(videomme_row(i)) for i in (1, 2)]
    bad = ["{broken", "[1, 2", json.dumps(videomme_row(3) | {"options": []}), json.dumps(videomme_row(1))]
    path = tmp_path / "videomme.jsonl"
    path.write_text("\n".join([good[0], *bad, good[1]]))
    make_videos(tmp_path / "videos", "name1.mp4", n_frames=30)
    with pytest.raises(UserError, match="line 2: not JSON"):
        items_of(videomme, videomme.VideoMMEArguments(str(path)))
    assert len(items_of(videomme, videomme.VideoMMEArguments(str(path), skip_bad_lines=True))) == 2
    flags = ["--benchmark_path", path, "--model_name_or_path", tiny_checkpoint, "--output_dir", tmp_path / "out"]
    assert run_main(videomme_script.main, monkeypatch, *flags, "--skip_bad_lines", "True", "--device", "cpu") == FAILED
    said = capsys.readouterr().err
    assert "4 lines are left out:" in said and "line 5: an item '001-1 [no_subtitles]' was there before" in said
    (kept,) = (tmp_path / "out").glob("*.result.json")
    assert BenchmarkRun.read(kept).settings["skipped_lines"] == 4


def stretch(video: str, *questions: dict) -> dict:
    return {"time": "[0:00:00 - 0:01:00]", "questions": list(questions), "video_path": f"./videos/{video}.mp4"}


def asked(task: str, at: str, **more) -> dict:
    return {"task_type": task, "question": f"What at {at}?", "time_stamp": at, "required_ability": "memory", **more}


def test_the_whole_of_streamingbench(tmp_path):
    """Letters that repeat, options without letters, sequences with what was asked before, outputs that are due."""
    letters = ["A. One", "", "B. Two", "C. Three", "B. Four"]
    omni = [stretch("s_2_omni", asked("Scene Understanding", "00:00:01", answer="B", options=letters))]
    sqa = [
        [
            stretch("s_3_sqa", asked(SEQUENTIAL, "00:00:01", answer="B", options=["Wang.", "Ma."])),
            stretch("s_3_sqa", asked(SEQUENTIAL, "00:00:02", answer="A", options=["2.", "6."])),
        ],
        [stretch("s_4_sqa", asked(SEQUENTIAL, "00:00:01", answer="A", options=["x", "y"]))],
    ]
    due = {"ground_truth_time_stamp": "00:00:03", "ground_truth_output": "Goal"}
    proactive = [stretch("s_5_proactive", asked("Proactive Output", "00:00:01", **due))]
    make_videos(tmp_path / "videos", *(f"s_{n}.mp4" for n in ("2_omni", "3_sqa", "4_sqa", "5_proactive")), n_frames=5)
    items = {}
    for name, entries in (("omni", omni), ("sqa", sqa), ("proactive", proactive)):
        path = tmp_path / f"questions_{name}.json"
        path.write_text(json.dumps(entries))
        for way in ("livecc", "official", "online"):
            arguments = streaming.StreamingBenchArguments(
                str(path), protocol="livecc" if way == "online" else way, online=way == "online"
            )
            items[name, way] = list(items_of(streaming, arguments).values())
    (repeated,) = items["omni", "livecc"]
    assert repeated.shown["options"] == ["A. One", "B. Two", "C. Three", "D. Four"] and repeated.truth == "B"
    first, second, other = items["sqa", "official"]
    assert "Wang" in second.ask.text and "Answer: B" in second.ask.text and "What at 00:00:01?" in second.ask.text
    assert "What at" in other.ask.text and "Wang" not in other.ask.text and "Answer:" not in first.ask.text
    assert isinstance(first.ask, Written) and len({item.id for item in (first, second, other)}) == 3
    (polled,), (awaited,) = items["proactive", "official"], items["proactive", "online"]
    assert isinstance(polled.ask, Polled) and polled.ask.times_s == (2, 3, 4, 5, 6, 7) and '"Goal"' in polled.ask.text
    assert isinstance(awaited.ask, Commentary) and (awaited.clip.start_s, awaited.clip.end_s) == (1.0, 7.0)


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        ([(2, 2, "no"), (3, 3, "yes")], 1.0),
        ([(5, 5, "yes")], 1.0),  # 2 s late
        ([(6, 6, "yes")], 0.0),
        ([(2, 2, "no")], 0.0),
        ([(0, 1, " ..."), (2, 3, "A goal!")], 1.0),
        ([], 0.0),
    ],
)
def test_an_output_is_in_time_within_two_seconds(steps, value):
    path_free = Polled("", (1.0,), "", 8)
    item = replace(SOME_ITEM, ask=path_free, shown={"due_s": 3.0})
    assert streaming.in_time(item, {"steps": steps}) == value
    assert streaming.in_time(replace(item, ask=Written("", 8)), {"steps": None}) is None


SOME_ITEM = streaming.Item("i", "v", Written("", 8), "", None)


def test_mvbench_without_its_missing_videos_and_with_one_option(tmp_path):
    line = {
        "video": "x.mp4",
        "question": "What?",
        "options": ["one"],
        "answer": "A",
        "task_type": "Counterfactual Inference",
    }
    path = write_lines(tmp_path / "mvbench.jsonl", [line])
    make_videos(tmp_path, "x.mp4", n_frames=5)
    (item,) = items_of(mvbench, mvbench.MVBenchArguments(str(path))).values()
    assert item.ask.options == ("A",) and item.truth == "A"


def test_windows_of_games_that_end_before_they_start_are_named_or_counted(tmp_path):
    rows = [
        {"video": "games/a.mp4", "title": "t", "content": [[4, 6.5, "goal"]]},
        {"video": "games/a.mp4", "title": "t", "content": [[9, 6, "backwards"]]},
        {"video": "games/a.mp4", "title": "t", "content": [[12, 14, "pass"]]},
    ]
    path = write_lines(tmp_path / "temp_score_clips.jsonl", rows)
    with pytest.raises(UserError, match="line 2: the window from 9 s to 6 s is empty"):
        load_windows(path)
    skipped: list[str] = []
    windows = load_windows(path, skipped=skipped)
    assert [(window.number, window.begin) for window in windows] == [(1, 4), (3, 12)] and len(skipped) == 1


def test_templates_rebuild_the_authors_prompts(tmp_path):
    """With the words of the benchmark's repository as templates, the prompt is the authors' and so is the protocol."""
    rows = write_lines(tmp_path / "videomme.jsonl", [videomme_row(1)])
    make_videos(tmp_path / "videos", "name1.mp4", n_frames=5)
    task = videomme.load_task(videomme.VideoMMEArguments(str(rows), protocol="official"), PromptTemplates())
    assert task.items[0].ask.text == (
        "Select the best answer to the following multiple-choice question based on the video. Respond with only the "
        "letter (A, B, C, or D) of the correct option.\nWhich?\nA. Red.\nB. Blue.\nThe best answer is:"
    )
    assert task.parts.name("official") == "official"
    own = tmp_path / "own"
    own.mkdir()
    (own / "videomme_official.txt").write_text("$question $options Which one?")
    task = videomme.load_task(videomme.VideoMMEArguments(str(rows), protocol="official"), PromptTemplates(str(own)))
    assert task.parts.name("official") == "official-but-prompt"
