"""Writes held-out matches of the nano world in the formats of the benchmarks, so that their own commands run on them.

    python -m data.nano.corpus --split test --seed 7 --n_clips 100 --output_dir outputs/nano_test
    python -m evaluation.nano.benchmarks --corpus outputs/nano_test --output_dir outputs/nano_benchmarks

A CPU is enough: a second for 100 clips. The folder then holds

    livesports3kcc.jsonl      an event for each clip, with the commentator's words
    baseline.jsonl            what stands for the baseline's captions: the commentator's words on another clip
    livesports3kqa.jsonl      the questions at the clip's end, by kind, with options
    videomme.jsonl            three questions on each clip, with the commentator's words as subtitles
    ovobench/                 what has just happened, how often the ball was passed by then, at moments inside the clip
    mvbench.jsonl             what happens first in a part of the clip
    videos/                   the clips

Options are lettered, which the shipped nano model was never taught: on these it is at chance, and the floor beside the
score says so. Its commentary, and questions in mid-stream in its own form (evaluation/nano/ask.py), are what it can do.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.nano.commentator import score_phrase
from data.nano.palette import KITS
from data.nano.questions import QUESTIONS
from data.nano.world import KINDS
from data.samples.annotations import AnnotationFile, Sample
from utils.arguments import helped, parse_arguments
from utils.errors import UserError, run_command
from utils.files import write_whole

N_OPTIONS = 4
THIRDS, FLANKS = ("out left", "in midfield", "out right"), ("top side", "bottom side")
# Wrong answers to a question of each kind are drawn from these.
ANSWERS = {
    "score": tuple(f"It is {score_phrase((home, away))}." for home in range(4) for away in range(4)),
    "ball": tuple(f"The {kit} team." for kit in KITS),
    "place": tuple(f"It is {third}, {flank}." for third in THIRDS for flank in FLANKS),
    "teams": tuple(f"It is {home} against {away}." for home in KITS for away in KITS if home != away),
}
TEAMS = tuple(f"The {kit} team." for kit in KITS)


@dataclass
class BenchmarkArguments:
    """From where to where."""

    corpus: str = field(metadata={"help": "folder made by data.nano.corpus, split test"})
    output_dir: str = field(metadata={"help": "folder to fill", "path": "output_folder"})
    seed: int = helped(0, "of wrong options and their order")


@dataclass(frozen=True)
class AskedMatch:
    """One clip: its row of events.jsonl and its sample, which asks questions at its end."""

    row: dict[str, Any]
    sample: Sample

    @property
    def id(self) -> str:
        """The clip's number."""
        return Path(self.row["video"]).stem

    @property
    def video(self) -> str:
        """The name of the clip's file in the benchmarks' folders."""
        return Path(self.row["video"]).name

    @property
    def words(self) -> str:
        """The commentator's words."""
        return " ".join(line["text"] for line in self.row["lines"])

    def team(self, line: dict) -> str:
        """Team of a line's event."""
        return f"The {self.row['kits'][line['team']]} team."

    def passes(self, until_s: float) -> int:
        """Passes seen by a second of the clip."""
        return sum(line["kind"] == "pass" and line["time_s"] <= until_s for line in self.row["lines"])

    @property
    def asked(self) -> Iterator[tuple[str, str, str]]:
        """Kind, question and right answer of the sample's questions; the state of play has no options."""
        texts = [message.elements[0].text for message in self.sample.questions]
        kinds = {wording: kind for kind, (wordings, _) in QUESTIONS.items() for wording in wordings}
        for question, answer in zip(texts[::2], texts[1::2], strict=True):
            if question in kinds:
                yield kinds[question], question, answer


class Options:
    """Draws lettered options around right answers."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def of(self, right: str, pool: Sequence[str]) -> tuple[list[str], str]:
        """Up to N_OPTIONS different answers in a random order, and the letter of the right one."""
        wrong = self.rng.permutation([answer for answer in pool if answer != right])[: N_OPTIONS - 1]
        answers = self.rng.permutation([right, *wrong]).tolist()
        letters = [chr(ord("A") + i) for i in range(len(answers))]
        lettered = [f"{letter}. {answer}" for letter, answer in zip(letters, answers, strict=True)]
        return lettered, letters[answers.index(right)]


def read_matches(corpus: Path) -> list[AskedMatch]:
    """Read the clips of a corpus that have commentary. Raises UserError where it is none."""
    events = corpus / "events.jsonl"
    if not events.is_file():
        raise UserError(f"{corpus}: no events.jsonl there; make it with python -m data.nano.corpus --split test ...")
    rows = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    samples = AnnotationFile(corpus / "commentary.jsonl")
    return [AskedMatch(row, samples[i]) for i, row in enumerate(rows) if row["lines"]]


def commentary_events(matches: Sequence[AskedMatch]) -> list[dict]:
    """LiveSports-3K's commentary track; no title and no earlier words, which the nano model is not given either."""
    return [
        {
            "video": match.video, "video_id": match.id, "event_id": 0, "begin": 0.0, "end": match.row["duration_s"],
            "event_title": "", "preasr_text": "", "event_asr_text": match.words,
        }
        for match in matches
    ]  # fmt: skip


def baseline(matches: Sequence[AskedMatch]) -> list[dict]:
    """The commentator's words on another match: right in form and wrong in substance."""
    others = [*matches[1:], *matches[:1]]
    return [
        {"video_id": m.id, "event_id": 0, "begin": 0.0, "end": m.row["duration_s"], "pred": other.words}
        for m, other in zip(matches, others, strict=True)
    ]


def end_questions(matches: Sequence[AskedMatch], options: Options) -> list[dict]:
    """LiveSports-3K's question track: those at the clips' ends."""
    rows = []
    for match in matches:
        for number, (kind, question, answer) in enumerate(match.asked):
            lettered, letter = options.of(answer, ANSWERS[kind])
            rows.append(
                {
                    "video": match.video, "video_id": match.id, "question_id": f"{match.id}-{number}", "q_type": kind,
                    "OCR": int(kind == "score"), "question": question, "options": lettered, "answer": letter,
                }
            )  # fmt: skip
    return rows


def clip_questions(matches: Sequence[AskedMatch], options: Options) -> list[dict]:
    """VideoMME: what happens first, what last, and by whom first."""
    rows = []
    for match in matches:
        first, last = match.row["lines"][0], match.row["lines"][-1]
        asked = (
            ("What happens first?", "Temporal Perception", first["kind"], KINDS),
            ("What happens last?", "Temporal Perception", last["kind"], KINDS),
            ("Which team is spoken of first?", "Object Recognition", match.team(first), TEAMS),
        )
        for number, (question, task_type, right, pool) in enumerate(asked, start=1):
            lettered, letter = options.of(right, pool)
            rows.append(
                {
                    "video_id": match.id, "duration": "short", "domain": "Sports Competition", "url": "",
                    "sub_category": "Football", "videoID": match.id, "video": match.video, "task_type": task_type,
                    "question_id": f"{match.id}-{number}", "question": question, "options": lettered,
                    "answer": letter, "subtitles": match.words,
                }
            )  # fmt: skip
    return rows


def moment_entries(matches: Sequence[AskedMatch], options: Options) -> list[dict]:
    """OVO-Bench's entries: the first event (EPM), the latest one (ACR), and passes so far at three moments (REC)."""
    entries = []
    for match in matches:
        lines, end_s = match.row["lines"], match.row["duration_s"]
        seen = [line for line in lines if line["time_s"] <= end_s / 2] or lines[:1]
        moment_s = max(end_s / 2, seen[-1]["time_s"])
        for task, question, right in (
            ("EPM", "What happened first?", seen[0]["kind"]),
            ("ACR", "What has just happened?", seen[-1]["kind"]),
        ):
            lettered, letter = options.of(right, KINDS)
            texts = [option.partition(". ")[2] for option in lettered]
            entries.append(
                {
                    "id": len(entries), "task": task, "video": match.video, "realtime": moment_s,
                    "question": question, "options": texts, "gt": ord(letter) - ord("A"),
                }
            )  # fmt: skip
        times_s = (end_s / 4, end_s / 2, end_s)
        info = [{"realtime": time_s, "count": match.passes(time_s)} for time_s in times_s]
        entry = {"id": len(entries), "task": "REC", "video": match.video, "activity": "pass the ball"}
        entries.append({**entry, "test_info": info})
    return entries


def part_questions(matches: Sequence[AskedMatch], options: Options) -> list[dict]:
    """MVBench: what happens first in the second half of a clip (bounded), and which team it is (not bounded)."""
    rows = []
    for match in matches:
        start_s, end_s = match.row["duration_s"] / 2, match.row["duration_s"]
        later = [line for line in match.row["lines"] if line["time_s"] > start_s + 0.5]
        if later:
            lettered, letter = options.of(later[0]["kind"], KINDS)
            bounds = {"start": start_s, "end": end_s}
            rows.append(_part("Action Sequence", match, "What happens first?", lettered, letter) | bounds)
        lettered, letter = options.of(match.team(match.row["lines"][0]), TEAMS)
        rows.append(_part("Object Existence", match, "Which team is spoken of first?", lettered, letter))
    return rows


def _part(task_type: str, match: AskedMatch, question: str, options: list[str], answer: str) -> dict:
    asked = {"question": question, "options": options, "answer": answer}
    return {"video": match.video, "task_type": task_type, **asked}


def write_benchmarks(arguments: BenchmarkArguments) -> None:
    """Write all files."""
    matches, options, folder = read_matches(Path(arguments.corpus)), Options(arguments.seed), Path(arguments.output_dir)
    files = {
        "livesports3kcc.jsonl": commentary_events(matches),
        "baseline.jsonl": baseline(matches),
        "livesports3kqa.jsonl": end_questions(matches, options),
        "videomme.jsonl": clip_questions(matches, options),
        "mvbench.jsonl": part_questions(matches, options),
    }
    for name, rows in files.items():
        write_whole(folder / name, "".join(json.dumps(row) + "\n" for row in rows))
    write_whole(folder / "ovobench" / "ovo_bench_new.json", json.dumps(moment_entries(matches, options), indent=1))
    for beside in ("videos", "ovobench"):
        for match in tqdm(matches, unit="clip", desc=beside, leave=False):
            place_video(Path(match.row["video"]), folder / beside / match.video)
    print(f"{len(matches)} matches -> {folder}")


def place_video(source: Path, target: Path) -> None:
    """Let a clip stand in a benchmark's folder too: the same file where the disk can, else a copy."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def main() -> None:
    """Run the command."""
    (arguments,) = parse_arguments(BenchmarkArguments, description=__doc__.splitlines()[0])
    write_benchmarks(arguments)


if __name__ == "__main__":
    run_command(main)
