"""VideoMME, LiveSports-3K-QA and StreamingBench: published formats to items, their commands, and bad files."""

import csv
import json

import pyarrow
import pyarrow.parquet
import pytest

from evaluation.livesports3kqa import distributed_evaluate_livesports3kqa as sports_script
from evaluation.livesports3kqa import task as sports
from evaluation.streamingbench import distributed_evaluate_streamingbench as streaming_script
from evaluation.streamingbench import task as streaming
from evaluation.tasks.hub_rows import HubSet, read_rows
from evaluation.tasks.item import ClipPlan, Item, Written
from evaluation.tasks.lines import BenchmarkLine
from evaluation.tasks.multiple_choice import lettered, listed_options, names_the_letter, right_letter
from evaluation.tasks.prompts import PromptTemplates
from evaluation.videomme import task as videomme
from tests.asking import ask, items_of, make_videos, write_lines
from utils.errors import UserError

HUB = HubSet("owner/Some-Set", "QA")
SPORTS_ROW = {
    "video": "game.mp4", "video_id": "game", "question_id": 1, "q_type": "What", "OCR": 0, "question": "Who scores?",
    "options": ["A. Red.", "B. Blue.", "C. White.", "D. Nobody."], "answer": "B",
}  # fmt: skip
STREAMING_ROW = {
    "question_id": "Real-Time Visual Understanding_sample_7_2", "task_type": "Object Perception",
    "question": "What is shown right now?", "time_stamp": "00:01:30", "answer": "B",
    "options": "['A. A map.', 'B. A compass.', 'C. Snow, ice', 'D. Rain']", "frames_required": "single",
    "temporal_clue_type": "Prior",
}  # fmt: skip


def make_streaming(folder, *rows):
    """The benchmark as its hub repository has it: a table, and the videos as their archives unpack."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "Real_Time_Visual_Understanding.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, STREAMING_ROW)
        writer.writeheader()
        writer.writerows([{**STREAMING_ROW, **row} for row in rows])
    return path


VIDEOMME_ROWS = [
    {
        "question_id": f"001-{i}", "video_id": "001", "videoID": "fFjv93ACGo8", "duration": "short",
        "domain": "Knowledge", "sub_category": "Law", "task_type": "OCR Problems",
        "question": f"Question {i}?", "answer": "B",
        "options": ["A. Red.", "B. Blue.", "C. Grün.", "D. White."][:n], "subtitles": subtitles,
    }
    for i, (n, subtitles) in enumerate([(4, "words of the match"), (3, ""), (2, "other words")])
]  # fmt: skip


def videomme_items(tmp_path, **arguments) -> dict[tuple[str, str], Item]:
    """The items of three questions, by id and setting."""
    # Some files hold each line as a string of JSON.
    lines = [json.dumps(json.dumps(row) if i == 1 else row) for i, row in enumerate(VIDEOMME_ROWS)]
    (tmp_path / "videomme.jsonl").write_text("\n".join(lines))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/fFjv93ACGo8.mp4").touch()
    task = videomme.load_task(
        videomme.VideoMMEArguments(str(tmp_path / "videomme.jsonl"), **arguments), PromptTemplates()
    )
    return {(item.id, item.setting): item for item in task.items}


def test_videomme_questions_without_and_with_subtitles(tmp_path):
    items = videomme_items(tmp_path, both_settings=True)
    assert [setting for _, setting in items] == ["no_subtitles"] * 3 + ["with_subtitles"] * 3
    plain = "Question 0?\nA. Red.\nB. Blue.\nC. Grün.\nD. White.\nPlease select the correct answer."
    assert items["001-0", "no_subtitles"].ask.text == plain
    subtitled = items["001-0", "with_subtitles"].ask.text
    assert subtitled.endswith("\n" + plain) and subtitled.count("words of the match") == 1
    # In a silent video there is nothing to add; each question has its own options and its own words.
    assert items["001-1", "with_subtitles"].ask == items["001-1", "no_subtitles"].ask
    assert "other words" in items["001-2", "with_subtitles"].ask.text
    assert [item.ask.options for item in items.values()] == [tuple("ABCD"), tuple("ABC"), tuple("AB")] * 2
    assert {item.ask.prefix for item in items.values()} == {"Answer:"}
    assert {item.clip for item in items.values()} == {ClipPlan(str(tmp_path / "videos/fFjv93ACGo8.mp4"))}
    first = items["001-0", "no_subtitles"]
    assert first.tags == {
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Law",
        "task_type": "OCR Problems",
    }


def test_videomme_questions_as_the_benchmark_puts_them(tmp_path):
    items = videomme_items(tmp_path, with_subtitles=True, protocol="official")
    (asked, silent, _) = (item.ask for item in items.values())
    assert isinstance(asked, Written) and {setting for _, setting in items} == {"with_subtitles"}
    assert asked.text.index("words of the match") < asked.text.index("Question 0?") < asked.text.index("D. White.")
    assert asked.text.endswith("The best answer is:") and "D. " not in silent.text


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_sports_questions(tmp_path, suffix):
    rows = [SPORTS_ROW, {**SPORTS_ROW, "question_id": 2, "OCR": 1, "answer": "D. Nobody."}]
    path = tmp_path / f"LiveSports-3K-QA{suffix}"
    if suffix == ".jsonl":
        write_lines(path, rows)
    elif suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    make_videos(tmp_path / "videos", "game.mp4")
    items = items_of(sports, sports.LiveSports3KQAArguments(str(path)))
    assert {name: (item.truth, item.tags) for name, item in items.items()} == {
        "game_1": ("B", {"q_type": "What", "ocr": "0"}),
        "game_2": ("D", {"q_type": "What", "ocr": "1"}),
    }
    assert items["game_1"].clip == ClipPlan(str(tmp_path / "videos/game.mp4"))
    assert items["game_1"].ask.options == tuple("ABCD") and items["game_1"].ask.prefix == "Answer:"
    official = items_of(sports, sports.LiveSports3KQAArguments(str(path), protocol="official"))
    assert isinstance(official["game_1"].ask, Written) and "B. Blue." in official["game_1"].ask.text


def test_a_bad_question_of_sports_is_named(tmp_path):
    path = write_lines(tmp_path / "qa.jsonl", [SPORTS_ROW, {**SPORTS_ROW, "OCR": "maybe"}])
    with pytest.raises(UserError, match="line 2: OCR is 'maybe'; it must be 0 or 1"):
        items_of(sports, sports.LiveSports3KQAArguments(str(path)))


def test_streaming_questions(tmp_path):
    path = make_streaming(tmp_path, {}, {"question_id": "x_sample_7_1", "time_stamp": "00:00:20"})
    make_videos(tmp_path, "sample_7/video.mp4", n_frames=5)
    items = items_of(streaming, streaming.StreamingBenchArguments(str(path)))
    assert [(item.clip.start_s, item.clip.end_s) for item in items.values()] == [(None, 90.0), (None, 20.0)]
    first = items["Real-Time Visual Understanding_sample_7_2"]
    assert (first.truth, first.video_id, first.tags) == ("B", "sample_7/video.mp4", {"task_type": "Object Perception"})
    assert first.ask.text.splitlines()[1:4] == ["A. A map.", "B. A compass.", "C. Snow, ice"]
    official = items_of(streaming, streaming.StreamingBenchArguments(str(path), protocol="official"))
    assert [(item.clip.start_s, item.clip.end_s) for item in official.values()] == [(30.0, 90.0), (None, 20.0)]
    assert isinstance(official["x_sample_7_1"].ask, Written)


def test_streaming_questions_of_the_json_file(tmp_path):
    question = {name: STREAMING_ROW[name] for name in ("task_type", "question", "answer")}
    question |= {"time_stamp": "00:00:01", "options": ["A. A map.", "B. A compass."], "required_ability": "memory"}
    stretch = {"time": "[0:00:00 - 0:00:10]", "questions": [question, {**question, "time_stamp": "00:00:02"}]}
    path = tmp_path / "questions_real.json"
    path.write_text(json.dumps([{**stretch, "video_categories": "games", "video_path": "./videos/sample_7_real.mp4"}]))
    make_videos(tmp_path / "videos", "sample_7_real.mp4", n_frames=5)
    items = items_of(streaming, streaming.StreamingBenchArguments(str(path)))
    assert {name: item.clip.end_s for name, item in items.items()} == {
        "sample_7_real_1_1": 1.0, "sample_7_real_1_2": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"time_stamp": "later"}, "line 2: time_stamp is 'later'; it must be like 00:03:10"),
        ({"options": "['A. one'"}, "line 2: options is"),
        ({"answer": "E"}, "line 2: answer is 'E', which is none of the options"),
        ({"question_id": "7"}, "line 2: neither a field 'video' nor a question_id that holds _sample_NUMBER_"),
    ],
)
def test_a_bad_row_is_named(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        items_of(streaming, streaming.StreamingBenchArguments(str(make_streaming(tmp_path, changed))))


@pytest.mark.parametrize(
    ("time_stamp", "seconds"), [("00:03:10", 190), ("03:10", 190), ("1:00:00.5", 3600.5), (7, 7), ("12", 12)]
)
def test_time_stamps(time_stamp, seconds):
    assert streaming.seconds_of(BenchmarkLine("f", 1, {"time_stamp": time_stamp})) == seconds


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (["A. one", "B. two, three"], ["A. one", "B. two, three"]),
        (["A. one", "B. two", "three", " ", "C. four"], ["A. one", "B. two, three", "C. four"]),
        (["one", "two"], ["one", "two"]),
        ([], []),
    ],
)
def test_options_that_a_separator_cut(pieces, whole):
    assert streaming.whole_options(pieces) == whole


@pytest.mark.parametrize(
    ("response", "first", "anywhere"),
    [
        ("B", 1, 1),
        (" B. A compass", 1, 1),
        ("It is B", 0, 1),
        ("A or B", 0, 0),
        ("Apples, so B", 0, 1),
        ("No BUS", 0, 0),
        ("", 0, 0),
    ],
)
def test_written_letters(response, first, anywhere):
    item = Item("i", "v", Written("", 8), "B", None, shown={"options": ["A. a map", "B. a compass"]})
    assert (streaming.begins_with_letter(item, response), names_the_letter(item, response)) == (first, anywhere)


@pytest.mark.parametrize(
    ("options", "answer", "expected"),
    [
        (["A. one", "B. two"], "B", {"A": "one", "B": "two"}),
        ('["one", "two"]', "two", {"A": "one", "B": "two"}),
        ("A. one\nB. two", "B. two", {"A": "one", "B": "two"}),
        (["(A) one", "(B) two"], "(B)", {"A": "one", "B": "two"}),
        (["one", "two"], "(B) two", {"A": "one", "B": "two"}),
    ],
)
def test_options_and_answers_in_many_writings(options, answer, expected):
    line = BenchmarkLine("f", 1, {"options": options, "answer": answer})
    found = lettered(listed_options(line), line)
    assert (found, right_letter(found, line)) == (expected, "B")


def test_rows_from_a_folder_copied_from_the_hub(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    tables = "configs:\n- config_name: QA\n  data_files:\n  - split: test\n    path: QA.json\n"
    (tmp_path / "set" / "README.md").write_text(f"---\n{tables}---\n")
    (tmp_path / "set" / "QA.json").write_text(json.dumps([SPORTS_ROW, {**SPORTS_ROW, "question_id": 2}]))
    rows = read_rows(str(tmp_path / "set"), HUB)
    assert [(row.number, row["question_id"], row["options"][0]) for row in rows] == [
        (1, 1, "A. Red."),
        (2, 2, "A. Red."),
    ]
    assert len(read_rows(str(tmp_path / "set"), HUB, limit=1)) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"cannot be loaded .*; where this machine reaches the hub, get them with: hf"):
        read_rows(str(tmp_path / "empty"), HUB)


def test_bad_files_of_rows(tmp_path):
    command = "hf download owner/Some-Set --repo-type dataset --local-dir datasets/Some-Set"
    for name in ("gone.jsonl", "gone", "a/b/c"):
        with pytest.raises(UserError, match=f"no such file or folder; get it with: {command}"):
            read_rows(name, HUB)
    for name, content, message in (
        ("empty.jsonl", "", f"no rows in it; get them with: {command}"),
        ("rows.xml", "<x>", "rows are read from files that end in .jsonl, .json, .csv, .tsv, .parquet"),
        ("rows.parquet", "no parquet", "cannot be read as parquet"),
        ("rows.csv", "a,b\n1\n", "line 2: not as many values as the header has names"),
        ("rows.csv", 'a,b\n"1,2\n', "cannot be read as a table"),
        ("rows.jsonl", "{}\n{", "line 2: not JSON"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=message):
            read_rows(str(tmp_path / name), HUB)


def test_a_question_without_its_video_says_how_to_get_it(tmp_path):
    path = write_lines(
        tmp_path / "qa.jsonl", [SPORTS_ROW, {**SPORTS_ROW, "video": "../../etc/passwd", "question_id": 2}]
    )
    first, second = items_of(sports, sports.LiveSports3KQAArguments(str(path))).values()
    assert first.clip is None and "no video 'game.mp4'" in first.problem and "--video_dir" in first.problem
    assert second.clip is None and "leads out of" in second.problem


@pytest.mark.parametrize("protocol", ["livecc", "official"])
def test_the_command_of_sports(tmp_path, tiny_checkpoint, monkeypatch, small, protocol):
    rows = [SPORTS_ROW, {**SPORTS_ROW, "question_id": 2}, {**SPORTS_ROW, "video_id": "other", "video": None}]
    path = write_lines(tmp_path / "qa.jsonl", rows)
    make_videos(tmp_path / "videos", "game.mp4")
    flags = ("--model_name_or_path", tiny_checkpoint, "--benchmark_path", path, "--protocol", protocol)
    result = ask(sports_script, monkeypatch, tmp_path / "results", *flags, status=3)
    assert [(outcome.id, outcome.failed) for outcome in result.results] == [
        ("game_1", False), ("game_2", False), ("other_1", True),
    ]  # fmt: skip


@pytest.mark.parametrize("protocol", ["livecc", "official"])
def test_the_command_of_streaming(tmp_path, tiny_checkpoint, monkeypatch, small, protocol):
    path = make_streaming(
        tmp_path, {"time_stamp": "00:00:02"}, {"question_id": "x_sample_7_1", "time_stamp": "00:00:01"}
    )
    make_videos(tmp_path / "real", "sample_7.mp4")
    flags = ("--model_name_or_path", tiny_checkpoint, "--benchmark_path", path, "--protocol", protocol)
    result = ask(streaming_script, monkeypatch, tmp_path / "results", *flags)
    assert [outcome.failed for outcome in result.results] == [False, False]
