"""Made-up captions and runs of data/production, and a stage that fails, dies and dawdles as a test asks."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from data.production.record import Record
from data.production.stage import RecordFailed, Stage, Worker
from tests.conftest import REPOSITORY
from utils.errors import UserError

MEETING_S = 30.0  # longest wait for other workers
NANO = "models/nano_checkpoint"
WORDS = ["red", "blue", "passes", "the", "ball", "left", "right", "shoots", "and", "scores", "a", "goal", "now"]
CONFIG = """
inputs: {{jsonl_input: {{paths: ["{videos}"]}}}}
stages:
  - metadata_filter: {{min_distinct_words: 5}}
  - pretrain_to_clips: {{min_s: 10}}
  - tests.production: {options}
  - held_out_split: {{share: 0.3}}
  - to_conversation
output: {{name: made}}
shard_size: 4
"""


@dataclass
class TroubleOptions:
    """Which records make trouble."""

    fail: list[str] = field(default_factory=list, metadata={"help": "these fail while `folder`/broken is there"})
    die: list[str] = field(default_factory=list, metadata={"help": "the process dies on these"})
    hold: list[str] = field(
        default_factory=list, metadata={"help": "these are waited at while `folder`/hold is there", "side": True}
    )
    folder: str = field(default="", metadata={"help": "of the files `broken` and `hold`", "side": True})
    most_words: int = field(default=100000, metadata={"help": "longest clip", "threshold": True})
    length_s: float = field(default=0.0, metadata={"help": "of records that do not say it", "side": True})
    sleep_s: float = field(default=0.0, metadata={"help": "for each record", "side": True})
    gpus: float = field(
        default=0.0, metadata={"help": "that a worker of it wants, as a model stage does", "side": True}
    )
    cpus: int = field(default=1, metadata={"help": "that a worker without a GPU wants; 0: a machine's", "side": True})
    meet: int = field(default=0, metadata={"help": "workers that must be there before one begins", "side": True})


class Trouble(Stage):
    """Measures words per second, unless it is told not to."""

    name, version, Options = "tests.production", 1, TroubleOptions
    batch_size = 3

    def __init__(self, options: TroubleOptions | None = None):
        super().__init__(options)
        self.gpus, self.cpus = self.options.gpus, self.options.cpus

    def setup(self, worker: Worker) -> None:
        self.worker = worker
        (worker.side / "met").mkdir(parents=True, exist_ok=True)
        (worker.side / "met" / str(os.getpid())).touch()
        if not wait_for(lambda: len(list((worker.side / "met").iterdir())) >= self.options.meet):
            raise UserError(f"no {self.options.meet} workers were there at once")

    def process(self, records: list[Record]) -> list[list[Record]]:
        """One result for each."""
        for record in records:
            time.sleep(self.options.sleep_s)
            if record.id in self.options.hold:
                (Path(self.options.folder) / "holding").touch()
                wait_for(lambda: not (Path(self.options.folder) / "hold").exists(), 300.0)
            if record.id in self.options.die:
                os._exit(9)
            if record.id in self.options.fail and (Path(self.options.folder) / "broken").exists():
                raise RecordFailed("broken_clip", f"cannot read {record.video}")
            record.scores["words_per_s"] = len(record.words) / (record.seconds or self.options.length_s)
            self.worker.note(measured=record.id)
        return [[record] for record in records]

    def judge(self, record: Record) -> None:
        """The threshold."""
        if len(record.words) > self.options.most_words:
            record.reject(self.name, "too_many_words", f"{len(record.words)}")


STAGE = Trouble


def wait_for(is_there: Callable[[], bool], limit_s: float = MEETING_S) -> bool:
    """Wait until something is so; False where it is not within the limit."""
    deadline = time.monotonic() + limit_s
    while not is_there():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def notes_of(output: Path, stage: str) -> list[dict]:
    """What a stage's workers have noted in all runs in a folder."""
    return [json.loads(line) for path in (output / "side" / stage).glob("notes-*.jsonl") for line in path.open()]


def places_of(output: Path, stage: str) -> dict[str, set]:
    """Processes, and nodes, actors and code of a Ray cluster, with which a stage has worked on records."""
    notes = [note for note in notes_of(output, stage) if note.get("n_ran")]
    return {name: {note.get(name) for note in notes} for name in ("pid", "node", "actor", "code")}


def measured(output: Path) -> Counter[str]:
    """How often the troublesome stage has worked on each record, all runs in a folder together."""
    return Counter(note["measured"] for note in notes_of(output, STAGE.name) if "measured" in note)


def make_videos(path: Path, n_videos: int, seed: int = 0) -> Path:
    """Captioned videos as JSON lines: gaps, brackets, repeats, overlaps and letters beyond ASCII among them."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(n_videos):
            file.write(json.dumps(make_video_row(rng, number), ensure_ascii=False) + "\n")
    return path


def make_video_row(rng: random.Random, number: int) -> dict:
    at_s, captions = rng.uniform(0, 5), []
    end_s = rng.uniform(40, 160)
    while at_s < end_s:
        n = rng.randint(1, 9)
        length_s = n / rng.uniform(1.5, 3.5)
        text = " ".join(rng.choice(["goal", "Müller", "the", "ball", "进球", "wins", "it", "back"]) for _ in range(n))
        text = rng.choice(["[Music]", "(applause) yes"]) if rng.random() < 0.1 else text
        overlap_s = rng.choice([0, 0, 0.4])
        captions.append([round(at_s, 3), round(at_s + length_s + overlap_s, 3), text])
        if rng.random() < 0.05:
            captions.append([captions[-1][1], captions[-1][1], text])
            at_s = captions[-1][1] - length_s
        at_s += length_s + (rng.uniform(3.5, 9) if rng.random() < 0.05 else 0)
    known = {"category": rng.choice(["Sports", "Film"]), "language": "en", "height": rng.choice([360, 720, 1080])}
    facts = {"duration_s": round(at_s, 2), "channel": f"channel {number % 7}", "title": f"Match “{number}”"}
    return {"id": f"v{number:03d}", "video": f"videos/v{number:03d}.mp4", **known, **facts, "captions": captions}


def write_config(folder: Path, videos: Path, options: dict | None = None, text: str = CONFIG) -> Path:
    """A config over these videos; options: of the troublesome stage."""
    path = folder / "config.yaml"
    path.write_text(text.format(videos=videos, options=json.dumps(options or {})))
    return path


def command(config: Path, output: Path, *more: str) -> list[str]:
    """The command of a run."""
    return [sys.executable, "-m", "data.production.run", str(config), "--output_dir", str(output), *more]


def run(words: list[str], status: int = 0) -> subprocess.CompletedProcess:
    """Run a command that must end with this status."""
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=240)
    assert done.returncode == status, (
        f"{words} ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    )
    return done


def contents(output: Path) -> dict[str, bytes]:
    """All files that runs must agree on: not times and hosts, nor the index, which holds a time of change."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file()
        and path.relative_to(output).parts[0] != "side"
        and path.name not in ("lock", "report.html")
        and path.suffix != ".index"
    }
