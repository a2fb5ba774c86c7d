"""Inf-Streams-Eval (StreamingVLM, 2025): games of hours, commented from end to end, judged in windows of them.

A line of its windows' file is a window: {"video": ..., "title": ..., "content": [[start_s, end_s, "words"], ...]}. The
window runs from the whole second in which its first words start to that in which its last ones end. Published runs
start 1,000 s into each game; they go on to its end ("infinite"), or start anew every 100 s ("chunk").
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.samples.words import SILENCE
from evaluation.tasks.item import ClipPlan, Commentary, Item
from evaluation.tasks.lines import BenchmarkLine, LineArguments, VideoFolders, bad_lines_kept, read_benchmark
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.task import Task
from utils.arguments import helped
from utils.errors import UserError
from utils.files import write_whole

VIDEO_COMMAND = "hf download mit-han-lab/Inf-Stream-Eval --repo-type dataset --local-dir datasets/Inf-Stream-Eval"


@dataclass
class GameArguments(LineArguments):
    """The windows, their games, and how they are commented."""

    windows_path: str = field(
        metadata={
            "help": "the windows that are judged (temp_score_clips.jsonl; JSON lines: video, title, content)",
            "path": "file",
        }
    )
    video_dir: str | None = helped(None, "folder of the games; default: that of the windows' file", path="folder")
    start_s: float = helped(1000.0, "second of each game at which the commentary starts")
    chunk_s: float | None = helped(None, "start anew after so many seconds (published: 100); default: never", gt=0)
    max_new_tokens: int = helped(20, "most tokens a step", ge=1)
    repetition_penalty: float = helped(1.05, "divides the scores of tokens that are still in the context", gt=0)
    metadata_path: str | None = helped(
        None,
        "the games' own file (eval_all_metadata.jsonl): to where each is commented; default: to its last window",
        path="file",
    )

    def __post_init__(self) -> None:
        if self.start_s < 0 or (self.chunk_s is not None and not self.chunk_s >= 1):
            raise UserError(f"--start_s {self.start_s} --chunk_s {self.chunk_s}: at least 0, and at least 1 second")
        if self.max_new_tokens < 1 or not self.repetition_penalty > 0:
            raise UserError(
                f"--max_new_tokens {self.max_new_tokens} --repetition_penalty {self.repetition_penalty}: at least 1 "
                "token, and a penalty above 0 (1 changes nothing)"
            )

    @property
    def video_folder(self) -> Path:
        """Folder of the games."""
        return Path(self.video_dir) if self.video_dir else Path(self.windows_path).parent


@dataclass(frozen=True)
class GameWindow:
    """A stretch of a game with the human's words, numbered within its game from 1."""

    video: str
    number: int
    begin: int
    end: int
    title: str
    words: str

    @property
    def video_id(self) -> str:
        """The game's name in result files."""
        return Path(self.video).stem

    def event(self) -> dict:
        """The window as a row of LiveSports-3K-CC, which captioners and the judge read."""
        return {
            "video": self.video, "video_id": self.video_id, "event_id": self.number, "begin": self.begin,
            "end": self.end, "event_title": self.title, "preasr_text": "", "event_asr_text": self.words,
        }  # fmt: skip


def load_windows(path: str | Path, limit: int | None = None, skipped: list[str] | None = None) -> list[GameWindow]:
    """The windows of a file; `limit`: the first ones. skipped: gains what is wrong with lines that are left out.

    Raises UserError where a line is no window and nothing is skipped, and where none is left.
    """
    windows: list[GameWindow] = []
    numbers: dict[str, int] = {}
    for line in read_benchmark(path, limit, skipped):
        with bad_lines_kept(skipped):
            video = str(line["video"])
            numbers[video] = numbers.get(video, 0) + 1
            windows.append(_window(line, video, numbers[video]))
    if not windows:
        raise UserError(f"{path}: no windows in it; get the benchmark with: {VIDEO_COMMAND}")
    return windows


def _window(line: BenchmarkLine, video: str, number: int) -> GameWindow:
    content = line["content"]
    try:
        begin, end = int(content[0][0]), int(content[-1][1])
        words = " ".join(str(text).strip() for _, _, text in content)
    except (TypeError, ValueError, LookupError) as error:
        raise UserError(
            f"{line.where}: content must be a list of [start_s, end_s, words] that is not empty ({error})"
        ) from error
    if not begin < end:
        raise UserError(f"{line.where}: the window from {begin} s to {end} s is empty")
    return GameWindow(video, number, begin, end, str(line.get("title") or ""), words)


def load_task(arguments: GameArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """An item for every game, or for every chunk of it, up to its last window. Raises UserError."""
    query = templates.fill("infstreams")
    ask = Commentary(query, arguments.max_new_tokens, arguments.repetition_penalty)
    skipped = arguments.skipped()
    videos = VideoFolders([arguments.video_folder], nested=True)
    ends = last_seconds(arguments.metadata_path, skipped)
    items = []
    for video, windows in by_game(load_windows(arguments.windows_path, limit, skipped)).items():
        path, problem = videos.find(video, Path(video).name)
        for start_s, end_s in stretches(arguments, windows, ends.get(Path(video).stem, 0.0)):
            clip = None if path is None else ClipPlan(str(path), start_s, end_s, rule="stream")
            items.append(Item(f"{Path(video).stem}_{start_s:g}", Path(video).stem, ask, None, clip, problem=problem))
    if all(item.clip is None for item in items):
        raise UserError(f"{items[0].problem}; the benchmark comes with: {VIDEO_COMMAND}")
    protocol = "chunk" if arguments.chunk_s else "infinite"
    return Task("infstreams", protocol, items, None, templates.hashes, skipped=skipped)


def last_seconds(path: str | None, skipped: list[str] | None) -> dict[str, float]:
    """Game -> second at which its last words end, by the games' own file; nothing without one."""
    ends: dict[str, float] = {}
    for line in read_benchmark(path, None, skipped) if path else ():
        with bad_lines_kept(skipped):
            words = line["content"]
            try:
                end_s = max(float(end) for _, end, _ in words)
            except (TypeError, ValueError) as error:
                raise UserError(f"{line.where}: content must be a list of [start_s, end_s, words] ({error})") from error
            name = Path(str(line["video"])).stem
            ends[name] = max(end_s, ends.get(name, 0.0))
    return ends


def by_game(windows: Sequence[GameWindow]) -> dict[str, list[GameWindow]]:
    """Windows by video, in the order of the first ones. Raises UserError where two videos would share a name."""
    games: dict[str, list[GameWindow]] = {}
    for window in windows:
        games.setdefault(window.video, []).append(window)
    stems = [Path(video).stem for video in games]
    if len(set(stems)) < len(stems):
        raise UserError(f"two videos share a name: {', '.join(games)}; results are told apart by it, so rename one")
    return games


def stretches(
    arguments: GameArguments, windows: Sequence[GameWindow], least_end_s: float = 0.0
) -> list[tuple[float, float]]:
    """(start_s, end_s) of what is commented in one go, to the last window or beyond. Raises UserError where a window
    starts before it."""
    first, last = min(window.begin for window in windows), float(max(window.end for window in windows))
    last = max(last, least_end_s)
    if first < arguments.start_s:
        raise UserError(
            f"{windows[0].video}: a window starts at {first} s, before --start_s {arguments.start_s:g}; lower it"
        )
    step = arguments.chunk_s or last
    starts = []
    while arguments.start_s + len(starts) * step < last:
        starts.append(arguments.start_s + len(starts) * step)
    return [(start_s, min(start_s + step, last)) for start_s in starts]


def covers(item: Item, window: GameWindow) -> bool:
    """Whether a stretch of a game has a part of the window; one without a video stands for all of its game."""
    if item.video_id != window.video_id:
        return False
    return item.clip is None or (item.clip.start_s < window.end and window.begin < item.clip.end_s)


def cut(steps: Sequence[tuple[float, float, str]], window: GameWindow) -> str:
    """Speech inside a window: the steps that end in (begin, end], as the published scorer takes them."""
    inside = (text for _, end_s, text in steps if window.begin < int(end_s) <= window.end)
    return " ".join(said for text in inside if (said := text.removesuffix(SILENCE).strip()))


def write_events(windows: Sequence[GameWindow], path: Path) -> None:
    """Write windows as events of LiveSports-3K-CC."""
    write_whole(path, "".join(json.dumps(window.event(), ensure_ascii=False) + "\n" for window in windows))
