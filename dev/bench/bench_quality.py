"""How fast the optional quality stages and the caption reader are, and how often they are right.

    python -m dev.bench.bench_quality [--clips 20000] [--films 4]

CPU, about 3 minutes of one core; nothing is kept. Expected: exit status 0, precision and recall of motion and of clear
near duplicates from 0.95, memory of near_duplicates that grows by less than 200 bytes a clip. Rates are by CPU time of
one process, which other work on the machine does not lengthen much. Clips are 100 words of English sentences, mixed.
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np
import psutil

from data.production.language_detect import LanguageDetect
from data.production.motion_score import MotionScore
from data.production.near_duplicates import NearDuplicates, shingles
from data.production.personal_data import PersonalData
from data.production.profanity import Profanity
from data.production.record import Record
from data.production.stage import Stage, Worker
from data.production.word_times import WordTimes
from data.production.words.caption_files import parse_captions
from utils.arguments import parse_arguments
from utils.errors import run_command

GOAL, MEMORY_GOAL_BYTES = 0.95, 200
ENGLISH = " ".join(
    [
        "and he takes the shot from outside the box and it's in the back of the net the keeper had no chance",
        "so today I'm going to show you how to change the oil in your car first of all make sure the engine is warm",
        "Verstappen down the inside of Hamilton into turn one and Leclerc is right behind Sainz in fourth Perez fifth",
        "welcome back to the channel today we are looking at the new phone and honestly I'm pretty impressed with it",
        "okay so we're going to go ahead and click on settings then general and then about and there you can see it",
        "two outs in the bottom of the ninth the pitch is low and away and that brings the count to three and two",
    ]
).split()
OTHER = {
    "German": "und jetzt kommt die Flanke von der rechten Seite und da ist das Tor der Torwart hatte keine Chance",
    "Spanish": "hola amigos y ahora viene el centro desde la derecha y gol golazo de Messi que partido por favor",
    "French": "et le voilà qui part sur la droite il centre et c'est le but bonjour à tous on va faire un gâteau",
    "Dutch": "en daar komt de voorzet van rechts en het is een doelpunt de keeper had geen kans vandaag gaan we kijken",
}
CLEAN = """what a shot from the free throw line and he balls out; Dick Advocaat and Harry Kane; oh my god what a goal
the cock crows on the Tottenham badge; he was knocked on his butt; a stroke of genius on the golf course
the gay pride parade passes; that sucks for the team; damn he's fast; a sex offender was arrested; breast stroke final
hell of a save; he's got the nuts on the river; Arsenal against Scunthorpe; put the screw in the hole; a virgin mojito
he's an organ player; the pot is boiling; a drunk fan on the pitch; the trashy tackle; ugly foul; bloody brilliant
the weed grows; black belt hits the pad; the gun goes off and they are away""".replace("\n", ";").split(";")
FILMS = {
    "still": False,
    "slides": False,
    "noise": False,
    "clock": False,
    "camera": True,
    "person": True,
    "scroll": True,
}


@dataclass
class BenchArguments:
    """How much is measured."""

    clips: int = field(default=20_000, metadata={"help": "clips of the text stages"})
    films: int = field(default=4, metadata={"help": "made videos of each kind"})


def main(argv: list[str] | None = None) -> int:
    """Measure; 1 when a goal is missed."""
    (arguments,) = parse_arguments(BenchArguments, description=__doc__.splitlines()[0], argv=argv)
    clips = [make_clip(i) for i in range(arguments.clips)]
    print("| stage | clips a second and core |\n|---|---|")
    for stage in (LanguageDetect(), WordTimes(), Profanity(), PersonalData()):
        stage.setup(Worker())
        print(f"| {stage.name} | {rate(stage, clips):,.0f} |")
    missed = bench_duplicates(arguments.clips)
    bench_captions()
    bench_language()
    bench_profanity()
    return int(missed | bench_motion(arguments.films))


def make_clip(number: int) -> Record:
    """100 words at 2.5 a second, the same for the same number."""
    texts = random.Random(number).choices(ENGLISH, k=100)
    return Record(f"v#{number:07d}", words=[[i * 0.4, i * 0.4 + 0.3, text] for i, text in enumerate(texts)])


def rate(stage: Stage, clips: list[Record]) -> float:
    """Clips a second of CPU time."""
    started = time.process_time()
    for start in range(0, len(clips), stage.batch_size):
        stage.process(clips[start : start + stage.batch_size])
    return len(clips) / (time.process_time() - started)


def bench_duplicates(n_clips: int) -> bool:
    """Rate and memory of the pass over all clips, and what it finds of copies with some words changed."""
    originals = lambda: (make_clip(i) for i in range(n_clips))  # noqa: E731
    made_s, _ = cpu_time(lambda: sum(1 for _ in originals()))
    before = psutil.Process().memory_info().rss
    gathered_s, found = cpu_time(lambda: NearDuplicates().gather([originals()]))
    growth = (psutil.Process().memory_info().rss - before) / n_clips
    print(f"| near_duplicates, the pass over all | {n_clips / max(1e-9, gathered_s - made_s):,.0f} |")
    print(f"\nnear_duplicates: {growth:.0f} bytes of memory a clip at {n_clips:,} clips, {len(found)} found among them")
    rng, originals_, copies, exact = random.Random(0), [], [], []
    for i in range(600):
        original = make_clip(10**6 + i)
        copy = Record(f"copy#{i:04d}", words=[list(word) for word in original.words])
        for place in rng.sample(range(100), k=i % 30):
            copy.words[place][2] = rng.choice(ENGLISH)
        ours, theirs = shingles(original.text, 3), shingles(copy.text, 3)
        originals_.append(original)
        copies.append(copy)
        exact.append(len(ours & theirs) / len(ours | theirs))
    found = NearDuplicates().gather([originals_, copies])
    right = {copy.id for copy, similarity in zip(copies, exact, strict=True) if similarity >= 0.7}
    clear = {c.id for c, s in zip(copies, exact, strict=True) if abs(s - 0.7) > 0.1}
    report("copies with up to 29 of 100 words changed, at 0.7", set(found), right)
    missed = report("of them, those over 0.1 off the threshold", set(found) & clear, right & clear, GOAL)
    return missed or growth > MEMORY_GOAL_BYTES


def bench_captions() -> None:
    """Ten minutes of speech as YouTube writes it: three cues a line, words timed."""
    text, before, rng = "WEBVTT\n", " ", random.Random(0)
    for i in range(300):
        line, at = rng.choices(ENGLISH, k=6), 2000 * i
        timed = "".join(f"<{stamp(at + 300 * k)}><c> {word}</c>" for k, word in enumerate(line[1:], start=1))
        text += f"\n{stamp(at)} --> {stamp(at + 1990)}\n{before}\n{line[0]}{timed}\n"
        before = " ".join(line)
        text += f"\n{stamp(at + 1990)} --> {stamp(at + 2000)}\n{before}\n \n"
    data = text.encode()
    seconds, transcript = cpu_time(lambda: [parse_captions(data, ".vtt") for _ in range(20)].pop())
    size_mb = len(data) / 1e6
    print(f"\ncaptions: {20 / seconds:.0f} files a second and core, of 10 minutes, {size_mb:.2f} MB and "
          f"{len(transcript.words)} words each ({20 * size_mb / seconds:.1f} MB/s)")  # fmt: skip


def bench_language() -> None:
    """Share of clips of 60 words that pass at 0.9, by how many of the words are of another language."""
    stage, shares = LanguageDetect(), (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
    stage.setup(Worker())
    print("\n| clips of 60 words that pass, other words: | " + " | ".join(f"{share:.0%}" for share in shares) + " |")
    print("|---|" + "---|" * len(shares))
    for language, text in OTHER.items():
        passed = []
        for share in shares:
            clips = []
            for seed in range(50):
                rng, n_other = random.Random(seed), round(60 * share)
                # Sentences stay together: word salad is no language.
                start, at = rng.randrange(len(ENGLISH) - 60), rng.randrange(10)
                other = (text.split() * 5)[at : at + n_other]
                clips.append(" ".join(ENGLISH[start : start + 60 - n_other] + other))
            records = [Record("v", words=[[0, 0, word] for word in clip.split()]) for clip in clips]
            for (record,) in stage.process(records):
                stage.judge(record)
            passed.append(sum(record.rejection is None for record in records) / len(records))
        print(f"| {language} | " + " | ".join(f"{share:.0%}" for share in passed) + " |")


def bench_profanity() -> None:
    """Harmless sentences that are flagged, by ours and, where it is installed, by better-profanity."""
    stage = Profanity()
    stage.setup(Worker())
    clips = [Record("v", words=[[0, 0, word] for word in text.split()]) for text in CLEAN]
    ours = sum(bool(record.flags) for (record,) in stage.process(clips))
    print(f"\nprofanity: {ours} of {len(CLEAN)} harmless sentences are flagged")
    try:
        from better_profanity import profanity
    except ImportError:
        print("better-profanity is not installed (pip install better-profanity compares it)")
        return
    profanity.load_censor_words()
    text = make_clip(0).text
    seconds, _ = cpu_time(lambda: [profanity.contains_profanity(text) for _ in range(5)])
    theirs = sum(profanity.contains_profanity(text) for text in CLEAN)
    print(f"better-profanity: {theirs} of {len(CLEAN)}; {5 / seconds:.1f} clips a second and core")


def bench_motion(n_films: int) -> bool:
    """Precision and recall of "still" on made videos of 20 s, and the time of one clip of 1280 x 720."""
    stage, truth, found, seconds = MotionScore(), set(), set(), []
    print("\n| made videos of 20 s, 1280 x 720, 10 frames/s | motion: mean (least to most) |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kind, moves in FILMS.items():
            scores = []
            for seed in range(n_films):
                path = write_video(Path(folder) / f"{kind}{seed}.mp4", film(kind, seed))
                took_s, (record,) = cpu_time(lambda path=path: stage.expand(Record("v", video=str(path))))
                stage.judge(record)
                seconds.append(took_s)
                scores.append(record.scores["motion"])
                truth |= set() if moves else {path.name}
                found |= {path.name} if record.rejection else set()
            print(f"| {kind} | {np.mean(scores):.2f} ({min(scores):.2f} to {max(scores):.2f}) |")
    print(f"\nmotion_score: {np.median(seconds):.2f} s of CPU time a clip")
    return report("still pictures", found, truth, GOAL)


def film(kind: str, seed: int, n_frames: int = 200) -> Iterator[np.ndarray]:
    """Frames of 1280 x 720: what is filmed, or shown."""
    rng = np.random.default_rng(seed)
    slides = [cv2.resize(rng.integers(0, 255, (9, 16, 3)).astype(np.uint8), (1280, 720)) for _ in range(4)]
    grain = rng.normal(0, 4, (720, 1280, 3)).astype(np.int16)
    for i in range(n_frames):
        frame = slides[0].copy()
        if kind == "slides":  # five seconds each
            frame = slides[i * 4 // n_frames]
        elif kind == "noise":
            frame = np.clip(frame + np.roll(grain, (37 * i, 91 * i), (0, 1)), 0, 255).astype(np.uint8)
        elif kind == "clock":
            cv2.putText(frame, f"{i // 10:02d}", (1200, 700), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2)
        elif kind == "camera":
            frame = np.roll(frame, (2 * i, (3 + seed) * i), (0, 1))
        elif kind == "person":
            cv2.ellipse(frame, (640 + round(25 * np.sin(i / 4)), 360), (110, 150), 0, 0, 360, (150, 180, 220), -1)
        elif kind == "scroll":  # text rolls by, as credits do
            for k in range(-1, 14):
                text = f"line {(seed * 7 + k) * 7919 % 9973} of what is read"
                cv2.putText(
                    frame, text, (80, 60 * k + 50 - 3 * i % 60), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (255, 255, 255), 3
                )
        yield frame


def write_video(path: Path, frames: Iterator[np.ndarray]) -> Path:
    """As sites encode: lossy, a keyframe every 5 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "28", "g": "50", "preset": "ultrafast"})
        stream.height, stream.width = 720, 1280
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def report(what: str, found: set, right: set, goal: float = 0.0) -> bool:
    """Print precision and recall; whether one is under the goal."""
    precision, recall = len(found & right) / max(1, len(found)), len(found & right) / max(1, len(right))
    print(f"{what}: precision {precision:.3f}, recall {recall:.3f} ({len(right)} right, {len(found)} found)")
    return min(precision, recall) < goal


def cpu_time(work: Callable) -> tuple[float, object]:
    """Seconds of CPU time, and what the work returns."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def stamp(ms: int) -> str:
    """A time as WebVTT writes it."""
    return f"00:{ms // 60000:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


if __name__ == "__main__":
    run_command(main)
