"""Any model answers questions with options: of transformers' Auto classes, behind an endpoint; frames by flags."""

import json

import pytest

from data.video.frame_plan import VideoLimits
from evaluation.predictors.captioner import Captioner
from evaluation.predictors.checkpoint import CheckpointPredictor
from evaluation.predictors.load import load_answerer
from evaluation.predictors.predictor_arguments import AnswererArguments, model_id
from evaluation.runner.run import FAILED
from evaluation.scoring.results import BenchmarkRun
from evaluation.tasks.item import Choice, ClipPlan, Item, Written
from evaluation.videomme import distributed_evaluate_videomme as script
from tests.asking import ask, make_videos, run_main, write_lines
from tests.judge_server import JudgeServer, Response
from tests.test_real_rows import videomme_row
from utils.errors import UserError


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("AZURE_OPENAI_ENDPOINT", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def benchmark(folder, n: int = 2):
    """A small VideoMME."""
    make_videos(folder / "videos", *(f"name{i}.mp4" for i in range(1, n + 1)))
    return write_lines(folder / "videomme.jsonl", [videomme_row(i, question=f"Which {i}?") for i in range(1, n + 1)])


def test_transformers_own_model_chooses_as_the_projects_code_does(tmp_path, tiny_checkpoint, small):
    """The same Qwen2-VL weights through the Auto classes: the same options' values, of one token and of several."""
    make_videos(tmp_path, "v.mp4")
    clip = ClipPlan(str(tmp_path / "v.mp4"), max_frames=4)
    asks = [
        Choice("Who scores?", "Answer:", ("A", "B", "C")),
        Choice("Is it a goal?", "So:\n", ("Nobody", "Yes"), False),
    ]
    asks += [Written("Who scores?", 6), Written("Who scores?", 6, "Best option:(")]
    items = [Item(str(i), "v", one, "", clip) for i, one in enumerate(asks)]
    arguments = AnswererArguments(model_name_or_path=str(tiny_checkpoint), device="cpu", dtype="float32")
    ours = dict((item.id, answer) for item, answer in load_answerer(arguments).answer(items))
    theirs = dict((item.id, answer) for item, answer in Captioner.load(arguments).answer(items))
    assert isinstance(load_answerer(arguments), CheckpointPredictor)
    for name in ours:
        assert theirs[name].response == ours[name].response
        assert theirs[name].logits == (ours[name].logits and pytest.approx(ours[name].logits, abs=2e-3))


def test_an_endpoint_chooses_by_its_logits_or_by_its_words(tmp_path, monkeypatch):
    path = benchmark(tmp_path)
    replies = [Response("A", logprobs={"A": -2.0, " B": -0.1, "The": -3.0}), Response("It is B, I think.")]
    with JudgeServer(lambda number, prompt: replies[number]) as server:
        flags = ("--benchmark_path", path, "--api_model", "m", "--api_base", server.api_base, "--max_images", 2)
        result = ask(script, monkeypatch, tmp_path / "out", *flags)
        (content,) = {len(request["body"]["messages"][0]["content"]) for request in server.requests}
    assert content == 3  # two pictures and the question
    assert [outcome.value for outcome in result.results] == [1.0, 1.0]
    assert result.results[0].shown["logits"] == {"A": -2.0, "B": -0.1} and "logits" not in result.results[1].shown
    assert result.parts == {"prompt": "seed's", "frames": "ours", "reading": "ours", "denominator": "seed's"}


@pytest.mark.parametrize(
    "response", [Response("<think>A or B", finish="length"), Response(""), Response("It is B", finish="length")]
)
def test_an_endpoints_answer_that_was_cut_off_or_is_empty_is_a_failure(tmp_path, monkeypatch, response):
    path = benchmark(tmp_path, 1)
    with JudgeServer(lambda number, prompt: response) as server:
        flags = ("--benchmark_path", path, "--api_model", "m", "--api_base", server.api_base, "--protocol", "official")
        result = ask(script, monkeypatch, tmp_path / "out", *flags, status=FAILED)
    assert result.results[0].failed and not result.results[0].counted  # as the authors leave it out


def test_an_endpoint_that_thinks_is_heard_after_its_thoughts(tmp_path, monkeypatch):
    path = benchmark(tmp_path, 1)
    with JudgeServer(lambda number, prompt: Response("<think>A? No.</think>B")) as server:
        flags = ("--benchmark_path", path, "--api_model", "m", "--api_base", server.api_base, "--protocol", "official")
        result = ask(script, monkeypatch, tmp_path / "out", *flags, "--max_answer_tokens", 2048)
        assert server.requests[0]["body"]["max_tokens"] == 2048
    assert (result.results[0].answer, result.results[0].value) == ("B", 1.0)


def test_frames_by_flags(tiny_checkpoint):
    own = VideoLimits()
    limits = AnswererArguments(model_name_or_path="m", fps=1.0, max_frames=8, max_pixels=10_000).limits(own)
    assert (limits.fps, limits.max_frames, limits.max_pixels, limits.min_pixels) == (1.0, 8, 10_000, own.min_pixels)
    with pytest.raises(UserError, match="--fps 0"):
        AnswererArguments(model_name_or_path="m", fps=0).limits(own)
    arguments = AnswererArguments(model_name_or_path=str(tiny_checkpoint), device="cpu", max_frames=6)
    predictor = load_answerer(arguments)
    assert predictor.own_parts == {"frames": "ours"} and predictor.settings["video_limits"]["max_frames"] == 6


def test_results_of_other_settings_and_of_fewer_items_replace_nothing(tmp_path, tiny_checkpoint, monkeypatch, small):
    path, out = benchmark(tmp_path, 3), tmp_path / "out"
    flags = ["--benchmark_path", path, "--model_name_or_path", tiny_checkpoint, "--device", "cpu", "--output_dir", out]
    for more in ([], ["--max_frames", 2], ["--protocol", "official"], ["--limit", 1], []):
        assert run_main(script.main, monkeypatch, *flags, *more) == 0
    runs = [BenchmarkRun.read(found) for found in out.glob("*.result.json")]
    assert sorted((run.protocol, len(run.results)) for run in runs) == [
        ("livecc", 1), ("livecc", 3), ("livecc", 3), ("official", 3),
    ]  # fmt: skip
    published = [json.loads(found.read_text()) for found in out.glob("*_no_subtitles.json")]
    assert sorted(len(videos) for videos in published) == [1, 3, 3, 3]


def test_checkpoints_of_two_runs_have_two_names():
    names = [model_id(path) for path in ("runs/a/checkpoint-100", "runs/b/checkpoint-100/", "Qwen/Qwen2-VL-7B", "m")]
    assert names == ["a_checkpoint-100", "b_checkpoint-100", "Qwen2-VL-7B", "m"]
