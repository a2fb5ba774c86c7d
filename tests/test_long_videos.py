"""Video-MME-v2, MLVU, LongVideoBench and LVBench: rows in their formats, the authors' reading and counting."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from evaluation.longvideobench import task as longvideobench
from evaluation.lvbench import task as lvbench
from evaluation.mlvu import distributed_evaluate_mlvu as mlvu_script
from evaluation.mlvu import task as mlvu
from evaluation.scoring.benchmarks import scores_of
from evaluation.scoring.results import ItemResult
from evaluation.tasks import reading
from evaluation.tasks.letter_questions import LetterArguments
from evaluation.tasks.prompts import PromptTemplates
from evaluation.videommev2 import task as videommev2
from tests.asking import ask, items_of, make_videos
from utils.errors import UserError

EIGHT = "\n".join(f"{letter}. Option {letter}." for letter in "ABCDEFGH")


def v2_row(i: int, kind: str = "relevance", structure: str = "[1, 2, 3, 4]") -> dict:
    return {
        "video": "7", "question": f"Which {i}?", "options": EIGHT, "answer": "H", "level": "2", "group_type": kind,
        "group_structure": structure, "second_head": "Order", "third_head": "Events",
    }  # fmt: skip


def test_video_mme_v2(tmp_path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([v2_row(i) for i in range(5)]), tmp_path / "test.parquet")
    make_videos(tmp_path / "videos", "7.mp4", n_frames=5)
    items = items_of(videommev2, LetterArguments(str(tmp_path / "test.parquet"), protocol="official"))
    assert list(items) == ["0000-1", "0000-2", "0000-3", "0000-4", "0001-1"]
    first = items["0000-1"]
    assert first.truth == "H" and (first.clip.min_frames, first.clip.max_frames) == (64, 64)
    assert "A. Option A.\nB. Option B." in first.ask.text and first.tags["group"] == "0000"
    livecc = items_of(videommev2, LetterArguments(str(tmp_path / "test.parquet")))["0000-1"]
    assert livecc.ask.options == tuple("ABCDEFGH") and livecc.clip.min_frames is None


@pytest.mark.parametrize(
    ("kind", "structure", "answers", "worth"),
    [
        ("relevance", "[1, 2, 3, 4]", "HHAA", 4 / 16),
        ("relevance", "[1, 2, 3, 4]", "HHHH", 1.0),
        ("relevance", "[1, 2, 3, 4]", "HHH ", 4 / 16),  # an answer without a letter takes one away
        ("logic", "[1, 2, 3, 4]", "HHAH", 4 / 16),
        ("logic", "[1, 2, 3, 4]", "AHHH", 0.0),
        ("logic", "[1, 2, 3, 4]", "H HH", 1.0),  # and does not break a chain
        ("logic", "[1, [2, 3], 4]", "HAHA", 4 / 12),
        ("logic", "[1, [2, 3], 4]", "HHHA", 7 / 12),
        ("logic", "[[1, 2], 3, 4]", "AHAA", 1 / 10),
        ("logic", "[[1, 2], 3, 4]", "HHHA", 5 / 10),
    ],
)
def test_groups_of_video_mme_v2_are_worth_what_the_authors_script_gives_them(kind, structure, answers, worth):
    tags = {"group": "0", "group_type": kind, "group_structure": structure, "level": "1"}
    results = [
        ItemResult(str(i), "v", float(said == "H"), said == " ", tags, said.strip() or None, "H")
        for i, said in enumerate(answers)
    ]
    head, by_kind, *_ = scores_of("videommev2").summary(results)
    assert head.rows[0].value == pytest.approx(worth) and by_kind.rows[0].name == kind
    assert (head.rows[1].name, head.rows[1].value) == ("accuracy of questions", answers.count("H") / 4)


def make_mlvu(folder):
    (folder / "json").mkdir(parents=True)
    for name, task in (("1_plotQA", "plotQA"), ("4_count", "count")):
        row = {"video": "m.mp4", "duration": 3, "question": "What?", "candidates": ["one", "two"], "answer": "two"}
        (folder / f"json/{name}.json").write_text(json.dumps([{**row, "question_type": task}]))
    (folder / "json/8_sub_scene.json").write_text(
        json.dumps([{"video": "m.mp4", "question": "Tell.", "answer": "..."}])
    )
    make_videos(folder, "video/1_plotQA/m.mp4", "video/4_count/m.mp4", n_frames=30)
    return folder


def test_mlvu_of_all_tasks_or_of_one(tmp_path):
    folder = make_mlvu(tmp_path)
    items = items_of(mlvu, LetterArguments(str(folder), protocol="official"))
    assert [item.clip.video.rsplit("/", 2)[1] for item in items.values()] == ["1_plotQA", "4_count"]
    first = items["plotQA_1"]
    assert first.truth == "B" and first.ask.prefix == "Best Option: (" and "(A) one\n(B) two" in first.ask.text
    assert list(items_of(mlvu, LetterArguments(str(folder / "json/4_count.json")))) == ["count_1"]
    with pytest.raises(UserError, match="no field 'answer'"):
        row = {"video": "m.mp4", "question": "What?", "candidates": ["one"], "question_type": "count"}
        (tmp_path / "test.json").write_text(json.dumps([row]))
        items_of(mlvu, LetterArguments(str(tmp_path / "test.json")))


def test_the_command_of_mlvu(tmp_path, tiny_checkpoint, monkeypatch, small):
    folder = make_mlvu(tmp_path / "mlvu")
    flags = ("--model_name_or_path", tiny_checkpoint, "--benchmark_path", folder, "--protocol", "official")
    result = ask(mlvu_script, monkeypatch, tmp_path / "results", *flags)
    assert result.protocol == "official-but-prompt" and len(result.results) == 2
    assert not any(outcome.failed for outcome in result.results)


def test_longvideobench_as_published_and_as_the_hub_has_it(tmp_path):
    row = {
        "video_path": "a.mp4",
        "question": "Who?",
        "duration_group": 15,
        "question_category": "S2E",
        "correct_choice": 1,
    }
    rows = [{**row, "id": "a_0", "candidates": ["one", "two", "three"]}]
    rows += [{**row, "id": "a_1", **{f"option{i}": ("one", "two", "N/A", "N/A", "N/A")[i] for i in range(5)}}]
    rows += [{**row, "id": "a_2", "candidates": ["one"]}]
    (tmp_path / "lvb_val.json").write_text(json.dumps(rows))
    make_videos(tmp_path / "videos", "a.mp4", n_frames=5)
    arguments = LetterArguments(str(tmp_path / "lvb_val.json"), skip_bad_lines=True)
    items = items_of(longvideobench, arguments)
    assert {name: (len(item.ask.options), item.truth) for name, item in items.items()} == {
        "a_0": (3, "B"),
        "a_1": (2, "B"),
    }
    task = longvideobench.load_task(
        LetterArguments(str(tmp_path / "lvb_val.json"), protocol="official", skip_bad_lines=True), PromptTemplates()
    )
    assert task.parts.name("official") == "official-but-prompt-frames-reading" and len(task.skipped) == 1


def test_lvbench_has_its_options_in_the_question(tmp_path):
    qa = {
        "uid": 3,
        "question": "Where?\n(A) Here\n(B) There",
        "answer": "B",
        "question_type": ["reasoning", "summarization"],
    }
    (tmp_path / "video_info.meta.jsonl").write_text(json.dumps({"key": "k1", "qa": [qa]}))
    make_videos(tmp_path / "all_videos", "k1.mp4", n_frames=5)
    (item,) = items_of(lvbench, LetterArguments(str(tmp_path / "video_info.meta.jsonl"))).values()
    assert (item.id, item.truth, item.ask.options) == ("3", "B", ("A", "B"))
    assert item.ask.text.startswith("Where?\nA. Here\nB. There")
    _, kinds = scores_of("lvbench").summary([ItemResult("3", "k1", 1.0, tags=item.tags)])
    assert [row.name for row in kinds.rows] == ["summarization", "reasoning"]


@pytest.mark.parametrize(
    ("response", "mlvu_says", "longvideobench_says"),
    [
        ("B) two", "B", "B"),
        ("B", "B", "B"),
        ("(B) two", "B", "B"),
        ("two", "two", ""),
        (")", "", ""),
        ("D. A book", "D. A book", "D"),
    ],
)
def test_how_answers_about_long_videos_are_read(response, mlvu_says, longvideobench_says):
    assert reading.mlvu_letter(response) == mlvu_says
    assert reading.longvideobench_letter(response) == longvideobench_says
