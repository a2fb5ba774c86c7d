"""Questions in mid-stream: one pass over a video answers as a stream of its own for each, and never sees the future."""

import dataclasses

import pytest

from evaluation.ovobench import distributed_evaluate_ovobench as script
from evaluation.ovobench import task
from evaluation.predictors.live import LivePredictor
from evaluation.predictors.live_memory import LiveMemory
from evaluation.predictors.predictor_arguments import AnswererArguments
from evaluation.streamingbench import task as streaming
from evaluation.tasks.item import ClipPlan, Item
from evaluation.tasks.online import last_frames, mid_stream
from tests.asking import ask, items_of, make_videos, run_main
from tests.test_ovobench import PUBLISHED, make_benchmark
from utils.errors import UserError


def watcher(checkpoint, **memory) -> LivePredictor:
    return LivePredictor.load(
        (AnswererArguments(model_name_or_path=str(checkpoint), device="cpu"), LiveMemory(**memory))
    )


@pytest.mark.parametrize("policy", ["full", "window"])
def test_one_pass_answers_as_a_stream_for_each_question(tmp_path, tiny_checkpoint, small, policy):
    make_videos(tmp_path, "v.mp4", n_frames=200)
    predictor = watcher(tiny_checkpoint, cache_policy=policy, vision_s=2.0)
    items = [
        Item(f"q{i}", "v", mid_stream(f"What now {i}?", 6), "", ClipPlan(str(tmp_path / "v.mp4"), end_s=end_s))
        for i, end_s in enumerate([7.2, 0.6, 3.5, 3.5])
    ]
    together = {item.id: answer.response for item, answer in predictor.answer(items)}
    apart = {item.id: answer.response for one in items for item, answer in predictor.answer([one])}
    assert together == apart and len(together) == 4
    assert len(set(together.values())) > 2  # what is seen decides


def test_a_stream_never_sees_what_comes_after_the_question(tmp_path, tiny_checkpoint, small, monkeypatch):
    make_videos(tmp_path, "v.mp4", n_frames=150)
    predictor, seen = watcher(tiny_checkpoint), []
    real = predictor._asked

    def asked(session, queue, ask):
        seen.append((ask.text, queue.n_came))
        return real(session, queue, ask)

    monkeypatch.setattr(predictor, "_asked", asked)
    clip = ClipPlan(str(tmp_path / "v.mp4"))
    items = [Item(str(t), "v", mid_stream(str(t), 2), "", dataclasses.replace(clip, end_s=t)) for t in (3.0, 1.2)]
    list(predictor.answer(items))
    assert seen == [("1.2", 3), ("3.0", 6)]  # frames at 0, 0.5 and 1.0; and those before 3.0


def test_the_commands_of_streaming_benchmarks_watch(tmp_path, tiny_checkpoint, monkeypatch, small):
    folder = make_benchmark(tmp_path / "ovobench", PUBLISHED[:2])
    flags = ("--benchmark_dir", folder, "--model_name_or_path", tiny_checkpoint, "--online", "True")
    result = ask(script, monkeypatch, tmp_path / "results", *flags)
    assert (result.protocol, result.parts["frames"], result.parts["reading"]) == ("online", "ours", "authors'")
    assert not any(outcome.failed for outcome in result.results) and result.settings["retention"]["cache_policy"]
    with pytest.raises(UserError, match="--online runs through the streaming loop"):
        run_main(script.main, monkeypatch, "--benchmark_dir", folder, "--api_model", "m", "--online", "True")


def test_the_control_shows_the_last_frames_alone(tmp_path):
    folder = make_benchmark(tmp_path)
    plain = items_of(task, task.OVOBenchArguments(str(folder)))
    recent = items_of(task, task.OVOBenchArguments(str(folder), recent_frames=4))
    assert [item.ask for item in recent.values()] == [item.ask for item in plain.values()]
    plan = recent["1468_1"].clip
    assert (plan.start_s, plan.end_s, plan.min_frames, plan.max_frames) == (1.0, 2.5, 4, 4)  # it is asked from 1 s on
    assert last_frames(ClipPlan("v", end_s=60.0), 4) == ClipPlan("v", 57.0, 60.0, min_frames=4, max_frames=4)
    with pytest.raises(UserError, match="--recent_frames 3"):
        task.OVOBenchArguments(str(folder), recent_frames=3)
    with pytest.raises(UserError, match="give one of them"):
        streaming.StreamingBenchArguments("q.json", online=True, recent_frames=4)
