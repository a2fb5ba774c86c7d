"""MVBench's questions: from a file of lines, the benchmark's own folders json/ and video/, or the hub."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.mvbench.scores import TASK_NAMES, TASKS, task_stem
from evaluation.tasks.hub_rows import HubSet, read_rows, video_folders
from evaluation.tasks.lines import BenchmarkLine, find_video, read_benchmark
from utils.errors import UserError

HUB = HubSet("OpenGVLab/MVBench", split="train")
BOUNDED = ("Action Sequence", "Action Prediction", "Object Interaction", "Action Localization", "Episodic Reasoning")
REMEDY = (
    f"get the videos with: {HUB.command}, and unpack video/*.zip there, or name that folder with --video_dir (those of "
    "Fine-grained Pose, NTU RGB+D, left the hub in October 2024: ask its owners; the score is given without them too)"
)

# Folders of video/ that hold a task's videos. The second names are those of the hub's converted copies; its folders of
# clips that were cut before (Charades_segment, sta_video_segment, video_fps3_hq_segment) are not used.
CLEVRER, PERCEPTION, STAR = ("clevrer/video_validation",), ("perception/videos",), ("star/Charades_v1_480",)
FOLDERS = {
    "Action Sequence": STAR,
    "Action Prediction": STAR,
    "Action Antonym": ("ssv2_video", "ssv2_video_mp4"),
    "Fine-grained Action": ("Moments_in_Time_Raw/videos",),
    "Unexpected Action": ("FunQA_test/test",),
    "Object Existence": CLEVRER,
    "Object Interaction": STAR,
    "Object Shuffle": PERCEPTION,
    "Moving Direction": CLEVRER,
    "Action Localization": ("sta/sta_video",),
    "Scene Transition": ("scene_qa/video",),
    "Action Count": PERCEPTION,
    "Moving Count": CLEVRER,
    "Moving Attribute": CLEVRER,
    "State Change": PERCEPTION,
    "Fine-grained Pose": ("nturgbd", "nturgbd_convert"),
    "Character Order": PERCEPTION,
    "Egocentric Navigation": ("vlnqa",),
    "Episodic Reasoning": ("tvqa/frames_fps3_hq",),
    "Counterfactual Inference": CLEVRER,
}
UNPACKED = ("", "data0613")  # two of the hub's archives unpack into a folder of their own


def read_questions(name: str, limit: int | None = None, skipped: list[str] | None = None) -> list[BenchmarkLine]:
    """The questions, all as lines: video, question, options or candidates, answer, task_type, start and end.

    name: a file of such lines, the folder of json/ and video/, or a hub id. skipped: gains what is wrong with lines
    that are left out. Raises UserError where there are none.
    """
    folder = Path(name) / "json"
    if Path(name).is_dir() and not folder.is_dir():
        raise UserError(f"{name}: no folder json/ in it; get the benchmark with: {HUB.command}")
    if Path(name).is_file() or (not folder.is_dir() and Path(name).suffix):
        return read_rows(name, HUB, limit, skipped)
    lines: list[BenchmarkLine] = []
    for task in TASKS:
        rest = None if limit is None else limit - len(lines)
        if rest is not None and rest <= 0:
            break
        if folder.is_dir():
            found = list(read_benchmark(folder / f"{task_stem(task)}.json", rest, skipped))
        else:
            found = read_rows(name, replace(HUB, config=task_stem(task)), rest)
        lines += [BenchmarkLine(line.path, line.number, {**line.fields, "task_type": task}) for line in found]
    return lines


def mvbench_task(line: BenchmarkLine) -> str:
    """The task of a question. Raises UserError for one that is none of the twenty."""
    task = TASK_NAMES.get(task_stem(str(line["task_type"])))
    if task is None:
        raise UserError(f"{line.where}: task_type {line['task_type']!r} is none of {', '.join(TASKS)}")
    return task


def find_task_video(line: BenchmarkLine, name: str, video_dir: str | None) -> tuple[Path | None, str]:
    """A question's video, a file or a folder of frames: by its name in the task's folders of video/, or as it is."""
    task = mvbench_task(line)
    first, beside = (Path(video_dir),) * 2 if video_dir else (Path(beside_of(name)) / "video", beside_of(name))
    folders = [first / unpacked / folder for folder in FOLDERS[task] for unpacked in UNPACKED]
    return find_video(line["video"], [*folders, *dict.fromkeys([first, beside])], REMEDY)


def beside_of(name: str) -> Path:
    """The folder in which the videos' folder is looked for."""
    return video_folders(name, HUB)[1]


def bounds_of(line: BenchmarkLine) -> dict[str, Any]:
    """start and end of a question of a bounded task, which may lack either."""
    if mvbench_task(line) not in BOUNDED:
        return {}
    given = {f"{name}_s": line.seconds(name) for name in ("start", "end") if line.get(name) is not None}
    if given.get("start_s", 0.0) > given.get("end_s", float("inf")):
        raise UserError(f"{line.where}: start {line['start']} is after end {line['end']}")
    return given
