"""ProactiveVideoQA: what a stream says of itself is rated within the times of the true answers."""

import json

import pytest

from evaluation.proactivevideoqa import distributed_generate_proactivevideoqa as script
from evaluation.proactivevideoqa.scores import pauc
from evaluation.proactivevideoqa.task import ProactiveArguments, load_task
from evaluation.runner.run import FAILED
from evaluation.scoring.results import BenchmarkRun
from evaluation.tasks.prompts import PromptTemplates
from tests.asking import run_main
from tests.events import NANO, VIDEOS
from tests.judge_server import JudgeServer, Response
from utils.errors import UserError


def make_benchmark(folder, **more):
    """One question about a shipped match, with two answers that are due."""
    answers = [{"content": "a pass", "reply_timespan": [0, 6]}, {"content": "a shot", "reply_timespan": [6.5, 9]}]
    row = {
        "video": "match_1.mp4", "question_id": "q1", "duration": 20.0, "answer": answers,
        "conversation": [{"role": "user", "content": "Please describe the video.", "time": 0}], **more,
    }  # fmt: skip
    (folder / "EGO").mkdir(parents=True)
    (folder / "EGO/anno.json").write_text(json.dumps([row]))
    (folder / "EGO/videos").symlink_to(VIDEOS)
    return folder


@pytest.mark.parametrize(
    ("points", "omega", "expected"),
    [
        ([], 0.5, 0.25),  # the level before anything is said
        ([(10.0, 2.0)], 0.0, 1.0),  # at once, and all of it
        ([(15.0, 2.0)], 0.0, (0.5 * 5 + 2 * 5) / 20),
        ([(15.0, 2.0)], 0.5, (0.5 * 2.5 + 2 * 7.5) / 20),  # half of the delay counts
        ([(15.0, 2.0)], 1.0, 1.0),
        ([(12.0, 1.0), (14.0, 2.0)], 0.0, (0.5 * 2 + 1 * 2 + 2 * 6) / 20),
        ([(12.0, 0.0)], 0.0, 0.5 * 2 / 20),  # nonsense is worse than silence
    ],
)
def test_pauc_is_the_area_under_what_was_said(points, omega, expected):
    assert pauc(points, (10.0, 20.0), omega) == pytest.approx(expected)


def test_streams_are_rated_and_ratings_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = make_benchmark(tmp_path / "benchmark")
    flags = [
        "--benchmark_dir",
        folder,
        "--model_name_or_path",
        NANO,
        "--device",
        "cpu",
        "--output_dir",
        tmp_path / "out",
    ]
    with JudgeServer(lambda number, prompt: Response("3" if "True answer: a pass" in prompt else "1")) as server:
        more = ["--api_base", server.api_base, "--judge_model", "m"]
        assert run_main(script.main, monkeypatch, *flags, *more) == 0
        n_requests = len(server.requests)
        assert run_main(script.main, monkeypatch, *flags, *more) == 0
        assert len(server.requests) == n_requests > 0
    (path,) = (tmp_path / "out").glob("*.result.json")
    first, second = BenchmarkRun.read(path).results
    assert (first.id, second.id) == ("EGO_q1_1", "EGO_q1_2")
    assert first.value > second.value and first.shown["points"][0][1] == 2.0
    assert first.value == pytest.approx(pauc(first.shown["points"], (0, 6)))
    assert all(6.5 <= second_s <= 9 for second_s, _ in second.shown["points"])
    assert '"omega 1"' in capsys.readouterr().out


def test_a_rating_that_is_none_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = make_benchmark(tmp_path / "benchmark")
    flags = [
        "--benchmark_dir",
        folder,
        "--model_name_or_path",
        NANO,
        "--device",
        "cpu",
        "--output_dir",
        tmp_path / "out",
    ]
    with JudgeServer(lambda number, prompt: Response("3 or 2")) as server:
        status = run_main(script.main, monkeypatch, *flags, "--api_base", server.api_base, "--judge_model", "m")
    assert status == FAILED


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"conversation": []}, "conversation must begin with a turn"),
        ({"answer": [{"content": "x", "reply_timespan": [3, 3]}]}, "ends before it starts"),
        ({"answer": [{"content": "x"}]}, "answer must be a list of content and reply_timespan"),
    ],
)
def test_bad_rows_are_named(tmp_path, more, message):
    folder = make_benchmark(tmp_path, **more)
    with pytest.raises(UserError, match=f"line 1: .*{message}"):
        load_task(ProactiveArguments(str(folder)), PromptTemplates())
