"""Ask a model about held-out matches in mid-stream, and count the answers that are right word by word.

    python -m evaluation.nano.ask --model_name_or_path models/nano_checkpoint \\
        --annotations outputs/quickstart/test/commentary.jsonl --output_dir outputs/quickstart/asked

Each clip is commented on to the second at which its sample asks, then each of its questions is asked on a fork, as a
person would. CPU is enough: about half a minute for 100 clips. Continues after a kill; exit status 3 where a question
has no answer.
"""

from dataclasses import dataclass, field
from pathlib import Path

from data.nano.questions import QUESTIONS
from data.samples.annotations import AnnotationFile, Sample, resolve_media
from evaluation.predictors.predictor_arguments import PredictorArguments
from evaluation.runner.command import run_task
from evaluation.runner.run import EvaluationArguments
from evaluation.tasks.item import ClipPlan, Commentary, Item, MidStream
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.task import Task, is_the_letter
from models.streaming.options import DEFAULT_QUERY
from utils.arguments import helped, parse_arguments
from utils.errors import run_command

KIND_OF = {wording: kind for kind, (wordings, _) in QUESTIONS.items() for wording in wordings}
MAX_TOKENS = 24  # of a step, and of an answer


@dataclass
class AskArguments:
    """What is asked."""

    annotations: str = field(
        metadata={"help": "commentary.jsonl of data.nano.corpus, split test: streams and questions"}
    )
    media_root: str | None = helped(None, "folder in which videos are looked for before beside the file", path="folder")
    repetition_penalty: float = helped(1.0, "1.0: none", gt=0)


def load_task(arguments: AskArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The questions of every sample. Raises UserError for a file that is none."""
    file = AnnotationFile(arguments.annotations, arguments.media_root)
    commentary = Commentary(DEFAULT_QUERY, MAX_TOKENS, arguments.repetition_penalty)
    items = [item for i in range(len(file))[:limit] for item in make_items(file[i], i, commentary)]
    return Task("nano", "nano", items, is_the_letter, templates.hashes)


def make_items(sample: Sample, number: int, commentary: Commentary) -> list[Item]:
    """The questions of one sample; those that are of no other kind are for the state of play."""
    video = sample.video
    if video.frames:
        raise sample.error("a list of frames is not asked about; give a film", cause="broken_video")
    plan = ClipPlan(resolve_media(video.video, sample), video.video_start, video.video_end, rule="stream")
    texts = [message.elements[0].text for message in sample.questions]
    return [
        Item(
            id=f"{number:06d}-{i}", video_id=f"{number:06d}", ask=MidStream(commentary, question, MAX_TOKENS),
            truth=answer, clip=plan, tags={"kind": KIND_OF.get(question, "state")}, shown={"question": question},
        )
        for i, (question, answer) in enumerate(zip(texts[::2], texts[1::2], strict=True))
    ]  # fmt: skip


def main() -> int:
    """Run the command; returns its exit status."""
    asked, model, run = parse_arguments(
        AskArguments, PredictorArguments, EvaluationArguments, description=__doc__.splitlines()[0]
    )
    return run_task(load_task, asked, model, run, Path("outputs") / "nano_asked")


if __name__ == "__main__":
    run_command(main)
