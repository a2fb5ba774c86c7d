"""What the page about a run shows, read from what the run has left.

Counts and hours are exact, from the markers of all shards. Histograms, vocabulary and examples come from shards spread
over the run, up to SAMPLE records, so that the page of a run of 5 million clips takes no longer than a small one's.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from data.production.record import Record, Rejection, Timed, from_line, read_record_lines
from data.production.runner.config import RunConfig
from data.production.runner.progress import RunResult
from data.samples.annotations import AnnotationError, AnnotationFile
from data.video.clip import VideoError, read_clip
from data.video.frame_plan import SIZE_FACTOR, VideoLimits

SAMPLE = 20_000  # records that histograms are made from
EXAMPLES = 8  # clips shown
REASON_EXAMPLES = 2  # shown for each reason
PLAYED_S = 12.0  # of an example
LIMITS = VideoLimits(36 * SIZE_FACTOR**2, 24 * 100 * SIZE_FACTOR**2, max_frames=24)


@dataclass
class Spent:
    """What a stage has cost so far, all its runs together, retries and kills included."""

    took_s: float = 0.0
    n_records: int = 0
    sums: Counter = field(default_factory=Counter)  # of what it noted itself: dollars, tokens

    @property
    def rate(self) -> float:
        """Records a second and worker."""
        return self.n_records / self.took_s if self.took_s else 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What histograms need of a record; its words would take a thousand times the memory."""

    seconds: float
    n_words: int
    is_clip: bool
    scores: dict[str, float]


@dataclass
class ShownExample:
    """A clip to look at. frames: as data addresses, 2 a second from start_s on."""

    record: Record
    frames: list[str]
    note: str = ""
    preview: str = ""  # the command that shows it in full

    @property
    def start_s(self) -> float:
        """Where it begins to play."""
        words = self.record.spoken
        return self.record.start_s if self.record.start_s is not None else words[0][0] if words else 0.0

    @property
    def length_s(self) -> float:
        """Of the part that plays."""
        return len(self.frames) / 2 if self.frames else PLAYED_S

    @property
    def words(self) -> list[Timed]:
        """Words that are shown: those in the part that can play."""
        return [word for word in self.record.spoken if word[0] < self.start_s + PLAYED_S]

    @property
    def n_more(self) -> int:
        """How many words are not shown."""
        return len(self.record.spoken) - len(self.words)

    @property
    def facts(self) -> list[str]:
        """Title, category and window, where they are known."""
        window = f"{self.start_s:.1f} s, {self.record.seconds:.1f} s long"
        return [text for text in (self.record.title, self.record.category, window) if text]


@dataclass
class Facts:
    """What the page shows."""

    result: RunResult
    run: dict
    spent: dict[str, Spent]
    kept: list[Measured]
    dropped: list[Measured]
    vocabulary: Counter  # of what was kept
    reasons: dict[tuple[str, str], list[ShownExample]]
    examples: list[ShownExample]
    is_sample: bool


def collect(result: RunResult, config: RunConfig) -> Facts:
    """Read what the page needs."""
    kept, dropped, vocabulary = [], [], Counter()
    for record in sample(result.kept, SAMPLE):
        kept.append(measured(record))
        words = (word[2].strip(".,!?\"'").lower() for word in record.spoken)
        vocabulary.update(word for word in words if word)
    reasons: dict[tuple[str, str], list[ShownExample]] = {}
    for number, paths in result.dropped.items():
        for record in sample(paths, SAMPLE):
            dropped.append(measured(record))
            shown = reasons.setdefault((result.steps[number].stage, record.rejection.reason), [])
            if len(shown) < REASON_EXAMPLES and (record.words or record.captions or record.video):
                shown.append(make_example(record))
    counts = result.progress.counts
    run = json.loads((result.folder / "side" / "run.json").read_text(encoding="utf-8"))
    return Facts(
        result,
        run,
        read_costs(result.folder / "side"),
        kept,
        dropped,
        vocabulary,
        reasons,
        examples_of(result, config),
        len(kept) < counts[-1].kept.records or len(dropped) < sum(count.n_dropped for count in counts),
    )


def measured(record: Record) -> Measured:
    """What histograms need."""
    return Measured(record.seconds, len(record.spoken), record.start_s is not None, record.scores)


def sample(paths: Sequence[Path], n: int) -> Iterator[Record]:
    """Up to n records from files spread evenly over these."""
    lines = (line for path in _spread(paths) for line in read_record_lines(path))
    return map(from_line, islice(lines, n))


def _spread(paths: Sequence[Path]) -> list[Path]:
    """The same paths, each beginning of the list spread over all of them: every 64th, every 32nd ..."""
    order: dict[Path, None] = {}
    for step in (64, 32, 16, 8, 4, 2, 1):
        order.update(dict.fromkeys(paths[::step]))
    return list(order)


def read_costs(side: Path) -> dict[str, Spent]:
    """By step, what workers noted."""
    spent: dict[str, Spent] = {}
    for path in sorted(side.glob("*/notes-*.jsonl")):
        for note in _notes(path):
            name = note.get("step") or path.parent.name
            found = spent.setdefault(name, Spent())
            found.took_s += note.get("took_s", 0.0)
            found.n_records += note.get("n_ran", 0)
            own = {k: v for k, v in note.items() if k not in ("at", "pid", "shard", "n_in", "n_ran", "took_s")}
            found.sums.update({k: v for k, v in own.items() if isinstance(v, int | float) and not isinstance(v, bool)})
    return spent


def _notes(path: Path) -> Iterator[dict]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                note = json.loads(line)
            except ValueError:  # cut short by a kill
                continue
            if isinstance(note, dict):
                yield note


def examples_of(result: RunResult, config: RunConfig) -> list[ShownExample]:
    """Clips of the training file, spread over it; of the records where there is none."""
    name = config.output.name + ("_with_seeks.jsonl" if config.output.seeks else ".jsonl")
    path = result.folder / name
    if name not in result.files:
        return [make_example(record) for record in sample(result.kept, EXAMPLES)]
    file = AnnotationFile(path)
    shown = []
    for i in sorted({k * len(file) // EXAMPLES for k in range(EXAMPLES)}):
        try:
            sample_ = file[i]
        except AnnotationError as error:
            broken = Record(f"line {file.line_no(i)}", rejection=Rejection("annotations", error.cause, str(error)))
            shown.append(ShownExample(broken, [], str(error)))
            continue
        if not sample_.is_stream:
            continue
        query, video = sample_.query, sample_.video
        record = Record(
            f"sample {i}",
            video=video.video,
            title=query.title,
            category=query.category,
            query=query.text,
            previous=query.previous,
            words=[list(word) for word in sample_.words.words],
            start_s=video.video_start,
            end_s=video.video_end,
        )
        example = make_example(record)
        example.preview = f"python -m data.preview '{path}' --processor CHECKPOINT --index {i} --html preview.html"
        shown.append(example)
    return shown


def make_example(record: Record) -> ShownExample:
    """A record with its frames, or with the reason why there are none."""
    from data.preview.page import thumbnail

    example = ShownExample(record, [])
    if not record.video:
        example.note = "no video"
    elif not Path(record.video).is_file():
        example.note = f"no frames: {record.video} is not here"
    else:
        try:
            clip = read_clip(record.video, example.start_s, example.start_s + PLAYED_S, limits=LIMITS)
        except (VideoError, OSError, ValueError) as error:
            example.note = f"no frames: {error}"
        else:
            example.frames = [thumbnail(frame) for frame in clip.frames[: len(clip.frames) - clip.plan.n_padded]]
    return example
