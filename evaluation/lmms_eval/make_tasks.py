"""Write LiveSports-3K-QA and LiveSports-3K-CC as tasks of lmms-eval: a folder for its --include_path.

    python evaluation/lmms_eval/make_tasks.py --output_dir outputs/lmms_tasks --video_dir datasets/LiveSports-3K/videos
    python -m lmms_eval eval --include_path outputs/lmms_tasks --tasks livesports3k_qa,livesports3k_cc --model ... \\
        --output_path outputs/lmms --log_samples

The folder holds the rows, each with its prompt, video and the window of its event, and needs nothing of this project:
lmms-eval runs in an environment of its own (0.7, whose chat models read a window of a video). A CPU is enough: seconds.
--questions and --events: files of rows, folders copied from the hub, or its id; "" leaves a task out.
"""

import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evaluation.livesports3kcc.events import HUB_ID
from evaluation.livesports3kcc.task import EventCaptionArguments, load_captions
from evaluation.livesports3kqa.task import LiveSports3KQAArguments
from evaluation.livesports3kqa.task import load_task as load_questions
from evaluation.tasks.item import Item
from evaluation.tasks.prompts import PromptTemplates
from utils.arguments import helped, parse_arguments
from utils.errors import UserError, run_command
from utils.files import write_whole

FOLDER = Path(__file__).parent
MODULE = "livesports3k.py"  # what lmms-eval calls


@dataclass
class TaskArguments:
    """The rows, their videos, and where the tasks go."""

    output_dir: str = field(metadata={"help": "the folder for --include_path"})
    questions: str = helped(HUB_ID, "rows of LiveSports-3K-QA")
    events: str = helped(HUB_ID, "rows of LiveSports-3K-CC")
    video_dir: str | None = helped(None, "folder of the videos; default: beside the rows")
    limit: int | None = helped(None, "only the first N rows of each")


def main(argv: list[str] | None = None) -> None:
    """Write the folder."""
    (arguments,) = parse_arguments(TaskArguments, description=__doc__.splitlines()[0], argv=argv)
    templates, folder = PromptTemplates(), Path(arguments.output_dir)
    tasks: dict[str, list[Item]] = {}
    if arguments.questions:
        asked = LiveSports3KQAArguments(arguments.questions, arguments.video_dir, "official")
        tasks["livesports3k_qa"] = load_questions(asked, templates, arguments.limit).items
    if arguments.events:
        events = EventCaptionArguments(arguments.events, arguments.video_dir)
        tasks["livesports3k_cc"] = load_captions(events, templates, arguments.limit).items
    for name, items in tasks.items():
        write_task(folder, name, items)
    shutil.copyfile(FOLDER / MODULE, folder / MODULE)
    print(f"python -m lmms_eval eval --include_path {folder} --tasks {','.join(tasks)} --model ...")


def write_task(folder: Path, name: str, items: list[Item]) -> None:
    """Write one task's description and rows; rows without a video are left out and counted."""
    rows = [row_of(item) for item in items if item.clip is not None]
    if not rows:
        raise UserError(f"{name}: none of the {len(items)} rows has its video: {items[0].problem}")
    data = (folder / f"{name}.jsonl").resolve()
    write_whole(data, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    described = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").replace("DATA_FILE", json.dumps(str(data)))
    write_whole(folder / f"{name}.yaml", described)
    print(f"{name}: {len(rows)} rows; {len(items) - len(rows)} have no video here and are left out")


def row_of(item: Item) -> dict:
    """What lmms-eval is told of an item."""
    return {
        "id": item.id,
        "video_id": item.video_id,
        "video": str(Path(item.clip.video).resolve()),
        "start_s": item.clip.start_s,
        "end_s": item.clip.end_s,
        "prompt": item.ask.text,
        "answer": str(item.truth),
        "letters": "".join(option[0] for option in item.shown.get("options", ())),
        "event_id": str(item.shown.get("event_id") or ""),
        "begin": item.shown.get("begin"),
        "end": item.shown.get("end"),
        **{name: item.tags.get(name, "") for name in ("q_type", "ocr")},
    }


if __name__ == "__main__":
    run_command(main)
