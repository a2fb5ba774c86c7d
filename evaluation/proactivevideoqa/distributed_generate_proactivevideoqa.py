"""Let a streaming model answer the questions of ProactiveVideoQA while their videos play, and have what it says rated.

    python evaluation/proactivevideoqa/distributed_generate_proactivevideoqa.py --benchmark_dir ProactiveVideoQA \\
        --model_name_or_path chenjoya/LiveCC-7B-Instruct --judge_model gpt-4o-2024-08-06 --max_cost 20
    ... --api_base http://localhost:8000/v1 --judge_model Qwen/Qwen3-32B --max_verdict_tokens 4096     another judge

Hardware: a GPU of 24 GB for a 7B model in bfloat16; a CPU for the nano model. A judge rates, for each true answer, all
that was said within its time so far, 1 to 3. Writes answers and ratings as they come, so the same command continues
after a kill, and MODEL_stream.result.json at the end. Exit status 3 where a question has no answer or no rating. Run on
hand-made rows only: the benchmark's own videos were not at hand.
"""

import functools
import re
import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evaluation.judge.judge import MAX_VERDICT_TOKENS, more_tokens
from evaluation.predictors.live_memory import LiveMemory
from evaluation.predictors.load import load_live
from evaluation.predictors.predictor import Predictor
from evaluation.predictors.predictor_arguments import PredictorArguments
from evaluation.proactivevideoqa.scores import pauc
from evaluation.proactivevideoqa.task import ProactiveArguments, load_task
from evaluation.runner.command import run_task
from evaluation.runner.run import EvaluationArguments, ask_items, exit_status, is_first_process
from evaluation.scoring.results import BenchmarkRun, ItemResult
from evaluation.scoring.score_lines import print_runs
from evaluation.tasks.item import Item
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.reading import final_answer
from evaluation.tasks.task import Task
from utils.arguments import helped, parse_arguments
from utils.endpoint import Endpoint, EndpointArguments, RequestFailed, connect, user_message
from utils.errors import run_command
from utils.journal import Journal

RATING = re.compile(r"\b([123])\b")


@dataclass
class RatingArguments(EndpointArguments):
    """Who rates what was said."""

    judge_model: str = helped("gpt-4o-2024-08-06", "the judge behind the endpoint")
    max_verdict_tokens: int = helped(MAX_VERDICT_TOKENS, "most tokens of a rating; a judge that thinks needs thousands")


class Rater:
    """A judge of how much of a true answer has been said."""

    def __init__(self, endpoint: Endpoint, templates: PromptTemplates, max_tokens: int):
        self.endpoint, self.templates, self.max_tokens = endpoint, templates, max_tokens

    def rate(self, question: str, truth: str, said: str) -> float:
        """Level of what was said, 0 to 2. Raises RequestFailed or ValueError where there is no rating."""
        prompt = self.templates.fill("proactive_judge", question=question, truth=truth, said=said)
        reply = self.endpoint.complete([user_message([prompt])], self.max_tokens)
        text = final_answer(reply.text, reply.cut, more_tokens(self.max_tokens))
        found = {int(number) for number in RATING.findall(text)}
        if reply.refused or len(found) != 1:
            raise ValueError(f"the judge gives no rating of 1 to 3: {text[:80]!r}")
        return float(found.pop() - 1)


def results_of(item: Item, row: dict, rater: Rater) -> list[ItemResult]:
    """A result for each true answer of a question."""
    results = []
    for number, (truth, start_s, end_s) in enumerate(item.shown["answers"], start=1):
        shown = {
            "question": item.shown["question"],
            "reference": truth,
            "span": [start_s, end_s],
            "error": row["error"],
        }
        points = []
        if row["error"] is None:
            try:
                points = rated(item.shown["question"], truth, (start_s, end_s), row["steps"], rater)
            except (RequestFailed, ValueError) as error:
                shown["error"] = f"{type(error).__name__}: {error}"
        failed = shown["error"] is not None
        value = 0.0 if failed else pauc(points, (start_s, end_s))
        said = " ".join(text for _, _, text in row["steps"] or ())
        results.append(
            ItemResult(
                f"{item.id}_{number}", item.video_id, value, failed, dict(item.tags), None if failed else said,
                shown={
                    **{name: kept for name, kept in shown.items() if kept is not None},
                    "span": [start_s, end_s], "points": points,
                },
            )
        )  # fmt: skip
    return results


def rated(
    question: str, truth: str, span: tuple[float, float], steps: list[tuple[float, float, str]], rater: Rater
) -> list[tuple[float, float]]:
    """(second, level) after each thing that was said in a span for the first time."""
    said: list[str] = []
    points = []
    for _, at_s, text in steps:
        words = text.strip(" .")
        if words and span[0] <= at_s <= span[1] and text not in said:
            said.append(text)
            points.append((at_s, rater.rate(question, truth, " ".join(said))))
    return points


def answer_and_rate(
    judge: RatingArguments, template_dir: str | None, task: Task, predictor: Predictor, folder: Path, resume: bool
) -> int:
    """Ask what has no answer yet, have it rated, and print the scores; returns the exit status."""
    store = ask_items(task, predictor, folder, resume)
    if not is_first_process():
        return 0
    templates = PromptTemplates(template_dir)
    endpoint = connect(judge.judge_model, judge, Journal(folder / "replies", "replies", not resume))
    rater = Rater(endpoint, templates, judge.max_verdict_tokens)
    pairs = zip(task.items, store.rows(task.items), strict=True)
    results = [result for item, row in pairs for result in results_of(item, row, rater)]
    print(f"{judge.judge_model} at {endpoint.place}: {endpoint.budget.summary()}", file=sys.stderr)
    settings = {**store.settings, "judge": judge.judge_model, "judge_templates": templates.hashes}
    parts = {"prompt": "ours", "frames": "ours", "reading": "ours", "denominator": "authors'"}
    run = BenchmarkRun(task.benchmark, task.protocol, predictor.name, "", results, settings, parts)
    run.write(folder)
    print_runs([run])
    return exit_status([run])


def main() -> int:
    """Run the command; returns its exit status."""
    benchmark, model, memory, judge, run = parse_arguments(
        ProactiveArguments,
        PredictorArguments,
        LiveMemory,
        RatingArguments,
        EvaluationArguments,
        description=__doc__.splitlines()[0],
    )
    work = functools.partial(answer_and_rate, judge, run.template_dir)
    return run_task(load_task, benchmark, (model, memory), run, Path(__file__).parent / "results", load_live, work)


if __name__ == "__main__":
    run_command(main)
