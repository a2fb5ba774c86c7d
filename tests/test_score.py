"""Scoring stored results: published files come out as published; what is said, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.score import main
from evaluation.scoring.benchmarks import benchmark_names, scores_of
from evaluation.scoring.preference import summary as preference_summary
from evaluation.scoring.results import BenchmarkRun, ItemResult
from evaluation.scoring.scored_runs import ScoredRun, pairs_of
from evaluation.scoring.stats import sign_flip_test, sign_test
from evaluation.videomme.scores import export, nested, text_report
from utils.errors import UserError

SETTINGS = ("no_subtitles", "with_subtitles")
MODELS = ("LiveCC-7B-Base", "LiveCC-7B-Instruct")
VIDEOMME = {"no_subtitles": 1731, "with_subtitles": 1899}  # right answers of 2,700
WINS = {"LiveCC-7B-Base": (1101, 506), "LiveCC-7B-Instruct": (1112, 496)}  # of 1,702 when shown first, second
DISAGREE = {"LiveCC-7B-Base": 635, "LiveCC-7B-Instruct": 640}


@pytest.fixture(scope="session")
def full(golden: Path) -> Path:
    """The full published files, which lie beside the golden ones."""
    folder = golden.parent / "published"
    if not folder.is_dir():
        pytest.fail(f"{folder}: no such folder; the full golden files come with one beside them")
    return folder


@pytest.fixture
def cut(repository: Path) -> Path:
    """The published files cut to a few videos and events."""
    return repository / "tests/golden/published"


@pytest.fixture(params=["cut", "full"])
def published(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def records(capsys: pytest.CaptureFixture, *words: object, status: int = 0) -> list[dict]:
    """What score.py says to a program."""
    assert main([str(word) for word in words]) == status
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("setting", SETTINGS)
def test_published_videomme_answers_give_the_published_report(published: Path, setting: str):
    path = published / f"videomme/results/LiveCC-7B-Instruct_{setting}.json"
    result = scores_of("videomme").read(path)
    assert (result.model, result.setting) == ("LiveCC-7B-Instruct", setting)
    assert text_report(result.results).splitlines() == path.with_suffix(".txt").read_text().splitlines()
    assert nested(result.results) == json.loads(path.read_text())


def test_a_videomme_result_is_written_as_published(cut: Path, tmp_path: Path):
    folder = cut / "videomme/results"
    for setting in SETTINGS:
        written = export(scores_of("videomme").read(folder / f"LiveCC-7B-Instruct_{setting}.json"), tmp_path)
        assert [path.read_bytes() for path in written] == [(folder / path.name).read_bytes() for path in written]


def test_letters_are_exported_as_the_options_they_stand_for(tmp_path: Path):
    shown = {"question": "Who?", "options": ["A. Red.", "B. Blue."]}
    tags = {"duration": "short", "domain": "Knowledge", "sub_category": "Law", "task_type": "OCR Problems"}
    outcomes = [
        ItemResult("1-1", "1", 1.0, False, tags, "B", "B", shown),
        ItemResult("1-2", "1", 0.0, True, tags, None, "A", {**shown, "error": "broken"}),
    ]
    path, report = export(BenchmarkRun("videomme", "livecc", "m", "no_subtitles", outcomes), tmp_path)
    (video,) = json.loads(path.read_text())
    assert [question["response"] for question in video["questions"]] == ["B. Blue.", ""]
    again = scores_of("videomme").read(path)
    assert [(o.value, o.failed) for o in again.results] == [(1.0, False), (0.0, True)]
    assert "Law:  50.0%" in report.read_text()


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_full_videomme_score(full: Path, setting: str, capsys):
    path = full / f"videomme/results/LiveCC-7B-Instruct_{setting}.json"
    result, first, *_ = records(capsys, "videomme", path)
    assert (result["n"], result["n_failed"]) == (2700, 0)
    assert result["score"] == pytest.approx(VIDEOMME[setting] / 2700)
    assert result["interval"][1] - result["interval"][0] == pytest.approx(0.037, abs=0.002)
    assert first["floors"] == {"always B": pytest.approx(735 / 2700), "chance": pytest.approx(0.25)}


@pytest.mark.parametrize("model", MODELS)
def test_the_full_win_rates(full: Path, model: str, capsys):
    said = records(capsys, "livesports3kcc", full / f"livesports3kcc/judges/GPT-4o_{model}.jsonl")
    rows = {row["name"]: row["value"] for row in said if row["kind"] == "score"}
    first, second = WINS[model]
    assert said[0]["score"] == rows["win rate"] == pytest.approx((first + second) / 3404)
    assert rows["model wins when first"] == pytest.approx(first / 1702)
    assert rows["model wins when second"] == pytest.approx(second / 1702)
    assert rows["both orders agree"] == pytest.approx(1 - DISAGREE[model] / 1702)
    assert rows["the one shown first wins"] == pytest.approx((first + 1702 - second) / 3404)
    assert rows["shortest quarter"] > rows["longest quarter"] + 0.05


def test_two_results_are_compared(cut: Path, capsys):
    *_, last = records(capsys, "videomme", cut / "videomme")
    assert last["kind"] == "comparison" and last["second"] == "LiveCC-7B-Instruct with_subtitles livecc"
    assert (last["n"], last["wins"] + last["losses"] + last["ties"]) == (36, 36)
    assert last["unlike"] == ["setting"]
    assert [row["kind"] for row in records(capsys, "videomme", cut / "videomme")].count("result") == 2


def test_a_person_reads_tables(cut: Path, capsys):
    assert main(["livesports3kcc", str(cut), "--json", "False"]) == 0
    shown = capsys.readouterr().out
    assert "livesports3kcc  LiveCC-7B-Base" in shown and "protocol livecc:\n  - " in shown
    assert "the one shown first wins" in shown and "longest quarter" in shown
    assert "LiveCC-7B-Instruct livecc against LiveCC-7B-Base livecc: +" in shown


def test_stored_results_win_over_published_files_beside_them(cut: Path, tmp_path: Path, capsys):
    folder = Path(shutil.copytree(cut / "videomme/results", tmp_path / "results"))
    result = scores_of("videomme").read(folder / "LiveCC-7B-Instruct_no_subtitles.json")
    path = result.write(folder)
    (found, *rows) = records(capsys, "videomme", tmp_path)
    assert found["setting"] == "no_subtitles" and not any(row["kind"] == "comparison" for row in rows)
    assert records(capsys, "videomme", path)[0] == found


def test_failed_items_are_said_and_change_the_status(tmp_path: Path, capsys):
    outcomes = [
        ItemResult("1", "a", 1.0, truth="A"),
        ItemResult("2", "b", 0.0, True, truth="A", shown={"error": "broken"}),
    ]
    path = BenchmarkRun("mvbench", "official", "m", "", outcomes).write(tmp_path)
    assert main(["mvbench", str(path), "--json", "False"]) == 3
    captured = capsys.readouterr()
    assert "1 items have no answer" in captured.err and "1 of 2 items have no answer" in captured.out


def test_names_cannot_rewrite_the_terminal(tmp_path: Path, capsys):
    kept = {"format": "livecc-result-1", "benchmark": "mvbench", "protocol": "livecc", "model": "m\x1b[31m"}
    tags = {"task_type": "\x1b[2Jevil\ud800"}
    rows = [{"id": str(i), "cluster": str(i), "value": 1.0, "tags": tags, "truth": "\x1b]0;"} for i in range(2)]
    path = tmp_path / "x.result.json"
    path.write_text(json.dumps({**kept, "setting": "", "outcomes": rows}))
    for as_json in ("False", "True"):
        assert main(["mvbench", str(path), "--json", as_json]) == 0
        assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("benchmark", "text", "message"),
    [
        ("videomme", "{}", "no result file"),
        ("videomme", json.dumps({"format": "livecc-result-1", "benchmark": "videomme"}), "no result file"),
        ("mvbenc", "", "did you mean mvbench"),
    ],
)
def test_bad_results_are_named(tmp_path: Path, benchmark: str, text: str, message: str):
    path = tmp_path / "x.result.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        main([benchmark, str(path)])


def test_a_result_of_another_benchmark_is_refused(tmp_path: Path):
    path = BenchmarkRun("mvbench", "livecc", "m", "", [ItemResult("1", "1", 1.0)]).write(tmp_path)
    with pytest.raises(UserError, match="a result of mvbench, not of videomme"):
        main(["videomme", str(path)])
    path = BenchmarkRun("videomme", "livecc", "m", "", [ItemResult("1", "1", 1.0)] * 2).write(tmp_path)
    with pytest.raises(UserError, match="2 outcomes are called '1'"):
        main(["videomme", str(path)])
    path = BenchmarkRun("videomme", "livecc", "m", "", [ItemResult("1", "1", 2.0)]).write(tmp_path)
    with pytest.raises(UserError, match="outcome '1': value must be 0 to 1"):
        main(["videomme", str(path)])
    path = BenchmarkRun("videomme", "livecc", "m", "", []).write(tmp_path)
    with pytest.raises(UserError, match="no outcomes"):
        main(["videomme", str(path)])


def test_missing_and_empty_places_are_named(tmp_path: Path):
    with pytest.raises(UserError, match="no such file or folder"):
        main(["videomme", str(tmp_path / "nothing")])
    with pytest.raises(UserError, match="run an evaluation first"):
        main(["videomme", str(tmp_path)])
    with pytest.raises(UserError, match="no published result format"):
        (tmp_path / "streamingbench.json").write_text("[]")
        main(["streamingbench", str(tmp_path / "streamingbench.json")])


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("GPT-4o_me.jsonl", ['{"video_event_id": "a_1"}'], ":1: has no ab_winner, ba_winner"),
        ("GPT-4o_me.jsonl", ['{"video_event_id": "a_1", "ab_winner": "x", "ba_winner": "y"}'], "rename it"),
        ("GPT-4o_me.jsonl", ['{"video_event_id": "a_1", "ab_winner": "me", "ba_winner": "me"}', "{"], ":2: no JSON"),
    ],
)
def test_bad_judgements_are_named(tmp_path: Path, name: str, lines: list[str], message: str):
    (tmp_path / name).write_text("\n".join(lines))
    with pytest.raises(UserError, match=message):
        scores_of("livesports3kcc").read(tmp_path / name)


def test_a_model_that_always_wins_is_still_known_by_its_name(tmp_path: Path):
    path = tmp_path / "GPT-4o_my_model.jsonl"
    path.write_text('{"video_event_id": "a_b_1", "ab_winner": "my_model", "ba_winner": "my_model"}\n')
    result = scores_of("livesports3kcc").read(path)
    assert (result.model, result.settings["baseline"]) == ("my_model", "GPT-4o")
    assert [(o.cluster, o.value) for o in result.results] == [("a_b", 1.0)]


def test_ties_and_refusals_are_no_wins_and_stand_apart():
    ends = [("model", "model"), ("tie", "baseline"), ("refusal", "tie"), ("model", "baseline")]
    outcomes = [
        ItemResult(str(i), str(i), (ab, ba).count("model") / 2, shown={"ab": ab, "ba": ba})
        for i, (ab, ba) in enumerate(ends)
    ]
    head, judge = preference_summary(outcomes)
    assert head.rows[0].value == pytest.approx(3 / 8)
    rows = {row.name: (row.value, row.n) for row in judge.rows}
    assert rows["both orders agree"] == (pytest.approx(1 / 2), 2)
    assert rows["the one shown first wins"] == (pytest.approx((1 / 2 + 1 + 1) / 3), 3)
    assert rows["no winner: tie"][0] == pytest.approx(2 / 8)
    assert rows["no winner: refusal"][0] == pytest.approx(1 / 8)


def test_ovobench_is_the_mean_of_its_groups():
    tasks = {"EPM": "backward", "OCR": "realtime", "ACR": "realtime", "SSR": "forward"}
    right = {"EPM": [1, 0, 0], "OCR": [1], "ACR": [1, 0, 0], "SSR": [1, 1, 0, 0]}
    outcomes = [
        ItemResult(f"{task}{i}", f"{task}{i}", value, tags={"task": task, "group": tasks[task]}, truth="Yes")
        for task, values in right.items()
        for i, value in enumerate(values)
    ]
    head, groups, by_task = scores_of("ovobench").summary(outcomes)
    # 0.5; the mean over tasks would be 0.54, over questions 0.45.
    assert head.rows[0].value == pytest.approx((1 / 3 + (1 + 1 / 3) / 2 + 1 / 2) / 3)
    assert [row.name for row in groups.rows] == ["backward", "realtime", "forward"]
    assert [row.name for row in by_task.rows] == ["EPM", "OCR", "ACR", "SSR"]


def test_mvbench_is_the_mean_of_its_tasks():
    right = {"Action Sequence": [1, 1, 1, 0], "Moving Count": [0], "Episodic Reasoning": [1, 0]}
    outcomes = [
        ItemResult(f"{task}{i}", f"{task}{i}", value, tags={"task_type": task}, truth="AB"[i % 2])
        for task, values in right.items()
        for i, value in enumerate(values)
    ]
    head, by_task = scores_of("mvbench").summary(outcomes)
    assert head.rows[0].value == pytest.approx((3 / 4 + 0 + 1 / 2) / 3)
    assert {row.name: (row.value, row.n) for row in by_task.rows} == {
        "Action Sequence": (0.75, 4), "Moving Count": (0.0, 1), "Episodic Reasoning": (0.5, 2),
    }  # fmt: skip
    # And so are two runs' differences: one more right of four, in one of three tasks.
    better = [replace(one, value=1.0) if one.id == "Action Sequence3" else one for one in outcomes]
    runs = [
        ScoredRun(BenchmarkRun("mvbench", "livecc", name, "", said)) for name, said in (("a", outcomes), ("b", better))
    ]
    (pair,) = pairs_of(runs)
    assert pair.comparison.difference.value == pytest.approx(1 / 4 / 3)


def test_livesports_questions_have_an_ocr_subset():
    outcomes = [ItemResult(str(i), str(i), i % 2, tags={"q_type": "Who", "ocr": str(int(i < 2))}) for i in range(6)]
    *_, reading = scores_of("livesports3kqa").summary(outcomes)
    assert [(row.name, row.n) for row in reading.rows] == [("OCR", 2), ("no OCR", 4)]


@pytest.mark.parametrize("benchmark", benchmark_names())
def test_every_benchmark_keeps_the_contract(benchmark: str, tmp_path: Path):
    module = scores_of(benchmark)
    assert all(module.PROTOCOLS.values())
    table, *_ = module.summary([ItemResult("1", "1", 1.0), ItemResult("2", "2", 0.0)])
    assert table.rows[0].value == 0.5
    (tmp_path / "x").write_text("[1]")
    with pytest.raises(UserError):
        module.read(tmp_path / "x")


def write_ovo_set(folder: Path, answers: dict[str, str | list | None]) -> Path:
    """A set of OVO-Bench's authors: two files of one model, a question of each kind."""
    folder.mkdir(parents=True)
    row = {"video": "a/v.mp4", "question": "What?", "ground_truth": "B"}
    first = {"backward": [{**row, "id": 7, "task": "EPM", "response": answers["EPM"]}], "realtime": [], "forward": []}
    info = [{"realtime": 3, "count": 12, "response": answers["REC"]}, {"realtime": 5, "count": 2, "response": "1 or 2"}]
    asked = {"id": 9, "task": "SSR", "video": "b.mp4", "test_info": [{"type": 1, "response": "Y"}]}
    second = {
        "backward": [], "realtime": [{**row, "id": 8, "task": "OCR", "response": answers["OCR"]}],
        "forward": [{"id": 10, "task": "REC", "video": "c.mp4", "test_info": info}, asked],
    }  # fmt: skip
    for name, kept in (("m_EPM_offline.json", first), ("m_OCR_SSR_offline_1.json", second)):
        (folder / name).write_text(json.dumps(kept))
    return folder


def test_the_authors_result_sets_of_ovobench_are_a_baseline(tmp_path: Path, capsys):
    write_ovo_set(tmp_path / "sets/one", {"EPM": ["B"], "OCR": "The answer is B.", "REC": "12 times"})
    write_ovo_set(tmp_path / "sets/two", {"EPM": "A", "OCR": None, "REC": "12"})
    said = records(capsys, "ovobench", tmp_path / "sets", status=3)
    first, second = (row for row in said if row["kind"] == "result")
    assert (first["model"], first["n"], first["n_failed"], second["n_failed"]) == ("one", 5, 0, 1)
    scores = {row["name"]: row["value"] for row in said if row["kind"] == "score" and row["model"] == "one"}
    assert scores["mean of groups"] == pytest.approx((1 + 1 + (0.5 + 1) / 2) / 3)
    assert scores["(backward + realtime) / 2"] == 1.0
    assert first["parts"] == {"reading": "authors'", "denominator": "authors'"}
    pair = said[-1]
    assert (pair["n"], pair["wins"], pair["losses"], pair["ties"]) == (5, 0, 2, 3)


def test_logs_and_tables_of_other_harnesses_are_read(tmp_path: Path, capsys):
    answers = {"001-1": "C", "001-2": "The best answer is B", "001-3": "[LMMS_EVAL_REQUEST_FAILED after 5 retries] C"}
    log = tmp_path / "m/20260101_samples_videomme.jsonl"
    log.parent.mkdir()
    log.write_text(
        "".join(
            json.dumps(
                {
                    "doc_id": i, "filtered_resps": [said], "target": "C",
                    "videomme_perception_score": {
                        "question_id": name, "duration": "short", "category": "Knowledge", "sub_category": "Law",
                        "task_category": "OCR Problems", "answer": "C", "score": 1.0,
                    },
                }
            )
            + "\n"
            for i, (name, said) in enumerate(answers.items())
        )
    )  # fmt: skip
    table = tmp_path / "Qwen2.5-VL_Video-MME_64frame.tsv"
    lines = [
        f"{i}\tv\tshort\tKnowledge\t['A. Red.', 'C. Green.']\tWhich {i}?\tC\t{said}"
        for i, said in enumerate(answers.values())
    ]
    columns = "index\tvideo\tduration\tdomain\tcandidates\tquestion\tanswer\tprediction"
    table.write_text("\n".join([columns, *lines]))
    said = records(capsys, log, table, status=3)
    assert [row["score"] for row in said if row["kind"] == "result"] == [pytest.approx(1 / 3)] * 2
    assert {(row["model"], row["protocol"]) for row in said if row["kind"] == "result"} == {
        ("m", "lmms-eval"), ("Qwen2.5-VL", "vlmevalkit"),
    }  # fmt: skip
    assert (said[-1]["kind"], said[-1]["n"], said[-1]["ties"]) == ("comparison", 3, 3)


def test_the_authors_template_is_scored_as_their_script_scores_it(tmp_path: Path, capsys):
    """Forms that their script reads otherwise than by the first character; those without a letter leave the count."""
    forms = {"(C)": 1, "Answer: C": 0, "The best answer is C": 1, "Green.": None, "": None, "Based on it, C": 0}
    questions = [
        {"question_id": f"001-{i}", "task_type": "OCR Problems", "question": "?", "options": ["C. Green."],
         "answer": "C", "response": form} for i, form in enumerate(forms)
    ]  # fmt: skip
    video = {"video_id": "001", "duration_category": "short", "video_category": "Knowledge", "video_subcategory": "Law"}
    path = tmp_path / "m_no_subtitles.json"
    path.write_text(json.dumps([{**video, "missing": False, "questions": questions}]))
    said = records(capsys, "videomme", path, status=3)
    assert (said[0]["score"], said[0]["n"], said[0]["n_left_out"]) == (2 / 4, 6, 2)
    assert {row["name"]: row["value"] for row in said[1:3]} == {"accuracy": 0.5, "left-out items as wrong": 2 / 6}


def test_the_same_items_under_other_names_are_paired_by_their_questions():
    one = [ItemResult(f"a{i}", "v", 1.0, shown={"question": f"Q{i}?", "options": ["A", "B"]}) for i in range(3)]
    other = [replace(result, id=f"b{i}", value=0.0) for i, result in enumerate(one)]
    runs = [ScoredRun(BenchmarkRun("streamingbench", "livecc", n, "", said)) for n, said in (("a", one), ("b", other))]
    (pair,) = pairs_of(runs)
    assert (pair.comparison.n, pair.comparison.losses) == (3, 3)


def test_the_sign_flip_test_moves_videos_as_wholes():
    clusters = [f"v{i // 5}" for i in range(30)]
    # Six videos that all got better, five questions each: 2 of 2^6 flips reach that, whatever a sign test of 30 says.
    assert sign_flip_test([1 / 30] * 30, clusters) == pytest.approx(2 / 64)
    assert sign_flip_test([0.0] * 30, clusters) == 1.0
    assert sign_flip_test([1.0, -1.0], ["a", "b"]) == 1.0
    many = [f"v{i}" for i in range(400)]
    moved = [1.0 if i % 5 < 3 else -1.0 for i in range(400)]  # 240 against 160: p is 7e-5 by the sign test
    assert sign_flip_test(moved, many) == pytest.approx(sign_test(240, 160), abs=2e-4)
