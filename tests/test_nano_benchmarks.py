"""The nano world in the benchmarks' formats: their own commands run on it from end to end, on a model that can see."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data.nano.corpus import CorpusArguments, make_corpus
from evaluation.judge.judge import CommentaryPair, read_verdict
from evaluation.nano.benchmarks import BenchmarkArguments, write_benchmarks
from evaluation.nano.rule_judge import RuleJudge
from evaluation.scoring.results import BenchmarkRun
from tests.conftest import REPOSITORY

N_CLIPS = 6
NANO = REPOSITORY / "models" / "nano_checkpoint"
TEMPLATES = REPOSITORY / "evaluation" / "nano" / "templates"
CC = "evaluation.livesports3kcc"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    return make_corpus(CorpusArguments(str(folder), n_clips=N_CLIPS, seed=7, split="test", num_workers=1))


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory, corpus) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    write_benchmarks(BenchmarkArguments(str(corpus), str(folder)))
    return folder


@pytest.fixture
def call(monkeypatch) -> Callable[..., int | None]:
    """Runs a command's main in this process."""

    def run(module: str, *flags: object) -> int | None:
        monkeypatch.setattr(sys, "argv", [module, *map(str, flags)])
        return importlib.import_module(module).main()

    return run


@pytest.fixture
def ask(call, tmp_path) -> Callable[..., list[BenchmarkRun]]:
    """Asks the nano model a benchmark; its results, with every item answered."""

    def run(module: str, *flags: object) -> list[BenchmarkRun]:
        model = ["--model_name_or_path", NANO, "--output_dir", tmp_path, "--device", "cpu"]
        assert not call(module, *model, *flags)
        results = [BenchmarkRun.read(path) for path in sorted(tmp_path.glob("*.result.json"))]
        assert results and not any(outcome.failed for result in results for outcome in result.results)
        return results

    return run


def test_commentary_is_generated_and_judged(call, benchmarks, tmp_path):
    events = ["--annotations", benchmarks / "livesports3kcc.jsonl"]
    model = ["--model_name_or_path", NANO, "--device", "cpu", "--template_dir", TEMPLATES, "--repetition_penalty", 1.0]
    assert not call(f"{CC}.distributed_generate_livecc", *model, *events, "--output_dir", tmp_path)
    said = tmp_path / "nano_checkpoint.jsonl"
    assert len(said.read_text().splitlines()) == N_CLIPS
    judged = ["--prediction_jsonl", said, "--baseline_jsonl", benchmarks / "baseline.jsonl", "--baseline_id", "another"]
    judge = ["--judge", "nano", "--model_id", "nano_checkpoint", "--output_dir", tmp_path / "judges"]
    assert not call(f"{CC}.llm_judge", *judge, *judged, *events)
    (result,) = [BenchmarkRun.read(path) for path in (tmp_path / "judges").glob("*.result.json")]
    rate = sum(outcome.value for outcome in result.results) / N_CLIPS
    # A model that sees its match beats the commentator of another one; the human's own words would always.
    assert len(result.results) == N_CLIPS and rate >= 5 / N_CLIPS
    assert {outcome.tags["orders"] for outcome in result.results} <= {"agree", "undecided"}


def test_questions_by_kind(ask, benchmarks):
    module = "evaluation.livesports3kqa.distributed_evaluate_livesports3kqa"
    (result,) = ask(module, "--benchmark_path", benchmarks / "livesports3kqa.jsonl")
    assert {outcome.tags["q_type"] for outcome in result.results} <= {"score", "ball", "place", "teams"}
    assert len(result.results) == 2 * N_CLIPS


def test_questions_with_and_without_subtitles(ask, benchmarks):
    module = "evaluation.videomme.distributed_evaluate_videomme"
    results = ask(module, "--benchmark_path", benchmarks / "videomme.jsonl", "--both_settings")
    assert [result.setting for result in results] == ["no_subtitles", "with_subtitles"]
    assert all(len(result.results) == 3 * N_CLIPS for result in results)


@pytest.mark.parametrize("protocol", ["livecc", "official"])
def test_questions_at_moments(ask, call, benchmarks, tmp_path, protocol):
    folder = benchmarks / "ovobench"
    published, formatted = folder / "ovo_bench_new.json", folder / "ovo-bench-formatted.jsonl"
    call("evaluation.ovobench.transfer_annotation_format", "--input", published, "--output", formatted)
    module = "evaluation.ovobench.distributed_evaluate_ovobench"
    (result,) = ask(module, "--benchmark_dir", folder, "--protocol", protocol)
    name = {"livecc": "livecc", "official": "official-but-prompt"}[protocol]
    assert result.protocol == name and len(result.results) == (2 + 3) * N_CLIPS
    assert {outcome.tags["group"] for outcome in result.results} == {"backward", "realtime", "forward"}


@pytest.mark.parametrize("protocol", ["livecc", "official"])
def test_questions_about_a_part(ask, benchmarks, protocol):
    module = "evaluation.mvbench.distributed_evaluate_mvbench"
    files = ["--benchmark_path", benchmarks / "mvbench.jsonl", "--video_dir", benchmarks / "videos"]
    (result,) = ask(module, *files, "--protocol", protocol)
    assert {outcome.tags["task_type"] for outcome in result.results} == {"Action Sequence", "Object Existence"}


def test_questions_in_mid_stream(ask, corpus):
    (result,) = ask("evaluation.nano.ask", "--annotations", corpus / "commentary.jsonl")
    assert len(result.results) == 3 * N_CLIPS
    # No answer is right for more than a few of these questions, so a model that does not see gets near none.
    assert sum(outcome.value for outcome in result.results) >= 0.4 * len(result.results)


def test_options_hold_the_right_answer_once(benchmarks):
    for line in (benchmarks / "livesports3kqa.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert len(set(row["options"])) == 4 and [option[0] for option in row["options"]] == ["A", "B", "C", "D"]
        assert row["answer"] in "ABCD"


@pytest.mark.parametrize(
    ("first", "second", "human", "verdict"),
    [
        ("Red pass. Blue shoot.", "Blue pass.", "Red pass. Blue shoot.", "A"),
        ("Blue pass.", "Red pass. Blue shoot...", "Red pass. Blue shoot.", "B"),
        ("Red pass.", "Red pass.", "Red pass. Blue shoot.", "tie"),
        ("", "", "Red pass.", "tie"),
        ("Red pass. Red pass. Red pass.", "Red pass.", "Red pass.", "B"),
        ("Blue pass.", "Red pass.", "Red pass.", "B"),
        ("Red pass.", "Red shoot.", "Red pass.", "A"),
    ],
)
def test_rules_judge_by_events(first, second, human, verdict):
    assert read_verdict(RuleJudge()(CommentaryPair("1", first, second, human))) == verdict
