"""Answers are kept: whole lines, found again under the same settings only, by several processes."""

import dataclasses
import json
import subprocess
import sys

import pytest

from evaluation.runner.file_locks import FileLocks
from evaluation.runner.run import FAILED, MAX_ATTEMPTS, Runner, ask_items, exit_status, group_by_file, run_of
from evaluation.runner.store import AnswerStore
from evaluation.tasks.item import Answer, Choice, ClipPlan, Item
from evaluation.tasks.task import Task, is_the_letter
from tests.conftest import REPOSITORY
from tests.evaluation_processes import run_two, shared_items
from utils.errors import UserError

SETTINGS = {"benchmark": "test", "model": "m", "fingerprint": "f"}


def item(i: int, **changes) -> Item:
    ask_items = Choice(f"Question {i}?", "Answer:", ("A", "B"))
    return dataclasses.replace(Item(f"q{i}", f"v{i // 3}", ask_items, "A", ClipPlan(f"v{i // 3}.mp4")), **changes)


def test_an_answer_is_found_again(tmp_path):
    AnswerStore(tmp_path, SETTINGS).add(item(0), Answer("A", {"A": 1.0, "B": 0.0}))
    row = AnswerStore(tmp_path, SETTINGS).row(item(0))
    assert (row["response"], row["logits"], row["error"]) == ("A", {"A": 1.0, "B": 0.0}, None)


@pytest.mark.parametrize(
    "changed",
    [
        item(0, ask=Choice("Another question?", "Answer:", ("A", "B"))),
        item(0, ask=Choice("Question 0?", "Answer:", ("A", "B", "C"))),
        item(0, clip=ClipPlan("v0.mp4", end_s=3.0)),
        item(0, clip=ClipPlan("v0.mp4", max_frames=64)),
        item(0, clip=ClipPlan("other.mp4")),
        item(0, setting="with_subtitles"),
    ],
)
def test_a_changed_item_finds_nothing(tmp_path, changed):
    AnswerStore(tmp_path, SETTINGS).add(item(0), Answer("A"))
    assert AnswerStore(tmp_path, SETTINGS).row(changed) is None


@pytest.mark.parametrize("name", SETTINGS)
def test_a_changed_setting_finds_nothing(tmp_path, name):
    AnswerStore(tmp_path, SETTINGS).add(item(0), Answer("A"))
    assert AnswerStore(tmp_path, {**SETTINGS, name: "changed"}).row(item(0)) is None


def test_where_a_video_lies_does_not_matter(tmp_path):
    AnswerStore(tmp_path, SETTINGS).add(item(0), Answer("A"))
    assert AnswerStore(tmp_path, SETTINGS).is_done(item(0, clip=ClipPlan("/elsewhere/v0.mp4")))


def test_a_video_that_changed_is_asked_about_again(tmp_path):
    video = tmp_path / "v.mp4"
    video.write_bytes(b"one")
    asked = item(0, clip=ClipPlan(str(video)))
    AnswerStore(tmp_path, SETTINGS).add(asked, Answer("A"))
    video.write_bytes(b"another")
    assert AnswerStore(tmp_path, SETTINGS).row(asked) is None


def test_a_video_of_the_same_size_with_other_bytes_is_asked_about_again(tmp_path):
    video, folder = tmp_path / "v.mp4", tmp_path / "frames"
    folder.mkdir()
    for path, (one, other) in ((video, (b"one", b"two")), (folder / "1.jpg", (b"short", b"longer"))):
        path.write_bytes(one)
        asked = item(0, clip=ClipPlan(str(video if path == video else folder)))
        AnswerStore(tmp_path, SETTINGS).add(asked, Answer("A"))
        path.write_bytes(other)
        assert AnswerStore(tmp_path, SETTINGS).row(asked) is None


def test_files_under_one_video_id_are_groups_of_their_own():
    items = [item(0), item(1, clip=ClipPlan("other.mp4")), item(2), item(3, clip=None, video_id="v9")]
    assert {path: [one.id for one in same] for path, same in group_by_file(items).items()} == {
        "v0.mp4": ["q0", "q2"], "other.mp4": ["q1"], "v9": ["q3"],
    }  # fmt: skip


def test_a_line_cut_short_is_left_out(tmp_path):
    store = AnswerStore(tmp_path, SETTINGS)
    for i in range(3):
        store.add(item(i), Answer("A"))
    (path,) = tmp_path.glob("answers-*.jsonl")
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        n_whole = whole[:cut].count(b"\n")
        again = AnswerStore(tmp_path, SETTINGS)
        assert [again.is_done(item(i)) for i in range(3)] == [i < n_whole for i in range(3)]


def test_a_line_that_is_no_answer_is_said(tmp_path):
    (tmp_path / "answers-x-1-0.jsonl").write_text("[1]\n")
    with pytest.raises(UserError, match=r"answers-x-1-0.jsonl, line 1: not a row"):
        AnswerStore(tmp_path, SETTINGS)


def test_two_stores_see_each_other(tmp_path):
    first, second = AnswerStore(tmp_path, SETTINGS), AnswerStore(tmp_path, SETTINGS)
    first.add(item(0), Answer("A"))
    second.add(item(1), Answer("B"))
    first.refresh()
    second.refresh()
    assert all(store.is_done(item(i)) for store in (first, second) for i in (0, 1))
    assert len(list(tmp_path.glob("answers-*.jsonl"))) == 2


def test_a_row_that_is_being_written_is_read_once_it_is_whole(tmp_path):
    writer, reader = AnswerStore(tmp_path, SETTINGS), AnswerStore(tmp_path, SETTINGS)
    for i in range(2):
        writer.add(item(i), Answer("é"))
    (path,) = tmp_path.glob("answers-*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    reader.refresh()
    assert [reader.is_done(item(i)) for i in range(2)] == [True, False]
    path.write_bytes(whole)
    reader.refresh()
    assert [reader.is_done(item(i)) for i in range(2)] == [True, True]


def test_an_answer_stands_before_an_error(tmp_path):
    store = AnswerStore(tmp_path, SETTINGS)
    store.add(item(0), Answer("A"))
    AnswerStore(tmp_path, SETTINGS).add_error(item(0), "late")
    assert AnswerStore(tmp_path, SETTINGS).is_done(item(0))


def test_rows_before_a_time_do_not_count(tmp_path):
    store = AnswerStore(tmp_path, SETTINGS)
    store.add(item(0), Answer("A"))
    written = store.row(item(0))["written"]
    assert AnswerStore(tmp_path, SETTINGS, since_s=written).is_done(item(0))
    assert not AnswerStore(tmp_path, SETTINGS, since_s=written + 0.01).is_done(item(0))


class Predictor:
    """Answers "A", but for items that fail as many times as `failures` says; counts how often each is asked."""

    name, settings = "m", {}

    def __init__(self, failures: dict[str, int] | None = None):
        self.failures, self.asked = failures or {}, []

    def answer(self, items):
        for asked in items:
            self.asked.append(asked.id)
            left = self.failures.get(asked.id, 0)
            self.failures[asked.id] = left - 1
            if asked.id == "q7" and left > 0:
                raise RuntimeError("out of memory")
            yield asked, (OSError("broken") if left > 0 else Answer("A"))


def run_all(folder, items, predictor):
    store = AnswerStore(folder, SETTINGS)
    Runner(items, predictor, store, FileLocks(folder / "claims")).run()
    task = Task("videomme", "livecc", items, is_the_letter)
    return run_of(task, predictor, store, "")


def test_failures_are_rows_tried_again_and_counted(tmp_path, capsys):
    items = [item(i) for i in range(9)]
    predictor = Predictor({"q1": 1, "q4": 9})
    result = run_all(tmp_path, items, predictor)
    assert predictor.asked.count("q1") == 2 and predictor.asked.count("q4") == MAX_ATTEMPTS
    assert [outcome.failed for outcome in result.results] == [i == 4 for i in range(9)]
    assert result.results[4].value == 0 and "broken" in result.results[4].shown["error"]
    assert exit_status([result]) == FAILED and "1 items" in capsys.readouterr().err
    again = Predictor()
    assert not any(outcome.failed for outcome in run_all(tmp_path, items, again).results) and again.asked == ["q4"]


def test_an_error_of_a_whole_video_ends_neither_the_run_nor_its_neighbours(tmp_path):
    items = [item(i) for i in range(9)]
    result = run_all(tmp_path, items, Predictor({"q7": 9}))
    assert [outcome.id for outcome in result.results if outcome.failed] == ["q7", "q8"]


def test_a_missing_video_is_a_row(tmp_path):
    items = [item(0, clip=None, problem="no video"), item(1)]
    predictor = Predictor()
    result = run_all(tmp_path, items, predictor)
    assert [outcome.failed for outcome in result.results] == [True, False] and predictor.asked == ["q1"]


def test_answers_that_are_there_are_not_asked_for(tmp_path):
    items = [item(i) for i in range(6)]
    run_all(tmp_path, items[:4], Predictor())
    predictor = Predictor()
    run_all(tmp_path, items, predictor)
    assert predictor.asked == ["q4", "q5"]


@pytest.mark.parametrize(
    ("of_task", "of_model", "resume"),
    [
        ({"benchmark": "mvbench"}, {}, True),
        ({"protocol": "official"}, {}, True),
        ({"templates": {"multiple_choice": "another hash"}}, {}, True),
        ({}, {"name": "another"}, True),
        ({}, {"settings": {"fingerprint": "another"}}, True),
        ({}, {}, False),
    ],
)
def test_what_decides_answers_is_asked_anew(tmp_path, of_task, of_model, resume):
    task = Task("videomme", "livecc", [item(0), item(4)], is_the_letter, {"multiple_choice": "a hash"})
    ask_items(task, Predictor(), tmp_path)
    same, other = Predictor(), Predictor()
    ask_items(task, same, tmp_path)
    for name, value in of_model.items():
        setattr(other, name, value)
    ask_items(dataclasses.replace(task, **of_task), other, tmp_path, resume)
    assert (same.asked, other.asked) == ([], ["q0", "q4"])


def test_two_processes_share_the_videos(tmp_path):
    """Both have a video at one time; each question is asked once, and each process ends with all answers."""
    found = run_two(tmp_path)
    asked = [name for names, _ in found.values() for name in names]
    assert all(names for names, _ in found.values())
    assert sorted(asked) == [one.id for one in shared_items()]
    by = {name: f"{name} by {rank}" for rank, (names, _) in found.items() for name in names}
    assert [responses for _, responses in found.values()] == [list(dict(sorted(by.items())).values())] * 2
    rows = [path.read_text().splitlines() for path in tmp_path.glob("answers-*.jsonl")]
    assert sorted(map(len, rows)) == sorted(len(names) for names, _ in found.values())


def test_a_claim_ends_with_its_process(tmp_path):
    taking = "import sys; from evaluation.runner.file_locks import FileLocks"
    holds = f"{taking}; print(FileLocks(sys.argv[1]).acquire('v'), flush=True); input()"
    words = [sys.executable, "-c", holds, str(tmp_path / "claims")]
    with subprocess.Popen(words, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "True\n"
        locks = FileLocks(tmp_path / "claims")
        assert not locks.acquire("v") and locks.acquire("another")
        holder.kill()
        holder.wait()
        assert locks.acquire("v")


def test_two_items_of_one_name_are_refused(tmp_path):
    task = Task("videomme", "livecc", [item(0), item(1), item(0)], is_the_letter)
    with pytest.raises(UserError, match=r"1 of its items have a name that another has too, 'q0'"):
        ask_items(task, Predictor(), tmp_path)


def test_settings_are_readable(tmp_path):
    store = AnswerStore(tmp_path, SETTINGS)
    (path,) = tmp_path.glob("settings-*.json")
    assert json.loads(path.read_text()) == SETTINGS and store.settings_key in path.name
