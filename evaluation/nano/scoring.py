"""Score a commentary against the events of its match.

An event is spoken when an event line is parsed from the commentary; its time is the end of the step that holds its
first word. The reference is the commentator's own line, timed the same way. Spoken and reference events of one kind and
team are matched one to one in time order when they are within 2 s; the rest are false positives and misses.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data.nano.commentator import SCORED_KINDS
from data.nano.parser import ParsedLine, parse_event_line
from data.nano.world import KINDS
from data.samples.words import FIRST_STEP_FRAMES, Word, step_slices, words_by_step
from data.video.frame_plan import FPS

TOLERANCE_S = 2.0
N_RESAMPLES = 2000
MISSED, EXTRA = "(missed)", "(extra)"


@dataclass(frozen=True)
class TimedLine:
    """An event line and the end of the step in which it begins, in seconds."""

    time_s: float
    said: ParsedLine
    text: str


@dataclass(frozen=True)
class ParsedCommentary:
    """One clip's lines: events that were understood, and the number of lines that were not."""

    events: list[TimedLine]
    n_unparsed: int
    n_words: int
    duration_s: float


def read_steps(steps: Sequence[tuple[float, str]], duration_s: float) -> ParsedCommentary:
    """Parse what was said at each step, (end of step in seconds, text), into event lines.

    A line ends with . ! or ?; it may run over several steps, and what is left at the end is a line too.
    """
    lines: list[tuple[float, list[str]]] = []
    is_open, n_words = False, 0
    for end_s, text in steps:
        for word in text.split():
            n_words += 1
            if not is_open:
                lines.append((end_s, []))
            lines[-1][1].append(word)
            is_open = not re.search(r"[.!?][\"')]*$", word)
    parsed = [(end_s, parse_event_line(" ".join(words)), " ".join(words)) for end_s, words in lines]
    events = [TimedLine(end_s, said, text) for end_s, said, text in parsed if said is not None]
    return ParsedCommentary(events, len(parsed) - len(events), n_words, duration_s)


def reference_steps(row: dict) -> list[tuple[float, str]]:
    """The commentator's own words of a row of events.jsonl, by step as the model is taught them."""
    n_frames = int(row["duration_s"] * FPS)
    words = [Word(*word) for line in row["lines"] for word in line["words"]]
    slices = step_slices(n_frames - n_frames % 2)
    texts, _ = words_by_step(words, [(cut.stop - 1) / FPS for cut in slices])
    return [(cut.stop / FPS, text.removesuffix(" ...")) for cut, text in zip(slices, texts, strict=True)]


def reference(row: dict) -> ParsedCommentary:
    """The true events of a row of events.jsonl, timed by the commentator's first words."""
    n_frames = int(row["duration_s"] * FPS)
    slices = step_slices(n_frames - n_frames % 2)
    ends = [(cut.stop - 1) / FPS for cut in slices]
    events = []
    for line in row["lines"]:
        first_end_s = line["words"][0][1]
        step = next((i for i, end_s in enumerate(ends) if first_end_s <= end_s), None)
        if step is not None:
            truth = ParsedLine(line["kind"], row["kits"][line["team"]], line["zone"], tuple(line["score"]))
            events.append(TimedLine(slices[step].stop / FPS, truth, line["text"]))
    return ParsedCommentary(events, 0, sum(len(line["words"]) for line in row["lines"]), row["duration_s"])


Key = Callable[[ParsedLine], object]


def kind_and_team(said: ParsedLine) -> object:
    return said.kind, said.team


def kind_only(said: ParsedLine) -> object:
    return said.kind


def match(spoken: Sequence[TimedLine], true: Sequence[TimedLine], key: Key) -> list[tuple[int, int]]:
    """Pairs (spoken, true) of equal key within TOLERANCE_S: one to one, in time order, as many as possible."""
    pairs = []
    for value in {key(event.said) for event in true}:
        ours = [i for i, event in enumerate(spoken) if key(event.said) == value]
        theirs = [i for i, event in enumerate(true) if key(event.said) == value]
        while ours and theirs:
            late = spoken[ours[0]].time_s - true[theirs[0]].time_s
            if abs(late) <= TOLERANCE_S:
                pairs.append((ours.pop(0), theirs.pop(0)))
            else:
                (ours if late < 0 else theirs).pop(0)
    return sorted(pairs)


def f1_of_counts(n_matched: float, n_spoken: float, n_true: float) -> float:
    """Harmonic mean of precision and recall; 0 where nothing was said and nothing happened."""
    return 2 * n_matched / (n_spoken + n_true) if n_spoken + n_true else 0.0


def score_commentaries(spoken: Sequence[ParsedCommentary], true: Sequence[ParsedCommentary]) -> dict:
    """Metrics over clips: event_f1, F1 per kind and their mean, team accuracy, timing error, word rate, confusion."""
    matched, said, happened = Counter(), Counter(), Counter()
    lateness: list[float] = []
    n_team_right = n_kind_right = 0
    confusion: Counter = Counter()
    for ours, theirs in zip(spoken, true, strict=True):
        pairs = match(ours.events, theirs.events, kind_and_team)
        lateness += [ours.events[i].time_s - theirs.events[j].time_s for i, j in pairs]
        matched.update(theirs.events[j].said.kind for _, j in pairs)
        said.update(event.said.kind for event in ours.events)
        happened.update(event.said.kind for event in theirs.events)
        n_team_right += len(pairs)
        n_kind_right += len(pairs) + _other_team(ours, theirs, pairs)
        confusion.update(_confusions(ours, theirs, pairs))
    per_kind = {kind: f1_of_counts(matched[kind], said[kind], happened[kind]) for kind in KINDS if happened[kind]}
    seconds = sum(clip.duration_s for clip in spoken)
    return {
        "n_clips": len(spoken),
        "n_events": happened.total(),
        "event_f1": f1_of_counts(matched.total(), said.total(), happened.total()),
        "precision": matched.total() / max(said.total(), 1),
        "recall": matched.total() / max(happened.total(), 1),
        "f1_per_kind": per_kind,
        "f1_mean_over_kinds": float(np.mean(list(per_kind.values()))) if per_kind else 0.0,
        "share_per_kind": {kind: happened[kind] / max(happened.total(), 1) for kind in KINDS},
        "team_accuracy": n_team_right / max(n_kind_right, 1),
        "timing_error_s": float(np.mean(np.abs(lateness))) if lateness else None,
        "timing_bias_s": float(np.mean(lateness)) if lateness else None,
        "words_per_second": sum(clip.n_words for clip in spoken) / max(seconds, 1e-9),
        "n_unparsed_lines": sum(clip.n_unparsed for clip in spoken),
        "confusion": _table(confusion),
    }


def _left_over(ours: ParsedCommentary, theirs: ParsedCommentary, pairs) -> tuple[list[TimedLine], list[TimedLine]]:
    used, met = {i for i, _ in pairs}, {j for _, j in pairs}
    spare = [event for i, event in enumerate(ours.events) if i not in used]
    missed = [event for j, event in enumerate(theirs.events) if j not in met]
    return spare, missed


def _other_team(ours: ParsedCommentary, theirs: ParsedCommentary, pairs) -> int:
    """Events whose kind and time are right and whose team is wrong."""
    return len(match(*_left_over(ours, theirs, pairs), kind_only))


def _confusions(ours: ParsedCommentary, theirs: ParsedCommentary, pairs) -> list[tuple[str, str]]:
    """(true kind, spoken kind) of every event; an unmatched one goes with the nearest unmatched line within 2 s."""
    table = [(theirs.events[j].said.kind, theirs.events[j].said.kind) for _, j in pairs]
    spare, missed = _left_over(ours, theirs, pairs)
    for event in missed:
        near = [line for line in spare if abs(line.time_s - event.time_s) <= TOLERANCE_S]
        same = [line for line in near if line.said.kind == event.said.kind]
        best = min(same or near, key=lambda line: abs(line.time_s - event.time_s), default=None)
        said = MISSED if best is None else best.said.kind + (" (other team)" if same else "")
        table.append((event.said.kind, said))
        if best is not None:
            spare.remove(best)
    return table + [(EXTRA, line.said.kind) for line in spare]


def _table(confusion: Counter) -> dict[str, dict[str, int]]:
    rows: dict[str, dict[str, int]] = {}
    for (true_kind, said), n in sorted(confusion.items()):
        rows.setdefault(true_kind, {})[said] = n
    return rows


def word_counts(ours: ParsedCommentary, theirs: ParsedCommentary, what: str) -> np.ndarray:
    """[right, spoken, true] zone or score words ("zone" | "score") on events matched by kind and time."""
    counts = np.zeros(3)
    for i, j in match(ours.events, theirs.events, kind_only):
        event = theirs.events[j].said
        true = getattr(event, what)
        if true is None or (what == "score" and event.kind not in SCORED_KINDS):
            continue  # nothing of the sort is said of this kind of event
        word = getattr(ours.events[i].said, what)
        counts += [word == true, word is not None, 1]
    return counts


def grounding(spoken: Sequence[ParsedCommentary], true: Sequence[ParsedCommentary], what: str, seed: int = 0) -> dict:
    """F1 of zone or score words on matched events, minus the same when clips' commentaries are shuffled.

    The 95 % interval of the difference is a bootstrap over clips. Shuffled means that each clip gets the commentary of
    another one; all cyclic shifts by 1 to 8 clips are pooled, because few of its events match.
    """
    n = len(spoken)
    shifts = [shift for shift in range(1, 9) if shift % n]
    own = np.array([word_counts(spoken[i], true[i], what) for i in range(n)])
    other = np.array(
        [sum((word_counts(spoken[(i + s) % n], true[i], what) for s in shifts), np.zeros(3)) for i in range(n)]
    )
    rng = np.random.default_rng(seed)
    draws = rng.integers(n, size=(N_RESAMPLES, n))
    gains = [f1_of_counts(*own[draw].sum(0)) - f1_of_counts(*other[draw].sum(0)) for draw in draws]
    low, high = np.percentile(gains, [2.5, 97.5])
    ours, shuffled = f1_of_counts(*own.sum(0)), f1_of_counts(*other.sum(0))
    return {
        "f1": ours,
        "accuracy": float(own[:, 0].sum() / max(own[:, 1].sum(), 1)),
        "f1_shuffled": shuffled,
        "gain": ours - shuffled,
        "gain_95": [float(low), float(high)],
        "n_words": int(own[:, 1].sum()),
    }


def shuffled_f1(spoken: Sequence[ParsedCommentary], true: Sequence[ParsedCommentary]) -> float:
    """event_f1 of every clip against the commentary of the next one."""
    return score_commentaries([*spoken[1:], *spoken[:1]], true)["event_f1"]


def majority(true: Sequence[ParsedCommentary], line: str, every_s: float = 2.3) -> list[ParsedCommentary]:
    """The commentary that always says one line, as often as events happen: a control."""
    first_s = FIRST_STEP_FRAMES / FPS
    clips = []
    for clip in true:
        times = np.ceil(np.arange(first_s, clip.duration_s, every_s))
        clips.append(read_steps([(float(t), line) for t in times], clip.duration_s))
    return clips
