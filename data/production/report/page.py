"""One page about a run: the funnel, why clips were rejected with examples that play, histograms, words, costs.

    python -m data.production.run CONFIG.yaml        # ends with it

It is one file that works offline.

Texts come from strangers: the template escapes all of them, and the page's policy allows no script and no address.
Examples play by style alone: a box that is ticked starts the animation of frames and words.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.preview.page import POLICY
from data.preview.page import STYLE as SHARED_STYLE
from data.production.report.facts import Facts, Measured, ShownExample, Spent, collect
from data.production.report.histogram import Histogram, histogram
from data.production.runner.config import RunConfig
from data.production.runner.counts import Tally
from data.production.runner.progress import RunResult
from utils.files import write_whole
from utils.pages import page_template

STYLE, TEMPLATE = Path(__file__).with_name("page.css"), Path(__file__).with_name("page.html")
TOP_WORDS = 60
TOP_CATEGORIES = 30
SHOWN_CHARACTERS = 300
NOTE_CHARACTERS = 110


@dataclass
class Reason:
    """Why records of a stage were rejected. share: of all records that came out of the stage."""

    name: str
    stage: str
    tally: Tally
    share: float
    examples: Sequence[ShownExample]

    @property
    def failed(self) -> bool:
        """Whether a stage could not work on them."""
        return any(example.record.rejection.failed for example in self.examples)


def write_run_page(result: RunResult, config: RunConfig) -> Path:
    """Write report.html into the run's folder; returns its path."""
    path = result.folder / "report.html"
    write_whole(path, run_page(collect(result, config)))
    return path


def run_page(facts: Facts) -> str:
    """The page, as HTML."""
    shown = [*facts.examples, *(example for examples in facts.reasons.values() for example in examples)]
    html = page_template(TEMPLATE, number=number, duration=duration).render(
        facts=facts,
        name=Path(facts.run["config"]).stem,
        policy=POLICY,
        style="\n".join(path.read_text(encoding="utf-8") for path in (SHARED_STYLE, STYLE)),
        frame_counts=sorted({len(example.frames) for example in shown if example.frames}),
        steps=list(zip(facts.result.steps, facts.result.progress.counts, strict=True)),
        reasons=list(_reasons(facts)),
        plots=_plots(facts),
        by_category=_categories(facts),
        top_words=facts.vocabulary.most_common(TOP_WORDS),
        spent_by_step=list(_spent(facts)),
        shown_characters=SHOWN_CHARACTERS,
        note_characters=NOTE_CHARACTERS,
    )
    return html.encode("utf-8", "replace").decode()


def _reasons(facts: Facts) -> Iterator[Reason]:
    """By stage, the most frequent first."""
    for step, count in zip(facts.result.steps, facts.result.progress.counts, strict=True):
        n_out = count.kept.records + count.n_dropped
        for name, tally in sorted(count.reasons.items(), key=lambda item: -item[1].records):
            examples = facts.reasons.get((step.stage, name), [])
            yield Reason(name, step.stage, tally, tally.records / n_out if n_out else 0.0, examples)


def _plots(facts: Facts) -> dict[str, Histogram | None]:
    clips = [one for one in facts.dropped if one.is_clip]
    plots = {
        "clip length": histogram([m.seconds for m in facts.kept], [m.seconds for m in clips], "s"),
        "words per second": histogram(_paces(facts.kept), _paces(clips), "/s"),
    }
    for name in sorted({name for one in (*facts.kept, *facts.dropped) for name in one.scores}):
        values = ([m.scores[name] for m in side if name in m.scores] for side in (facts.kept, facts.dropped))
        plots[name.replace("_", " ")] = histogram(*values)
    return plots


def _paces(measured: Iterable[Measured]) -> list[float]:
    return [one.n_words / one.seconds for one in measured if one.seconds and one.n_words]


def _categories(facts: Facts) -> list[tuple[str, Tally, Tally]]:
    """(category, records in, clips), those with the most clips first."""
    first, last = facts.result.progress.counts[0].categories, facts.result.progress.counts[-1].categories
    rows = [(name, tally, last.get(name, Tally())) for name, tally in first.items()]
    return sorted(rows, key=lambda row: -row[2].records)[:TOP_CATEGORIES]


def _spent(facts: Facts) -> Iterator[tuple[str, Spent, dict[str, float]]]:
    """(step, its work, what its stage noted); a stage's notes stand beside its first step."""
    for step in facts.result.steps:
        own = facts.spent.get(step.stage, Spent()).sums if step.part != "judge" else {}
        yield step.name, facts.spent.get(step.name, Spent()), own


def number(value: float) -> str:
    """A number for people."""
    if value and abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours for people."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
