"""Let a language model say whether a model's commentary or a baseline's is closer to the human's.

    AZURE_OPENAI_ENDPOINT=https://NAME.openai.azure.com AZURE_OPENAI_API_KEY=... \\
    python evaluation/livesports3kcc/llm_judge.py --model_id LiveCC-7B-Instruct \\
        --prediction_jsonl evaluation/livesports3kcc/livecc/LiveCC-7B-Instruct.jsonl \\
        --output_dir evaluation/livesports3kcc/judges --num_workers 16
    OPENAI_API_KEY=... python evaluation/livesports3kcc/llm_judge.py --max_cost 10 ...
    python evaluation/livesports3kcc/llm_judge.py --judge local --judge_model_path Qwen/Qwen2-VL-7B-Instruct ...

Every event is judged in both orders: 3,404 requests for all 1,702 events. A CPU is enough, except for --judge local.
Killed, it continues when run again; a reply is never paid for twice. Writes OUT/BASELINE_MODEL.jsonl in the published
layout and OUT/MODEL_vs-BASELINE_livecc.result.json; prints the win rate with its interval, what the judge prefers
whatever it reads, and tokens and dollars. Exit status: 0, 3 where an event has no judgement, 2 where the run ended
early (bad input, an endpoint that is down, the spending cap).
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Literal

from evaluation.judge.judge import MAX_VERDICT_TOKENS, ApiJudge, Contest, Judge, Judging
from evaluation.livesports3kcc.events import COMMAND, HUB_ID, SportsEvent, event_name, load_events
from evaluation.livesports3kcc.task import find_event_video
from evaluation.runner.run import FAILED
from evaluation.scoring.benchmarks import scores_of
from evaluation.scoring.preference import PRINTED, baseline_share, headline_problem
from evaluation.scoring.results import BenchmarkRun
from evaluation.scoring.score_lines import print_runs
from evaluation.scoring.settings_path import settings_path
from evaluation.tasks.item import ClipPlan
from evaluation.tasks.lines import read_benchmark
from evaluation.tasks.prompts import PromptTemplates
from utils.arguments import helped, parse_arguments
from utils.endpoint import Endpoint, EndpointArguments, connect
from utils.errors import UserError, run_command
from utils.files import write_whole
from utils.journal import Journal
from utils.rate_limit import RetryPolicy

BASELINE_FILE = Path(__file__).parent / "captions" / "GPT-4o.jsonl"
BASELINE_URL = "https://raw.githubusercontent.com/showlab/livecc/main/evaluation/livesports3kcc/captions/GPT-4o.jsonl"
DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass
class JudgeArguments:
    """What is compared with what, by whom, and where the rows go."""

    model_id: str = field(metadata={"help": "name of the model whose commentary is judged"})
    prediction_jsonl: str = field(metadata={"help": "its commentary: lines with video_id, event_id, pred"})
    output_dir: str = field(metadata={"help": "rows, results and kept replies", "path": "output_folder"})
    num_workers: int = helped(16, "requests at a time", ge=1)
    judge: Literal["api", "local", "nano"] = helped(
        "api", "local: an open model in this process; nano: the rules of the nano world, for its commentaries only"
    )
    judge_model: str = helped("gpt-4o-2024-08-06", "the judge behind the endpoint; OpenAI's only with its date")
    judge_model_path: str | None = helped(None, "folder or hub id of the model for --judge local")
    max_verdict_tokens: int = helped(
        MAX_VERDICT_TOKENS, "most tokens of a verdict; a judge that thinks needs thousands: one cut off is a failure"
    )
    device: str | None = helped(None, "where --judge local runs; default: the fastest here")
    baseline_jsonl: str = helped(str(BASELINE_FILE), "the baseline's captions, lines as those of --prediction_jsonl")
    baseline_id: str = helped("GPT-4o", "name of the baseline")
    benchmark: Literal["livesports3kcc", "infstreams"] = helped(
        "livesports3kcc", "what the events are of; infstreams: windows.jsonl of that benchmark's command"
    )
    protocol: str | None = helped(None, "the protocol that the commentary was made under; default: the benchmark's")
    video_dir: str | None = helped(None, "folder of the videos, for the pictures of evaluation/report.py")
    annotations: str = helped(HUB_ID, "events with the human's words: hub id, its copy, or a .jsonl, .json, .parquet")
    limit: int | None = helped(None, "only the first N events", ge=1)
    resume: bool = helped(True, "--resume False forgets rows and replies of earlier runs")
    template_dir: str | None = helped(
        None, "folder whose judge.txt replaces that of evaluation/templates", path="folder"
    )

    def __post_init__(self) -> None:
        known = scores_of(self.benchmark).PROTOCOLS
        self.protocol = self.protocol or next(iter(known))
        if self.protocol not in known:
            raise UserError(f"--protocol {self.protocol!r}: {self.benchmark} has {', '.join(known)}")
        for flag, name in (("model_id", self.model_id), ("baseline_id", self.baseline_id)):
            if not re.fullmatch(r"[\w.][\w.+@ -]*", name):
                raise UserError(f"--{flag} {name!r}: it becomes part of a file's name; use letters, digits and ._+@-")
        for name in ("num_workers", "max_verdict_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)}: give 1 or more")
        if self.judge == "local" and not self.judge_model_path:
            raise UserError("--judge local needs --judge_model_path, a checkpoint's folder or hub id")


def load_contests(arguments: JudgeArguments) -> list[Contest]:
    """Load a contest for each event, in their order. Raises UserError where a file is missing or fits no event."""
    if not Path(arguments.baseline_jsonl).is_file():
        raise UserError(
            f"--baseline_jsonl {arguments.baseline_jsonl}: no such file. Get the published GPT-4o captions:\n"
            f"  curl -fL --create-dirs -o {arguments.baseline_jsonl} {BASELINE_URL}\n"
            "or make them:\n  python evaluation/livesports3kcc/distributed_generate_caption.py --api_model "
            "gpt-4o-2024-08-06 --output_dir evaluation/livesports3kcc/captions"
        )
    said, captions = _read_texts(arguments.prediction_jsonl), _read_texts(arguments.baseline_jsonl)
    events = load_events(arguments.annotations, arguments.limit)
    contests = [_contest(event, said, captions, arguments.video_dir) for event in events]
    for flag, texts in (("prediction_jsonl", said), ("baseline_jsonl", captions)):
        if not any(event.id in texts for event in events):
            raise UserError(
                f"--{flag}: none of its {len(texts)} lines is about one of the {len(events)} events of "
                f"{arguments.annotations}; check both files"
            )
    if not any(event.event_asr_text for event in events):
        raise UserError(f"{arguments.annotations}: no event has the human's words (event_asr_text); get: {COMMAND}")
    return contests


def make_judge(
    arguments: JudgeArguments, endpoint_arguments: EndpointArguments, retries: RetryPolicy | None = None
) -> tuple[Judge, Endpoint | None]:
    """Make the judge asked for, and its endpoint where it has one."""
    templates = PromptTemplates(arguments.template_dir)
    if arguments.judge == "local":
        from evaluation.judge.local_judge import LocalJudge  # torch and transformers only for those who need them

        tokens = arguments.max_verdict_tokens
        return LocalJudge(arguments.judge_model_path, templates, arguments.device, tokens), None
    if arguments.judge == "nano":
        from evaluation.nano.rule_judge import RuleJudge  # the nano world only for those who judge it

        return RuleJudge(), None
    replies = Journal(Path(arguments.output_dir) / "replies", "replies", not arguments.resume)
    endpoint = connect(arguments.judge_model, endpoint_arguments, replies, retries)
    if endpoint.is_openai and not DATED.search(arguments.judge_model):
        raise UserError(
            f"--judge_model {arguments.judge_model}: an undated name stands for another model from time to time, and "
            "win rates of different judges do not compare; give a dated one, such as gpt-4o-2024-08-06 (a server of "
            "your own, named by --api_base, may serve any name)"
        )
    return ApiJudge(endpoint, templates, arguments.max_verdict_tokens), endpoint


def judge_events(
    arguments: JudgeArguments, endpoint_arguments: EndpointArguments, retries: RetryPolicy | None = None
) -> BenchmarkRun:
    """Judge all events; writes and returns the result."""
    contests = load_contests(arguments)
    judge, endpoint = make_judge(arguments, endpoint_arguments, retries)
    folder = Path(arguments.output_dir)
    rows_kept = Journal(folder / "rows", "judged", not arguments.resume)
    judging = Judging(judge, arguments.model_id, arguments.baseline_id, rows_kept)
    try:
        if endpoint:
            rows = judging.run(
                contests, arguments.num_workers, lambda: endpoint.budget.dollars, lambda: endpoint.stop("interrupted")
            )
        else:
            rows = judging.run(contests, 1)
    finally:
        if endpoint:
            print(f"{arguments.judge_model} at {endpoint.place}: {endpoint.budget.summary()}", file=sys.stderr)
    if endpoint and endpoint.served - {arguments.judge_model}:
        print(f"the endpoint calls its model {', '.join(sorted(endpoint.served))}", file=sys.stderr)
    settings = {**judge.settings, "baseline": arguments.baseline_id}
    results = judging.results(contests, rows)
    setting = f"vs-{arguments.baseline_id}"
    run = BenchmarkRun(arguments.benchmark, arguments.protocol, arguments.model_id, setting, results, settings)
    name = f"{arguments.baseline_id}_{arguments.model_id}"
    published = settings_path(folder, name, ".jsonl", run.key, len(rows))
    write_whole(published, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    run.write(folder)
    return run


def report_judgements(run: BenchmarkRun, baseline: str) -> int:
    """Print the scores and what has no judgement; returns the exit status."""
    print_runs([run])
    results = run.results
    problem = headline_problem(results)
    failed = [result for result in results if result.failed]
    if problem:
        print(f"No winning rate for {run.model} vs. {baseline}: {problem}", file=sys.stderr)
    else:
        rate = sum(result.value for result in results) / len(results)
        print(f"Winning Rate for {run.model} vs. {baseline}: {rate:.2%}", file=sys.stderr)
        print(f"{baseline} wins {baseline_share(results):.2%}; {PRINTED}", file=sys.stderr)
    if failed:
        causes = "; ".join(f"{result.id}: {result.shown['error']}" for result in failed[:3])
        print(
            f"{len(failed)} of {len(results)} events have no judgement and count as no win ({causes}"
            f"{', ...' if len(failed) > 3 else ''}); run again to have them judged",
            file=sys.stderr,
        )
    return FAILED if failed or problem else 0


def _read_texts(path: str) -> dict[str, str | None]:
    """Event -> what was said of it; None where the line holds an error in its place."""
    texts: dict[str, str | None] = {}
    for line in read_benchmark(path):
        name = event_name(line["video_id"], line["event_id"])
        if name in texts:
            raise UserError(f"{line.where}: a second line for event {name}; leave one of them out")
        texts[name] = None if line.get("error") or line["pred"] is None else str(line["pred"])
    return texts


def _contest(
    event: SportsEvent, said: dict[str, str | None], captions: dict[str, str | None], video_dir: str | None
) -> Contest:
    texts = {"commentary": said.get(event.id), "baseline caption": captions.get(event.id)}
    lacking = [name for name, text in texts.items() if text is None]
    lacking += [] if event.event_asr_text else ["human text"]
    commentary, caption = (text or "" for text in texts.values())
    problem = f"no {', no '.join(lacking)}" if lacking else ""
    shown = {"title": event.event_title, "begin": event.begin, "end": event.end}
    path, _ = find_event_video(event, [Path(video_dir)]) if video_dir else (None, "")
    if path is not None:
        shown["clip"] = asdict(ClipPlan(str(path), event.begin, event.end))
    return Contest(event.id, event.video_id, commentary, caption, event.event_asr_text, problem, shown)


def main(argv: list[str] | None = None) -> int:
    """Judge, and print the scores; returns the exit status."""
    arguments, endpoint_arguments = parse_arguments(
        JudgeArguments, EndpointArguments, description=__doc__.splitlines()[0], argv=argv
    )
    return report_judgements(judge_events(arguments, endpoint_arguments), arguments.baseline_id)


if __name__ == "__main__":
    run_command(main)
