"""One page about a run: the funnel, why clips were rejected with examples that play, histograms, words, costs.

    python -m data.production.run CONFIG.yaml        # ends with it

It is one file that works offline.

Texts come from strangers: all of them are escaped, and the page's policy allows no script and no address. Examples play
by style alone: a box that is ticked starts the animation of frames and words.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from data.preview.page import POLICY
from data.preview.page import STYLE as SHARED_STYLE
from data.production.report.facts import PLAYED_S, Example, Facts, Measured, Spent, collect
from data.production.report.plot import histogram, number
from data.production.runner.config import RunConfig
from data.production.runner.progress import RunResult, StepCount
from data.production.runner.store import Tally
from utils.files import write_whole

STYLE = Path(__file__).with_name("page.css")
TOP_WORDS = 60
TOP_CATEGORIES = 30
SHOWN_CHARACTERS = 300
NOTE_CHARACTERS = 110


def write_report(result: RunResult, config: RunConfig) -> Path:
    """Write report.html into the run's folder; returns its path."""
    path = result.folder / "report.html"
    write_whole(path, page(collect(result, config)))
    return path


def page(facts: Facts) -> str:
    """The page."""
    style = "\n".join(path.read_text(encoding="utf-8") for path in (SHARED_STYLE, STYLE))
    name = Path(facts.run["config"]).stem
    parts = {
        "funnel": ("From input to output", _funnel(facts)),
        "rejections": ("Why records were rejected", _rejections(facts)),
        "clips": ("Clips", "".join(map(_card, facts.examples)) or "<p>none</p>"),
        "numbers": ("Distributions", _histograms(facts)),
        "categories": ("Categories", _categories(facts)),
        "words": ("Vocabulary", _vocabulary(facts)),
        "costs": ("Time and cost", _costs(facts)),
        "options": ("Options", _options(facts)),
    }
    links = "".join(f'<a href="#{key}">{title}</a>' for key, (title, _) in parts.items())
    body = "".join(f'<section id="{key}"><h2>{title}</h2>{inside}</section>' for key, (title, inside) in parts.items())
    html = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Production: {escape(name)}</title><style>{style}{_flicker(facts)}</style></head><body>
<header><h1>{escape(name)}</h1><p class="path">{escape(str(facts.result.folder))}</p>{_headline(facts)}
<nav>{links}</nav></header>
<main>{body}</main></body></html>
"""
    return html.encode("utf-8", "replace").decode()


def _headline(facts: Facts) -> str:
    counts = facts.result.progress.counts
    first, last = counts[0].kept, counts[-1].kept
    cells = [
        (f"{last.records:,}", "clips"), (_hours(last.seconds), "of video"), (f"{last.words:,}", "words"),
        (f"{first.records:,}", "records in"), (f"{facts.result.n_failed:,}", "failed"),
    ]  # fmt: skip
    files = "".join(f"<li>{escape(name)}: {n:,} lines</li>" for name, n in facts.result.files.items())
    run = f"commit {facts.run['commit']} \u00b7 Python {facts.run['python']} \u00b7 {facts.run['machine']}"
    shown = "".join(f"<div><b>{value}</b> {label}</div>" for value, label in cells)
    return f'<div class="stats">{shown}</div><ul class="files">{files}</ul><p class="notes">{escape(run)}</p>'


def _funnel(facts: Facts) -> str:
    rows, most = [], max((count.kept.seconds for count in facts.result.progress.counts), default=0) or 1
    for step, count in zip(facts.result.steps, facts.result.progress.counts, strict=True):
        share = 100 * count.kept.seconds / most
        n_dropped = sum(tally.records for tally in count.reasons.values())
        what = {"read": "input", "judge": "thresholds"}.get(step.part, "")
        rows.append([
            f'{escape(step.stage)} <small>{what}</small>',
            f"{count.n_in:,}", f"{count.kept.records:,}", f"{n_dropped:,}", f"{count.acceptance:.1%}",
            _hours(count.kept.seconds), f"{count.kept.words:,}",
            f'<span class="funnel"><span style="width:{share:.1f}%"></span></span>',
        ])  # fmt: skip
    names = ("stage", "in", "go on", "rejected", "accepted", "video", "words", "hours that go on")
    notes = (
        "<p class='notes'>A stage may make several records of one: clips of a video. Hours are those of the clips' "
        "windows, of whole videos before they are cut.</p>"
    )
    return notes + _grid(names, rows)


def _rejections(facts: Facts) -> str:
    parts = []
    for step, count in zip(facts.result.steps, facts.result.progress.counts, strict=True):
        ranked = sorted(count.reasons.items(), key=lambda item: -item[1].records)
        for reason, tally in ranked:
            parts.append(_reason(facts, step.stage, reason, tally, count))
    return "".join(parts) or "<p>nothing was rejected</p>"


def _reason(facts: Facts, stage: str, reason: str, tally: Tally, count: StepCount) -> str:
    n_out = count.kept.records + sum(t.records for t in count.reasons.values())
    share = tally.records / n_out if n_out else 0.0
    examples = facts.reasons.get((stage, reason), [])
    failed = any(example.record.rejection.failed for example in examples)
    mark = ' <span class="bad">failed</span>' if failed else ""
    head = (
        f"<b>{escape(reason.replace('_', ' '))}</b>{mark} <small>{escape(stage)}</small>"
        f'<span class="share"><span style="width:{100 * share:.1f}%"></span></span>'
        f"<span>{tally.records:,} records ({share:.1%}), {tally.words:,} words, {_hours(tally.seconds)}</span>"
    )
    cards = "".join(map(_card, examples)) or "<p>no example among the records looked at</p>"
    return f'<details class="reason"><summary>{head}</summary>{cards}</details>'


def _card(example: Example) -> str:
    """A clip that plays when its box is ticked."""
    record = example.record
    film = "".join(_frame(example, i) for i in range(len(example.frames)))
    words = "".join(_word(example, *word) for word in example.words)
    texts = words or escape(" / ".join(str(c[2]) for c in record.captions[:8])[:SHOWN_CHARACTERS])
    n_more = len(record.spoken) - len(example.words)
    more = f" <small>and {n_more:,} more words</small>" if words and n_more else ""
    why = record.rejection
    reason = f'<p class="bad">{escape(why.reason)}: {escape(why.detail[:SHOWN_CHARACTERS])}</p>' if why else ""
    query = f'<p class="query">{escape(record.query[:SHOWN_CHARACTERS])}</p>' if record.query else ""
    scores = ", ".join(f"{escape(name)} {number(value)}" for name, value in record.scores.items())
    window = f"{example.start_s:.1f} s, {record.seconds:.1f} s long"
    facts = " \u00b7 ".join(escape(text) for text in (record.title, record.category, window) if text)
    play = '<label class="play"><input type="checkbox"> play</label>' if film else ""
    left = (
        f'<div class="screen">{film}</div>{play}'
        if film
        else f'<p class="notes">{escape(example.note[:NOTE_CHARACTERS])}</p>'
    )
    preview = f"<code>{escape(example.preview)}</code>" if example.preview else ""
    return (
        f'<article class="card"><div class="left">{left}</div><div><h4>{escape(record.id)} <small>{facts}</small></h4>'
        f'{reason}{query}<p class="said">{texts}{more}</p><p class="notes">{scores}</p>{preview}</div></article>'
    )


def _length_s(example: Example) -> float:
    return len(example.frames) / 2 if example.frames else PLAYED_S


def _frame(example: Example, i: int) -> str:
    length_s = _length_s(example)
    style = f"animation-name:flick{len(example.frames)};animation-duration:{length_s}s"
    return f'<img src="{example.frames[i]}" alt="" style="{style};animation-delay:{i / 2 - length_s:.1f}s">'


def _word(example: Example, start_s: float, _end_s: float, text: str) -> str:
    at_s, length_s = start_s - example.start_s, _length_s(example)
    if at_s >= length_s:
        return f"<span>{escape(text)}</span> "
    style = f"animation-duration:{length_s}s;animation-delay:{at_s - length_s:.2f}s"
    return f'<span style="{style}" title="{start_s:.2f} s">{escape(text)}</span> '


def _flicker(facts: Facts) -> str:
    """An animation for each number of frames that an example has."""
    shown = [*facts.examples, *(example for examples in facts.reasons.values() for example in examples)]
    counts = {len(example.frames) for example in shown if example.frames}
    return "".join(
        f"@keyframes flick{n} {{ 0% {{ opacity: 1 }} {100 / n:.3f}% {{ opacity: 0 }} 100% {{ opacity: 0 }} }}\n"
        for n in sorted(counts)
    )


def _histograms(facts: Facts) -> str:
    clips = [one for one in facts.dropped if one.is_clip]
    plots = {
        "clip length": histogram([m.seconds for m in facts.kept], [m.seconds for m in clips], "s"),
        "words per second": histogram(_paces(facts.kept), _paces(clips), "/s"),
    }
    for name in sorted({name for one in (*facts.kept, *facts.dropped) for name in one.scores}):
        values = ([m.scores[name] for m in side if name in m.scores] for side in (facts.kept, facts.dropped))
        plots[name.replace("_", " ")] = histogram(*values, "")
    figures = "".join(
        f"<figure><figcaption>{escape(n)}</figcaption>{plot}</figure>" for n, plot in plots.items() if plot
    )
    note = "a sample of records, spread over the run" if facts.is_sample else "all records"
    legend = f'<p class="legend"><span class="key kept">kept</span><span class="key dropped">rejected</span>{note}</p>'
    return f'{legend}<div class="plots">{figures}</div>'


def _paces(measured: Iterable[Measured]) -> list[float]:
    return [one.n_words / one.seconds for one in measured if one.seconds and one.n_words]


def _categories(facts: Facts) -> str:
    first, last = facts.result.progress.counts[0].categories, facts.result.progress.counts[-1].categories
    ranked = sorted(first, key=lambda name: -last.get(name, Tally()).records)[:TOP_CATEGORIES]
    rows = [
        [
            escape(name or "none"), f"{first[name].records:,}", _hours(first[name].seconds),
            f"{last.get(name, Tally()).records:,}", _hours(last.get(name, Tally()).seconds),
            f"{last.get(name, Tally()).words:,}",
        ]
        for name in ranked
    ]  # fmt: skip
    return _grid(("category", "records in", "hours in", "clips", "hours", "words"), rows)


def _vocabulary(facts: Facts) -> str:
    counts = Counter({word: n for word, n in facts.vocabulary.items() if word})
    n_words = sum(counts.values())
    if not n_words:
        return "<p>no words</p>"
    once = sum(n == 1 for n in counts.values())
    most = counts.most_common(1)[0][1]
    words = " ".join(
        f'<span style="font-size:{0.75 + 1.1 * (n / most) ** 0.5:.2f}rem" title="{n:,}">{escape(word)}</span>'
        for word, n in counts.most_common(TOP_WORDS)
    )
    note = " in the records looked at" if facts.is_sample else ""
    said = f"{n_words:,} words{note}, {len(counts):,} different ones, {once:,} of them once."
    return f'<p>{said}</p><p class="cloud">{words}</p>'


def _costs(facts: Facts) -> str:
    rows = []
    for step in facts.result.steps:
        spent = facts.spent.get(step.name, Spent())
        own = facts.spent.get(step.stage, Spent()).sums if step.part != "judge" else {}
        sums = ", ".join(f"{escape(name)} {number(value)}" for name, value in sorted(own.items()))
        rate = f"{number(spent.rate)}/s" if spent.took_s else ""
        rows.append([escape(step.name), f"{spent.n_records:,}", _time(spent.took_s), rate, sums])
    note = "<p class='notes'>Of all workers together, all runs in this folder, kills and retries included.</p>"
    return note + _grid(("stage", "records worked on", "workers' time", "a worker", "noted by the stage"), rows)


def _options(facts: Facts) -> str:
    rows = []
    for entry in facts.run["options"]:
        for name, options in entry.items():
            said = "<br>".join(f"{escape(key)}: {escape(str(value))}" for key, value in options.items())
            rows.append([escape(name), said])
    return _grid(("stage", "options"), rows)


def _grid(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="grid"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 360 else f"{seconds:,.0f} s"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
